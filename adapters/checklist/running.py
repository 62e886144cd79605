"""Runs the rows one by one, and says of each whether it holds."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from secrets import token_hex
from urllib.parse import urlsplit

import trio
from attrs import evolve, frozen

from adapters.checklist.client import Client
from adapters.checklist.judging import Outcome, Probe, Row, Verdict
from adapters.checklist.people import World
from adapters.checklist.recording import Secrets
from adapters.checklist.rows import ROWS
from adapters.checklist.stopping import Finding, Stopped
from adapters.checklist.words import Text, same

ANSWER_TIMEOUTS = 5
"""How many times the timeout of an event a request may take: 10 s where that is 2 s."""
ROW_TIMEOUTS = 45
"""How many a row may take in all, whatever the server does: 90 s where that is 2 s."""

Progress = Callable[[Row, Sequence[Outcome]], None]
"""Told of a row that begins, and of what is done."""


class CannotRun(Exception):
    """There is nothing at the address that could be checked."""

    def __init__(self, told: Text) -> None:
        super().__init__(told)
        self.told = told


@frozen
class Plan:
    """What to check, and how patiently."""

    base: str
    """Where the server is, such as `http://localhost:8000`."""
    only: tuple[str, ...] = ()
    """The rows to judge; none stands for all."""
    timeout: float = 2.0
    """Seconds that an event may take (C3)."""
    origin: str = "http://localhost:5173"
    """The page that calls."""


@frozen(eq=False)
class Result:
    """A check that is done."""

    plan: Plan
    outcomes: tuple[Outcome, ...]
    """In the order of the checklist."""
    secrets: Secrets
    began: datetime
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether no row fails; one that is not judged needs one that does."""
        return not self.count(Verdict.FAILS)

    def count(self, verdict: Verdict) -> int:
        """How many rows came to this."""
        return sum(outcome.verdict is verdict for outcome in self.outcomes)


async def run_check(plan: Plan, progress: Progress | None = None) -> Result:
    """Check the server; raises `CannotRun` where none answers."""
    began, started = datetime.now(UTC).replace(microsecond=0), trio.current_time()
    async with trio.open_nursery() as nursery:
        client = Client(
            plan.base, origin=plan.origin, patience=plan.timeout * ANSWER_TIMEOUTS, nursery=nursery
        )
        try:
            refusal = await _refusal(client)
            world = World(client, run=token_hex(4), timeout=plan.timeout)
            judge = _Judge(world, plan, progress)
            if refusal is None:
                await judge.all()
        finally:
            with trio.CancelScope(shield=True):
                await client.aclose()
            nursery.cancel_scope.cancel()
    if refusal is not None:
        raise CannotRun(refusal)
    return Result(plan, judge.shown(), client.secrets, began, trio.current_time() - started)


async def _refusal(client: Client) -> Text | None:
    answer = await client.request("GET", "/users/me")
    if answer.status is not None:
        return None
    place, why = urlsplit(client.base).netloc, answer.exchange.error
    return Text(
        f"no server answers at {place}: {why}. Start it, or give its address: messaging check "
        "http://localhost:8000",
        f"по адресу {place} сервер не отвечает: {why}. Запустите его или укажите адрес: messaging check "
        "http://localhost:8000",
    )


class _Judge:
    """Judges rows; a row that another one is not judged without is judged first, whether chosen or not."""

    def __init__(self, world: World, plan: Plan, progress: Progress | None) -> None:
        self._world = world
        self._plan = plan
        self._progress = progress
        self._rows = {row.id: row for row in ROWS}
        self._outcomes: dict[str, Outcome] = {}
        self._under_way: set[str] = set()

    async def all(self) -> None:
        for row in ROWS:
            if self._chosen(row):
                await self._judged(row)

    def shown(self) -> tuple[Outcome, ...]:
        """The chosen rows, and those that fail which they needed; in the order of the checklist."""
        order = {row_id: number for number, row_id in enumerate(ORDER)}
        shown = [o for o in self._outcomes.values() if self._chosen(o.row) or o.verdict is Verdict.FAILS]
        return tuple(sorted(shown, key=lambda outcome: order[outcome.row.id]))

    def _chosen(self, row: Row) -> bool:
        return not self._plan.only or row.id in self._plan.only

    async def _judged(self, row: Row) -> Outcome:
        if row.id not in self._outcomes:
            self._under_way.add(row.id)
            if self._progress is not None:
                self._progress(row, tuple(self._outcomes.values()))
            began = trio.current_time()
            probe = Probe(row.id, self._world)
            await self._look(row, probe)
            seconds = trio.current_time() - began
            self._outcomes[row.id] = await self._weighed(row, probe, seconds)
            self._under_way.discard(row.id)
        return self._outcomes[row.id]

    async def _look(self, row: Row, probe: Probe) -> None:
        limit = ROW_TIMEOUTS * self._plan.timeout
        with trio.move_on_after(limit) as scope:
            try:
                await row.judge(probe)
            except Stopped as stopped:
                probe.note(stopped)
            except Exception as error:  # noqa: BLE001 - one boundary a row: no answer ends the whole check
                told = f"{type(error).__name__}: {error}"
                probe.fault(
                    expected=Text("answers that the contract knows", "ответы, какие описывает контракт"),
                    came=Text(f"one that the check stumbles over ({told})", f"ответ сбил проверку ({told})"),
                )
        if scope.cancelled_caught:
            probe.fault(
                expected=Text(f"an end within {limit:g} s", f"завершение за {limit:g} с"),
                came=Text("the server keeps the check waiting", "сервер заставляет проверку ждать"),
            )

    async def _weighed(self, row: Row, probe: Probe, seconds: float) -> Outcome:
        findings, remarks = tuple(probe.findings), tuple(probe.remarks)
        own = tuple(finding for finding in findings if finding.owner == row.id)
        if not row.checkable:
            return Outcome(row, Verdict.NOT_CHECKABLE, (), remarks, (), seconds)
        if own:
            return Outcome(row, Verdict.FAILS, own, remarks, (), seconds)
        needs = [o for o in dict.fromkeys(finding.owner for finding in findings) if await self._lacks(o)]
        if needs:
            return Outcome(row, Verdict.NOT_JUDGED, findings, remarks, tuple(needs), seconds)
        verdict = Verdict.FAILS if findings else Verdict.HOLDS
        return Outcome(row, verdict, tuple(map(_own(row), findings)), remarks, (), seconds)

    async def _lacks(self, row_id: str) -> bool:
        """Whether this row does not hold; one that is still under way has been found wanting."""
        if row_id in self._under_way:
            return True
        outcome = await self._judged(self._rows[row_id])
        return outcome.verdict in {Verdict.FAILS, Verdict.NOT_JUDGED}


def _own(row: Row) -> Callable[[Finding], Finding]:
    return lambda finding: evolve(finding, owner=row.id)


ORDER = ("C1", "C2", "C3", "C4", "C5", "C6", "C7", "C8", "C9", "C10", "P1", "P2", "D", "L")
"""The checklist's own; rows are judged in the order of `ROWS`, those first that others need."""


def base_of(url: str) -> str:
    """The server's address without the API's path; raises `CannotRun` for what is no http address."""
    parts = urlsplit(url)
    try:
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise CannotRun(
            Text(f"{url!r} is not an address such as ", f"{url!r} не похоже на адрес вида ")
            + same("http://localhost:8000")
        )
    path = parts.path.rstrip("/").removesuffix("/api/v1").rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path}"
