"""A finding, and the exception that ends a row which cannot continue because of it."""

from attrs import field, frozen

from adapters.checklist.phrases import Phrase
from adapters.checklist.recording import Exchange


@frozen
class Finding:
    """A rule that the server breaks, described for the developer who must fix it."""

    expected: Phrase
    actual: Phrase
    advice: Phrase | None
    exchanges: tuple[Exchange, ...] = field(eq=False)
    owner: str
    """The row whose rule is broken; empty for the row that noticed it."""


class Stopped(Exception):
    """The row cannot judge anything that follows; `finding` says why."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding)
        self.finding = finding
