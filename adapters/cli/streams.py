"""Stdout and stderr that drop lines that cannot be written, so that output never ends the process."""

import io
import os
import select
import sys
from collections.abc import Callable
from typing import TextIO

PATIENCE = 1.0
"""Seconds to wait for room before a line is lost; the whole process waits. After a loss, lines are lost at
once until there is room."""


class LossyFile(io.FileIO):
    """A descriptor whose writes never fail; data that cannot be written is lost.

    Data is lost when the disk is full, when the pipe has no reader, or when its reader does not read.
    Processes that share a pipe may wait for longer, when another has just filled it.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self.loss_report: Callable[[int], bytes] | None = None
        """Renders the line with the number of lost lines, which follows the next written line."""
        self._lost = 0
        """Lines lost since the last written line."""
        self._torn = False
        """Whether the output ends with a part of a line."""

    def write(self, data: bytes, /) -> int:  # type: ignore[override] # what text is written as
        """Write whole lines, or lose them."""
        if not self._write_all(b"\n" * self._torn + data):
            self._lost += data.count(b"\n")
        elif self._lost and self.loss_report is not None:
            lost, self._lost = self._lost, 0
            if not self._write_all(self.loss_report(lost)):
                self._lost += lost
        return len(data)

    def _write_all(self, data: bytes) -> bool:
        rest = data
        try:
            # A write of at most PIPE_BUF bytes never waits where there is room.
            while rest and self._has_room():
                rest = rest[super().write(rest[: select.PIPE_BUF]) or 0 :]
        except OSError:
            pass  # there is no other output to report it on
        if rest:
            self._torn |= len(rest) < len(data)
            return False
        self._torn = False
        return True

    def _has_room(self) -> bool:
        """Whether a write would succeed, or fail at once."""
        _, writable, _ = select.select([], [self], [], 0 if self._lost else PATIENCE)
        return bool(writable)


def lossy(stream: TextIO | None, descriptor: int) -> TextIO:
    """A stream on the descriptor whose writes never fail, with the encoding of `stream`, or UTF-8."""
    encoding = "utf-8" if stream is None else stream.encoding
    return io.TextIOWrapper(LossyFile(descriptor), encoding, errors="backslashreplace", write_through=True)


def make_stderr_lossy() -> None:
    """Make writes to stderr never fail; repeating it changes nothing.

    Opens closed standard descriptors on the null device, so that no socket receives their number, and with it
    the process's output.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free
    if sys.stderr is sys.__stderr__:  # otherwise keep the replacement, such as a test's
        sys.stderr = lossy(sys.stderr, 2)


def make_stdout_lossy() -> None:
    """Make writes to stdout never fail, for a command whose output is not its result."""
    if sys.stdout is sys.__stdout__ and sys.stdout is not None:
        sys.stdout = lossy(sys.stdout, 1)
