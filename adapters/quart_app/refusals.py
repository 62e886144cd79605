"""Delays repeated refusals of sockets, and logs one line a minute about them.

A refused socket opens before it is closed. A client that resets its back-off when a socket opens reconnects
each second for ever. So the opening is delayed, and the refusals are logged together.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import structlog
import trio
from attrs import define

from adapters.runtime.hub import Close
from adapters.runtime.throttles import Throttles
from messaging_core.addresses import network_of
from messaging_core.errors import TooManyRequests
from messaging_core.limits import Rate

log = structlog.get_logger(__name__)

TOKENS = 10_000
"""Tokens, or networks of clients without a token, whose refusals are counted; a few hundred bytes each."""
REPEATING = 1_000
"""Those of them whose repeated refusals are logged."""
WAITING = 500
"""Handshakes that are delayed at a time, some 30 KiB each; others are refused at once."""
LONGEST = 0.8
"""The longest delay, as a fraction of the time within which a handshake must be answered."""
LOG_EVERY = 60.0
"""Seconds between two lines about one token."""


@define
class _Repeated:
    """The refusals of one token since a line was logged."""

    logged_at: float
    times: int = 0


class RepeatedRefusals:
    """Delays the refusals of a token beyond `rate`, and logs them together.

    A delay is shorter than `handshake_time`, in seconds.
    """

    def __init__(self, rate: Rate, clock: Callable[[], float], *, handshake_time: float) -> None:
        self._rate = rate
        self._clock = clock
        self._longest = LONGEST * handshake_time
        self._throttles = Throttles(clock, buckets=TOKENS)
        self._repeated: dict[int, _Repeated] = {}
        self._waiting = 0

    async def delay(
        self, token: str, client: str, refusal: Close, disconnected: Callable[[], Awaitable[Any]]
    ) -> bool:
        """Delay a refusal beyond the rate, or until the peer disconnects; whether it is beyond the rate.

        Such a refusal is logged here, together with others of the same token, and must not be logged again.
        With an empty `token`, the refusals of the `client`'s network are counted together.
        """
        key = hash((token, refusal.reason) if token else (network_of(client), refusal.reason, ""))
        permit = ("refused_socket_rate", key, self._rate, 1)
        try:
            self._throttles.take(permit)
        except TooManyRequests as error:
            self._throttles.charge(permit)  # otherwise a delayed client would soon be refused at once again
            self._note(key, client, refusal)
            if self._waiting < WAITING:
                self._waiting += 1
                try:
                    with trio.move_on_after(min(error.retry_after, self._longest)):
                        await disconnected()
                finally:
                    self._waiting -= 1
            return True
        return False

    def _note(self, key: int, client: str, refusal: Close) -> None:
        now = self._clock()
        repeated = self._repeated.pop(key, None)
        if repeated is None:
            repeated = _Repeated(now - LOG_EVERY)
            if len(self._repeated) >= REPEATING:
                del self._repeated[next(iter(self._repeated))]  # the least recently refused
        self._repeated[key] = repeated
        repeated.times += 1
        if now - repeated.logged_at >= LOG_EVERY:
            log.warning(
                "Sockets are refused again and again",
                client=client,
                reason=refusal.reason,
                code=refusal.code,
                times=repeated.times,
            )
            repeated.logged_at, repeated.times = now, 0
