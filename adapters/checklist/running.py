"""Runs the rows one after the other, and gives each a verdict."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from secrets import token_hex
from urllib.parse import urlsplit

import trio
from attrs import evolve, frozen

from adapters.checklist.accounts import CheckRun
from adapters.checklist.client import HttpClient
from adapters.checklist.findings import Finding, Stopped
from adapters.checklist.judging import ChecklistRow, Probe, RowOutcome, RowVerdict
from adapters.checklist.phrases import Phrase, verbatim
from adapters.checklist.recording import Secrets
from adapters.checklist.rows import ROWS

RESPONSE_TIMEOUTS = 5
"""The timeout of a response, in timeouts of an event: 10 s for 2 s."""
ROW_TIMEOUTS = 45
"""The timeout of a row, in timeouts of an event: 90 s for 2 s. It bounds the check of any server."""

Progress = Callable[[ChecklistRow, Sequence[RowOutcome]], None]
"""Called with the row that begins, and the outcomes so far."""


class CannotRun(Exception):
    """No server can be checked at the address; `reason` says why, in both languages."""

    def __init__(self, reason: Phrase) -> None:
        super().__init__(reason)
        self.reason = reason


@frozen
class CheckPlan:
    """The server to check, the rows and the timeout."""

    base: str
    """The server's address, such as `http://localhost:8000`."""
    only: tuple[str, ...] = ()
    """The rows to judge; empty for all."""
    timeout: float = 2.0
    """Seconds that an event may take (C3)."""
    origin: str = "http://localhost:5173"
    """The origin of the page that the check stands for."""


