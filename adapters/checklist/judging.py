"""How a row of the checklist is judged.

A row collects findings, and each finding has an owner. The owner is usually the row that found it; but if a
socket does not open while C3 waits for messages, the owner is C2. A row that owns a finding fails. A row with
only other rows' findings is not judged while one of those rows fails, and fails if all of them hold.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import NoReturn

from attrs import define, evolve, field, frozen

from adapters.checklist.accounts import CheckRun
from adapters.checklist.client import Response
from adapters.checklist.findings import Finding, Stopped
from adapters.checklist.phrases import Phrase, verbatim
from adapters.checklist.recording import Exchange
from adapters.checklist.socket_client import RecordedSocket

Evidence = Response | RecordedSocket | Exchange


class RowVerdict(Enum):
    """The report's verdict on a row."""

    HOLDS = "holds"
    FAILS = "fails"
    NOT_JUDGED = "not_judged"
    """A row that this one needs fails."""
    NOT_CHECKABLE = "not_checkable"
    """A client cannot observe it."""


@define(eq=False)
class Probe:
    """The argument of a row: the run's client and accounts, and the list for its findings."""

    row_id: str
    run: CheckRun
    findings: list[Finding] = field(factory=list)
    remarks: list[Phrase] = field(factory=list)

    def add_finding(
        self,
        *evidence: Evidence,
        expected: Phrase,
        actual: Phrase,
        advice: Phrase | None = None,
        owner: str | None = None,
    ) -> None:
        """Add a finding; `owner` is the row whose rule is broken, this one by default."""
        exchanges = tuple(e.exchange if isinstance(e, Response | RecordedSocket) else e for e in evidence)
        self.findings.append(Finding(expected, actual, advice, exchanges, owner or self.row_id))

    def stop(
        self, *evidence: Evidence, expected: Phrase, actual: Phrase, owner: str | None = None
    ) -> NoReturn:
        """Raise `Stopped` with a finding after which the row cannot judge anything."""
        self.add_finding(*evidence, expected=expected, actual=actual, owner=owner)
        raise Stopped(self.findings.pop())

    def remark(self, remark: Phrase) -> None:
        """Add a remark, which the report shows with any verdict."""
        if remark not in self.remarks:
            self.remarks.append(remark)

    @contextmanager
    def part(self) -> Iterator[None]:
        """A part of a row; if it stops, the row continues after it."""
        try:
            yield
        except Stopped as stopped:
            self.record(stopped)

    def record(self, stopped: Stopped) -> None:
        """Add the finding that stopped a part, once."""
        finding = stopped.finding
        if not finding.owner:
            finding = evolve(finding, owner=self.row_id)
        if finding not in self.findings:
            self.findings.append(finding)

    def expect_status(
        self, response: Response, *statuses: int, what: Phrase | None = None, advice: Phrase | None = None
    ) -> bool:
        """Whether the response has one of these statuses; adds a finding if not.

        C7 owns every 401 to a valid token.
        """
        if response.status in statuses:
            return True
        wanted = " / ".join(map(str, statuses))
        self.add_finding(
            response,
            expected=verbatim(f"{response.request}: {wanted}")
            + (Phrase("", "") if what is None else verbatim(", ") + what),
            actual=response.summary,
            advice=advice,
            owner="C7" if response.status == 401 and response.signed_in else None,
        )
        return False


@frozen(eq=False)
class ChecklistRow:
    """A row of the checklist; `judge` examines the server and adds findings to the probe."""

    id: str
    title: Phrase
    rule: Phrase
    """What must hold."""
    judge: Callable[[Probe], Awaitable[None]]
    checkable: bool = True
    """Whether a client can observe it."""


@frozen(eq=False)
class RowOutcome:
    """The verdict on a row, with its findings."""

    row: ChecklistRow
    verdict: RowVerdict
    findings: tuple[Finding, ...]
    remarks: tuple[Phrase, ...]
    needs: tuple[str, ...]
    """The failing rows because of which this one is not judged."""
    seconds: float
