"""One line on a terminal that tells how far the check is, written over and wiped away at the end."""

from collections.abc import Sequence
from shutil import get_terminal_size
from typing import TextIO

from adapters.checklist.judging import Outcome, Row, Verdict
from adapters.checklist.words import Language

MARKS = {Verdict.HOLDS: "✅", Verdict.FAILS: "❌", Verdict.NOT_JUDGED: "⏸ ", Verdict.NOT_CHECKABLE: "👀"}
START_OF_LINE, REST_OF_LINE = "\r", "\x1b[K"


class ProgressLine:
    """Called with the row that begins and with what is done."""

    def __init__(self, stream: TextIO, language: Language) -> None:
        self._stream = stream
        self._language = language
        self._written = False

    def __call__(self, row: Row, done: Sequence[Outcome]) -> None:
        marks = "".join(MARKS[outcome.verdict] for outcome in done)
        columns = get_terminal_size().columns - 2 * len(done) - 2
        told = f"{marks} {row.id} {row.title.into(self._language)}…"
        self._write(told[: max(columns, 0)])
        self._written = True

    def wipe(self) -> None:
        """Leave an empty line, if anything was written."""
        if self._written:
            self._write("")

    def _write(self, told: str) -> None:
        self._stream.write(f"{START_OF_LINE}{told}{REST_OF_LINE}")
        self._stream.flush()
