"""What was found wrong, and the end of a row that cannot go on because of it."""

from attrs import field, frozen

from adapters.checklist.recording import Exchange
from adapters.checklist.words import Text


@frozen
class Finding:
    """Something that does not hold, for the person who must put it right."""

    expected: Text
    came: Text
    advice: Text | None
    exchanges: tuple[Exchange, ...] = field(eq=False)
    owner: str
    """The row that it belongs to; empty for the one that came upon it."""


class Stopped(Exception):
    """Nothing that follows could be judged; `finding` says why."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding)
        self.finding = finding
