"""Whether a process receives every signal, and when it may have missed one.

Every publisher numbers the envelopes that it sends to everybody, and sends a heartbeat when it has nothing
else to send. So a process knows that it may have missed a signal

- when a number is left out: a signal was lost, or its publisher had to drop it and skipped its number;
- when a publisher falls silent without a last envelope: it may have been killed between a commit and its
  signal;
- when it first hears a publisher that has been sending for a while;
- when its own heartbeats stop coming back: it is deaf, whatever its connection says.

A process that is deaf, or has a silent publisher, must not rely on having heard that a session ended.
"""

from math import inf

from attrs import define

from messaging_core.signals import Envelope

BEAT_SECONDS = 0.25
"""How often a publisher that has nothing else to send sends a heartbeat."""

SILENCE_SECONDS = 0.75
"""How old the last sign of life may be: two lost heartbeats. Added to the time that a look at the storage
takes it is the time for which a lost signal lets an ended session's token pass; that may be a second."""

REBUILD_SECONDS = 2.0
"""How long a process is deaf before its subscription is built anew; longer than a broker's short pause."""


@define
class _Publisher:
    number: int
    heard_at: float


class Liveness:
    """What one process, named `own`, has heard; `now` is in seconds of a clock that never goes back."""

    def __init__(self, own: str, *, now: float) -> None:
        self._own = own
        self._others: dict[str, _Publisher] = {}
        self._own_number = 0
        self._own_sent_at = -inf
        self._built_at = now
        self._trusted_until = -inf

    def heard(self, envelope: Envelope, *, now: float) -> str | None:
        """Note an envelope; the reason why something may have been missed, or None.

        An envelope to some processes only says neither how far its publisher has come nor that all is heard.
        """
        number = envelope.number
        if number is None:
            return None
        if envelope.publisher == self._own:
            why = self._own_came_back(number, envelope.sent_at, now)
        else:
            why = self._other_heard(envelope.publisher, number, now)
            if envelope.is_last:
                del self._others[envelope.publisher]
        last = min((other.heard_at for other in self._others.values()), default=inf)
        self._trusted_until = min(self._own_sent_at, last) + SILENCE_SECONDS
        return why

    def silent(self, *, now: float) -> tuple[str, ...]:
        """The other publishers that have fallen silent; each is returned once and then forgotten.

        None while the process itself is deaf, for then it hears nobody.
        """
        if not self.is_alive(now=now):
            return ()
        silent = tuple(n for n, other in self._others.items() if now >= other.heard_at + SILENCE_SECONDS)
        for name in silent:
            del self._others[name]
        return silent

    def is_alive(self, *, now: float) -> bool:
        """Whether the process's own heartbeats come back, and come back quickly."""
        return now < self._own_sent_at + SILENCE_SECONDS

    def is_trusted(self, *, now: float) -> bool:
        """Whether no publisher is overdue, this process included: what was not heard was not sent."""
        return now < self._trusted_until

    def is_deaf(self, *, now: float) -> bool:
        """Whether it is time to build the subscription anew; True once in `REBUILD_SECONDS`."""
        if now < max(self._own_sent_at, self._built_at) + REBUILD_SECONDS:
            return False
        self._built_at = now
        return True

    @property
    def others(self) -> int:
        """How many other processes are heard."""
        return len(self._others)

    def _own_came_back(self, number: int, sent_at: float, now: float) -> str | None:
        if not self.is_alive(now=now):
            # Nobody could be heard; a signal that was lost meanwhile shows by a number, theirs or this one.
            for other in self._others.values():
                other.heard_at = now
        gap = self._own_number and number > self._own_number + 1
        self._own_number = max(self._own_number, number)
        self._own_sent_at = max(self._own_sent_at, sent_at)
        return "own heartbeats were lost" if gap else None

    def _other_heard(self, name: str, number: int, now: float) -> str | None:
        other = self._others.get(name)
        if other is None:
            self._others[name] = _Publisher(number, now)
            return "a process was heard for the first time" if number > 1 else None
        other.heard_at = now
        gap = number > other.number + 1
        other.number = max(other.number, number)
        return "signals were lost" if gap else None
