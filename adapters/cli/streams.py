"""Stdout and stderr that lose what cannot be written: what is said must not end who says it."""

import io
import os
import select
import sys
from collections.abc import Callable
from typing import TextIO

PATIENCE = 1.0
"""Seconds to wait for room before anything is lost: the whole process waits along. Until room is there, what
comes then is lost at once."""


class LossyFile(io.FileIO):
    """A descriptor, written to as far as that is possible; everything counts as written.

    It is lost where the disk is full, or nobody can read it any more, or somebody could and does not.
    Of processes that share a pipe one may wait for longer, when another has just filled it.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self.tell_losses: Callable[[int], bytes] | None = None
        """The line that says how many were lost; it comes after the first that could be written again."""
        self._lost = 0
        """Lines since the last that could be written."""
        self._torn = False
        """Whether a part of a line stands at the end."""

    def write(self, data: bytes, /) -> int:  # type: ignore[override] # what text is written as
        """Write whole lines, or lose them."""
        if not self._write_all(b"\n" * self._torn + data):
            self._lost += data.count(b"\n")
        elif self._lost and self.tell_losses is not None:
            lost, self._lost = self._lost, 0
            if not self._write_all(self.tell_losses(lost)):
                self._lost += lost
        return len(data)

    def _write_all(self, data: bytes) -> bool:
        rest = data
        try:
            # As much at a time as never waits where there is any room.
            while rest and self._has_room():
                rest = rest[super().write(rest[: select.PIPE_BUF]) or 0 :]
        except OSError:
            pass  # there is nowhere to tell of it
        if rest:
            self._torn |= len(rest) < len(data)
            return False
        self._torn = False
        return True

    def _has_room(self) -> bool:
        """Whether something can be written, or fails at once."""
        _, writable, _ = select.select([], [self], [], 0 if self._lost else PATIENCE)
        return bool(writable)


def lossy(stream: TextIO | None, descriptor: int) -> TextIO:
    """A stream like this one that takes whatever is written; `stream` is None where there is none."""
    encoding = "utf-8" if stream is None else stream.encoding
    return io.TextIOWrapper(LossyFile(descriptor), encoding, errors="backslashreplace", write_through=True)


def make_stderr_lossy() -> None:
    """From now on whatever is said on stderr cannot fail; repeating it changes nothing.

    Where a standard descriptor is closed it is opened on nothing, so that no socket gets its number, and what
    is meant for people.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free
    if sys.stderr is sys.__stderr__:  # what somebody has put in its place, a test say, stays
        sys.stderr = lossy(sys.stderr, 2)


def make_stdout_lossy() -> None:
    """The same for stdout, for a command whose output is no result."""
    if sys.stdout is sys.__stdout__ and sys.stdout is not None:
        sys.stdout = lossy(sys.stdout, 1)