@frozen(eq=False)
class CheckResult:
    """The outcomes of a finished check."""

    plan: CheckPlan
    outcomes: tuple[RowOutcome, ...]
    """In the order of the checklist."""
    secrets: Secrets
    began: datetime
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether no row fails; a row that is not judged implies one that fails."""
        return not self.count(RowVerdict.FAILS)

    def count(self, verdict: RowVerdict) -> int:
        """How many rows have this verdict."""
        return sum(outcome.verdict is verdict for outcome in self.outcomes)


async def run_check(plan: CheckPlan, progress: Progress | None = None) -> CheckResult:
    """Check the server. Raises `CannotRun` if no server answers."""
    began, started = datetime.now(UTC).replace(microsecond=0), trio.current_time()
    async with trio.open_nursery() as nursery:
        client = HttpClient(
            plan.base, origin=plan.origin, timeout=plan.timeout * RESPONSE_TIMEOUTS, nursery=nursery
        )
        try:
            trouble = await _trouble(client)
            run = CheckRun(client, run_id=token_hex(4), timeout=plan.timeout)
            judge = _Judge(run, plan, progress)
            if trouble is None:
                await judge.judge_all()
        finally:
            with trio.CancelScope(shield=True):
                await client.aclose()
            nursery.cancel_scope.cancel()
    if trouble is not None:
        raise CannotRun(trouble)
    return CheckResult(plan, judge.shown(), client.secrets, began, trio.current_time() - started)


async def _trouble(client: HttpClient) -> Phrase | None:
    """Why the server cannot be checked; None if it responds to a request."""
    response = await client.request("GET", "/users/me")
    if response.status is not None:
        return None
    address, error = urlsplit(client.base).netloc, response.exchange.error
    return Phrase(
        f"no server answers at {address}: {error}. Start the server, or give its address: messaging check "
        "http://localhost:8000",
        f"по адресу {address} сервер не отвечает: {error}. Запустите сервер или укажите его адрес: "
        "messaging check http://localhost:8000",
    )


class _Judge:
    """Judges the rows; before a row is called not judged, the rows that it blames are judged too."""

    def __init__(self, run: CheckRun, plan: CheckPlan, progress: Progress | None) -> None:
        self._run = run
        self._plan = plan
        self._progress = progress
        self._rows = {row.id: row for row in ROWS}
        self._outcomes: dict[str, RowOutcome] = {}
        self._running: set[str] = set()

    async def judge_all(self) -> None:
        for row in ROWS:
            if self._chosen(row):
                await self._outcome_of(row)

    def shown(self) -> tuple[RowOutcome, ...]:
        """The chosen rows and the failing rows that they needed, in the checklist's order."""
        order = {row_id: number for number, row_id in enumerate(ORDER)}
        shown = [o for o in self._outcomes.values() if self._chosen(o.row) or o.verdict is RowVerdict.FAILS]
        return tuple(sorted(shown, key=lambda outcome: order[outcome.row.id]))

    def _chosen(self, row: ChecklistRow) -> bool:
        return not self._plan.only or row.id in self._plan.only

    async def _outcome_of(self, row: ChecklistRow) -> RowOutcome:
        if row.id not in self._outcomes:
            self._running.add(row.id)
            if self._progress is not None:
                self._progress(row, tuple(self._outcomes.values()))
            began = trio.current_time()
            probe = Probe(row.id, self._run)
            await self._run_row(row, probe)
            seconds = trio.current_time() - began
            self._outcomes[row.id] = await self._conclude(row, probe, seconds)
            self._running.discard(row.id)
        return self._outcomes[row.id]

    async def _run_row(self, row: ChecklistRow, probe: Probe) -> None:
        limit = ROW_TIMEOUTS * self._plan.timeout
        with trio.move_on_after(limit) as scope:
            try:
                await row.judge(probe)
            except Stopped as stopped:
                probe.record(stopped)
            except Exception as error:  # noqa: BLE001 - one boundary a row: no response ends the whole check
                raised = f"{type(error).__name__}: {error}"
                probe.add_finding(
                    expected=Phrase(
                        "responses in the contract's form", "ответы в форме, описанной контрактом"
                    ),
                    actual=Phrase(
                        f"a response that the check cannot read ({raised})",
                        f"ответ, который проверка не может прочитать ({raised})",
                    ),
                )
        if scope.cancelled_caught:
            probe.add_finding(
                expected=Phrase(
                    f"the row ends within {limit:g} s", f"проверка пункта завершается за {limit:g} с"
                ),
                actual=Phrase("the row still waits for the server", "проверка всё ещё ждёт сервер"),
            )

    async def _conclude(self, row: ChecklistRow, probe: Probe, seconds: float) -> RowOutcome:
        findings, remarks = tuple(probe.findings), tuple(probe.remarks)
        own = tuple(finding for finding in findings if finding.owner == row.id)
        if not row.checkable:
            return RowOutcome(row, RowVerdict.NOT_CHECKABLE, (), remarks, (), seconds)
        if own:
            return RowOutcome(row, RowVerdict.FAILS, own, remarks, (), seconds)
        owners = dict.fromkeys(finding.owner for finding in findings)
        needs = [owner for owner in owners if not await self._holds(owner)]
        if needs:
            return RowOutcome(row, RowVerdict.NOT_JUDGED, findings, remarks, tuple(needs), seconds)
        verdict = RowVerdict.FAILS if findings else RowVerdict.HOLDS
        return RowOutcome(row, verdict, tuple(map(_own(row), findings)), remarks, (), seconds)

    async def _holds(self, row_id: str) -> bool:
        """Whether the row holds; a row that still runs does not, for it has brought this row here."""
        if row_id in self._running:
            return False
        outcome = await self._outcome_of(self._rows[row_id])
        return outcome.verdict not in {RowVerdict.FAILS, RowVerdict.NOT_JUDGED}


def _own(row: ChecklistRow) -> Callable[[Finding], Finding]:
    return lambda finding: evolve(finding, owner=row.id)


ORDER = ("C1", "C2", "C3", "C4", "C5", "C6", "C7", "C8", "C9", "C10", "P1", "P2", "D", "L")
"""The checklist's order, for the report; rows are judged in the order of `ROWS`."""


def base_of(url: str) -> str:
    """The server's address without the API's path. Raises `CannotRun` for anything but an http(s) URL."""
    parts = urlsplit(url)
    try:
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise CannotRun(
            Phrase(
                f"{url!r} is not an http address; write it like ",
                f"{url!r} — не http-адрес; укажите его в виде ",
            )
            + verbatim("http://localhost:8000")
        )
    path = parts.path.rstrip("/").removesuffix("/api/v1").rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path}"
