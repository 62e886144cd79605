"""The queue of one process's unsent signals: numbered, packed, and bounded."""

from collections.abc import Callable, Sequence
from uuid import uuid4

import structlog

from adapters.signals.wire import HEAD_BYTES, pack, write_envelope, write_signal
from messaging_core.effects import DeliverEphemeral, DeliveryEffect

log = structlog.get_logger(__name__)

MAX_WAITING = 10_000
"""The most queued signals; further ones are dropped, and other processes read the events from the log."""


class Outgoing:
    """The queued signals, in order; a signal beyond the bound is dropped, and a number skipped.

    Ephemeral events are shed once half of the bound is used, and no number is skipped for them.

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
        if isinstance(effect, DeliverEphemeral) and len(self._waiting) >= self._max_waiting // 2:
            return
        if len(self._waiting) < self._max_waiting:
            self._waiting.append(effect)
        else:
            self._dropped = True

    def lose(self) -> None:
        """Drop all queued signals and skip a number: the signals sent last may be lost, too."""
        self._waiting.clear()
        self._dropped = True

    def take(self) -> list[DeliveryEffect]:
        """Remove and return all queued effects."""
        waiting, self._waiting = self._waiting, []
        return waiting

    def write(self, effects: Sequence[DeliveryEffect]) -> list[bytes]:
        """The encoded signals of `effects`; one that cannot be encoded is dropped, and a number skipped."""
        signals: list[bytes] = []
        for effect in effects:
            try:
                signal = write_signal(effect, self.max_bytes - HEAD_BYTES - 1)
            except Exception:
                log.exception("A signal could not be written; other processes find the event in the log")
                self._dropped = True
            else:
                if signal is not None:
                    signals.append(signal)
        return signals

    def to_all(self, signals: Sequence[bytes], *, is_last: bool = False) -> list[bytes]:
        """Numbered envelopes, in order; without signals, or as the last envelope, a heartbeat."""
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
