"""The signals of one process that wait to be sent: numbered, packed, and bounded."""

from collections.abc import Callable, Sequence
from uuid import uuid4

import structlog

from adapters.signals.wire import HEAD_BYTES, pack, write_envelope, write_signal
from messaging_core.effects import DeliveryEffect

log = structlog.get_logger(__name__)

MAX_WAITING = 10_000
"""Signals that wait at most; what is dropped beyond that, other processes read from the log."""


class Outgoing:
    """The waiting signals, in order; where one finds no room, it is dropped and a number is skipped.

    `clock` is in seconds and never goes back; no envelope is larger than `max_bytes`.
    """

    def __init__(self, clock: Callable[[], float], *, max_bytes: int, max_waiting: int = MAX_WAITING) -> None:
        self.publisher = uuid4().hex
        self.max_bytes = max_bytes
        self._clock = clock
        self._max_waiting = max_waiting
        self._waiting: list[DeliveryEffect] = []
        self._number = 0
        self._dropped = False

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, effect: DeliveryEffect) -> None:
        if len(self._waiting) < self._max_waiting:
            self._waiting.append(effect)
        else:
            self._dropped = True

    def lose(self) -> None:
        """Drop what waits and skip a number: what was sent last may not arrive either."""
        self._waiting.clear()
        self._dropped = True

    def take(self) -> list[DeliveryEffect]:
        """Remove and return what waits."""
        waiting, self._waiting = self._waiting, []
        return waiting

    def write(self, effects: Sequence[DeliveryEffect]) -> list[bytes]:
        """The signals of `effects`; one that cannot be written is dropped, and a number skipped."""
        signals = []
        for effect in effects:
            try:
                signals.append(write_signal(effect, self.max_bytes - HEAD_BYTES - 1))
            except Exception:
                log.exception("A signal could not be written; other processes find the event in the log")
                self._dropped = True
        return signals

    def to_all(self, signals: Sequence[bytes], *, is_last: bool = False) -> list[bytes]:
        """Numbered envelopes, in order; a heartbeat where there is no signal, or where it is the last one."""
        envelopes = [self._seal(part) for part in pack(signals, self.max_bytes)]
        if is_last or not envelopes:
            envelopes.append(self._seal([], is_last=is_last))
        return envelopes

    def to_some(self, signals: Sequence[bytes]) -> list[bytes]:
        """Envelopes without a number, for some processes only."""
        now = self._clock()
        return [write_envelope(self.publisher, None, now, part) for part in pack(signals, self.max_bytes)]

    def _seal(self, signals: list[bytes], *, is_last: bool = False) -> bytes:
        if self._dropped:
            self._dropped = False
            self._number += 1
        self._number += 1
        return write_envelope(self.publisher, self._number, self._clock(), signals, is_last=is_last)
