"""One line on a terminal that shows the progress of a check; each update overwrites it, the end erases it."""

from collections.abc import Sequence
from shutil import get_terminal_size
from typing import TextIO

from adapters.checklist.judging import ChecklistRow, RowOutcome, RowVerdict
from adapters.checklist.phrases import Language

MARKS = {
    RowVerdict.HOLDS: "✅",
    RowVerdict.FAILS: "❌",
    RowVerdict.NOT_JUDGED: "⏸ ",
    RowVerdict.NOT_CHECKABLE: "👀",
}
START_OF_LINE, REST_OF_LINE = "\r", "\x1b[K"


class ProgressLine:
    """A callback for `run_check` that shows the marks of the judged rows and the title of the current one."""

    def __init__(self, stream: TextIO, language: Language) -> None:
        self._stream = stream
        self._language = language
        self._written = False

    def __call__(self, row: ChecklistRow, done: Sequence[RowOutcome]) -> None:
        marks = "".join(MARKS[outcome.verdict] for outcome in done)
        columns = get_terminal_size().columns - 2 * len(done) - 2  # a mark is two columns wide
        line = f"{marks} {row.id} {row.title.into(self._language)}…"
        self._write(line[: max(columns, 0)])
        self._written = True

    def wipe(self) -> None:
        """Erase the line, if one was written."""
        if self._written:
            self._write("")

    def _write(self, line: str) -> None:
        self._stream.write(f"{START_OF_LINE}{line}{REST_OF_LINE}")
        self._stream.flush()
