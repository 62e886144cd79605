"""What a row is, how it is judged, and whose fault it is when it cannot be.

A row collects findings. Each belongs to a row: as a rule to the one that found it, but the socket that does
not open while C3 looks for messages is C2's. A row with findings of its own fails; one that has others' only
is not judged while those rows fail, and fails by itself if they hold after all.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import NoReturn

from attrs import define, evolve, field, frozen

from adapters.checklist.client import Answer
from adapters.checklist.people import World
from adapters.checklist.recording import Exchange
from adapters.checklist.socket_client import Socket
from adapters.checklist.stopping import Finding, Stopped
from adapters.checklist.words import Text, same

Evidence = Answer | Socket | Exchange


class Verdict(Enum):
    """What the report says of a row."""

    HOLDS = "holds"
    FAILS = "fails"
    NOT_JUDGED = "not_judged"
    """Another row fails that this one needs."""
    NOT_CHECKABLE = "not_checkable"
    """It cannot be seen from outside."""


@define(eq=False)
class Probe:
    """What a row is given: a client and people, and where to put what it finds."""

    row_id: str
    world: World
    findings: list[Finding] = field(factory=list)
    remarks: list[Text] = field(factory=list)

    def fault(
        self,
        *evidence: Evidence,
        expected: Text,
        came: Text,
        advice: Text | None = None,
        owner: str | None = None,
    ) -> None:
        """Note something that does not hold; `owner` is the row that it belongs to, this one by default."""
        exchanges = tuple(e.exchange if isinstance(e, Answer | Socket) else e for e in evidence)
        self.findings.append(Finding(expected, came, advice, exchanges, owner or self.row_id))

    def stop(self, *evidence: Evidence, expected: Text, came: Text, owner: str | None = None) -> NoReturn:
        """The same, where nothing that follows could be judged."""
        self.fault(*evidence, expected=expected, came=came, owner=owner)
        raise Stopped(self.findings.pop())

    def remark(self, told: Text) -> None:
        """Something that the reader should know, whatever the verdict."""
        if told not in self.remarks:
            self.remarks.append(told)

    @contextmanager
    def part(self) -> Iterator[None]:
        """Where this part has to stop, the row goes on after it."""
        try:
            yield
        except Stopped as stopped:
            self.note(stopped)

    def note(self, stopped: Stopped) -> None:
        """Keep why a part stopped, once."""
        finding = stopped.finding
        if not finding.owner:
            finding = evolve(finding, owner=self.row_id)
        if finding not in self.findings:
            self.findings.append(finding)

    def wants(
        self, answer: Answer, *statuses: int, what: Text | None = None, advice: Text | None = None
    ) -> bool:
        """Whether the answer has one of these statuses; if not, that is a finding.

        A 401 to a good token belongs to C7, wherever it comes.
        """
        if answer.status in statuses:
            return True
        wanted = " / ".join(map(str, statuses))
        self.fault(
            answer,
            expected=same(f"{answer.request}: {wanted}")
            + (Text("", "") if what is None else same(", ") + what),
            came=answer.came,
            advice=advice,
            owner="C7" if answer.status == 401 and answer.signed_in else None,
        )
        return False


@frozen(eq=False)
class Row:
    """A row of the checklist; `judge` looks at the server and notes its findings."""

    id: str
    title: Text
    rule: Text
    """What must hold."""
    judge: Callable[[Probe], Awaitable[None]]
    checkable: bool = True
    """Whether it can be seen from outside at all."""


@frozen(eq=False)
class Outcome:
    """What came of a row."""

    row: Row
    verdict: Verdict
    findings: tuple[Finding, ...]
    remarks: tuple[Text, ...]
    needs: tuple[str, ...]
    """The rows that fail and without which this one is not judged."""
    seconds: float
