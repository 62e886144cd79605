"""Delays repeated refusals of sockets, and logs one line a minute about them.

A refused socket opens before it is closed. A client that resets its back-off when a socket opens reconnects
each second for ever. So the opening is delayed, and the refusals are logged together.
"""

from collections.abc import Awaitable, Callable
from math import inf
from typing import Any

import structlog
import trio
from attrs import define

from adapters.runtime.throttles import Throttles
from messaging_core.addresses import network_of
from messaging_core.errors import TooManyRequests
from messaging_core.limits import Rate
from messaging_core.profiles import Close

log = structlog.get_logger(__name__)

TOKENS = 10_000
"""Tokens, or networks of clients without a token, whose refusals are counted; a few hundred bytes each."""
REPEATING = 1_000
"""Those of them whose repeated refusals are logged."""
WAITING = 500
"""Handshakes that are delayed at a time, some 30 KiB each; others are refused at once."""
LONGEST = 0.8
"""The longest delay, as a fraction of the time within which a handshake must have its response."""
LOG_EVERY = 60.0
"""Seconds between two lines about one token."""
CHECK_EVERY = 5.0
"""Seconds between two looks for refusals that no later one has logged."""


@define
class _Repeated:
    """The refusals of one token since a line was logged."""

    logged_at: float
    client: str
    """The address of the last one."""
    refusal: Close
    times: int = 0

    def log(self, now: float) -> None:
        log.warning(
            "Sockets are refused again and again",
            client=self.client,
            reason=self.refusal.reason,
            code=self.refusal.code,
            times=self.times,
        )
        self.logged_at, self.times = now, 0


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
            repeated = _Repeated(now - LOG_EVERY, client, refusal)
            if len(self._repeated) >= REPEATING:
                del self._repeated[next(iter(self._repeated))]  # the least recently refused
        self._repeated[key] = repeated
        repeated.client, repeated.refusal = client, refusal
        repeated.times += 1
        if now - repeated.logged_at >= LOG_EVERY:
            repeated.log(now)

    async def keep_logging(self) -> None:
        """Log, until cancelled, the refusals that no later one has logged, when their minute is over."""
        try:
            while True:
                await trio.sleep(CHECK_EVERY)
                self._log_rest(self._clock() - LOG_EVERY)
        finally:
            self._log_rest(inf)

    def _log_rest(self, until: float) -> None:
        """Log the refusals of the tokens whose last line is so old; forget tokens without any."""
        for key, repeated in list(self._repeated.items()):
            if repeated.logged_at <= until:
                if repeated.times:
                    repeated.log(self._clock())
                else:
                    del self._repeated[key]
