"""The bells of one process that wait to be sent: numbered, packed, and bounded."""

from collections.abc import Callable, Sequence
from uuid import uuid4

import structlog

from adapters.bells.wire import HEAD_BYTES, pack, write_bell, write_envelope
from messaging_core.effects import DeliveryEffect

log = structlog.get_logger(__name__)

WAITING_AT_MOST = 10_000
"""Bells; a bus that is this far behind is better passed over, for the log has it all."""


class Outgoing:
    """What waits, in order; what finds no room is dropped, and its number skipped so that others notice.

    `clock` is in seconds and never goes back; no envelope is larger than `most_bytes`.
    """

    def __init__(
        self, clock: Callable[[], float], *, most_bytes: int, waiting_at_most: int = WAITING_AT_MOST
    ) -> None:
        self.publisher = uuid4().hex
        self._clock = clock
        self.most_bytes = most_bytes
        self._waiting_at_most = waiting_at_most
        self._waiting: list[DeliveryEffect] = []
        self._number = 0
        self._dropped = False

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, effect: DeliveryEffect) -> None:
        if len(self._waiting) < self._waiting_at_most:
            self._waiting.append(effect)
        else:
            self._dropped = True

    def lose(self) -> None:
        """What waits, and what was sent last, may not arrive: skip a number."""
        self._waiting.clear()
        self._dropped = True

    def take(self) -> list[DeliveryEffect]:
        """What waits, taken out."""
        waiting, self._waiting = self._waiting, []
        return waiting

    def written(self, effects: Sequence[DeliveryEffect]) -> list[bytes]:
        """Their bells; one that cannot be written is dropped, as is what would be too large."""
        written = []
        for effect in effects:
            try:
                written.append(write_bell(effect, self.most_bytes - HEAD_BYTES - 1))
            except Exception:
                log.exception("A bell could not be written; the others find the event in the log")
                self._dropped = True
        return written

    def to_all(self, bells: Sequence[bytes], *, is_last: bool = False) -> list[bytes]:
        """Envelopes for everybody, in order; a heartbeat where there are no bells, or that was the last."""
        envelopes = [self._sealed(part) for part in pack(bells, self.most_bytes)]
        if is_last or not envelopes:
            envelopes.append(self._sealed([], is_last=is_last))
        return envelopes

    def to_some(self, bells: Sequence[bytes]) -> list[bytes]:
        """Envelopes without a number."""
        now = self._clock()
        return [write_envelope(self.publisher, None, now, part) for part in pack(bells, self.most_bytes)]

    def _sealed(self, bells: list[bytes], *, is_last: bool = False) -> bytes:
        if self._dropped:
            self._dropped = False
            self._number += 1
        self._number += 1
        return write_envelope(self.publisher, self._number, self._clock(), bells, is_last=is_last)
