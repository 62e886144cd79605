"""How a check runs: which rows, in how much time, and against what is hardly a server."""

import socket

import pytest
import trio

from adapters.checklist.judging import Outcome, Row, Verdict
from adapters.checklist.running import CannotRun, Plan, base_of, run_check
from adapters.checklist.words import LANGUAGES
from messaging_core.privacy import EmailVisibility
from tests.checklist import faults
from tests.checklist.checks import TIMEOUT, checked, rows, spoiled
from tests.checklist.faults import answers, frames
from tests.server.servers import PATIENCE, serving


async def test_rows_are_judged_by_themselves() -> None:
    """With `only`, a row comes to the same verdict as among all the others, and no other is shown."""
    async with serving() as server:
        for row_id in ("C3", "P2"):
            result = await checked(server, row_id, patience=2)
            assert [outcome.row.id for outcome in result.outcomes] == [row_id]
            assert result.holds


async def test_a_row_that_is_needed_and_fails_is_shown_too() -> None:
    """With `only`, a row that cannot be judged brings the one that is to blame, chosen or not."""
    async with spoiled(frames(lambda *_: [])) as server:
        result = await checked(server, "C4")
    assert rows(result, Verdict.NOT_JUDGED) == {"C4"}
    assert rows(result, Verdict.FAILS) == {"C3"}


async def test_progress_tells_of_each_row_as_it_begins() -> None:
    """The reader of a terminal sees which row is under way, and what is done."""
    told: list[tuple[str, int]] = []

    def progress(row: Row, done: object) -> None:
        assert isinstance(done, tuple)
        assert all(isinstance(outcome, Outcome) for outcome in done)
        told.append((row.id, len(done)))

    async with serving() as server:
        await run_check(Plan(server.address, only=("D", "C1", "C6"), timeout=TIMEOUT), progress)
    assert told == [("D", 0), ("C1", 1), ("C6", 2)]


async def test_two_checks_of_one_server_do_not_meet() -> None:
    """The people of a run are its own: a second run, or one at the same time, finds nothing taken."""
    async with serving() as server:
        results = []

        async def one() -> None:
            results.append(await checked(server, "C10", "C9", patience=2))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one)
            nursery.start_soon(one)
    assert [result.holds for result in results] == [True, True]


async def test_rate_limits_are_no_fault() -> None:
    """A server with its rate limits on passes: the check registers few people, and gives way to a 429."""
    async with serving(rate_limits=True) as server:
        result = await checked(server, patience=2)
    assert result.holds


@pytest.mark.parametrize("visibility", EmailVisibility)
async def test_hidden_emails_are_no_fault(visibility: EmailVisibility) -> None:
    """Every row holds whoever sees e-mails; where others' are hidden, C5 says so in a note."""
    async with serving(email_visibility=visibility) as server:
        result = await checked(server, patience=2)
    assert result.holds
    noted = {o.row.id for o in result.outcomes for remark in o.remarks if "email is null" in remark.en}
    assert noted == ({"C5"} if visibility is EmailVisibility.SELF else set())


async def test_nobody_is_there() -> None:
    """Where nothing listens, the check cannot run, and says so in each language."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(CannotRun) as raised:
            await run_check(Plan(address, timeout=TIMEOUT))
    for language in LANGUAGES:
        assert address.removeprefix("http://") in raised.value.told.into(language)


async def test_a_server_that_never_answers() -> None:
    """One that takes connections and says nothing is no server either, after one answer's time."""
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]

        async def say_nothing(_: trio.SocketStream) -> None:
            await trio.sleep_forever()

        nursery.start_soon(trio.serve_listeners, say_nothing, listeners)
        with trio.fail_after(PATIENCE), pytest.raises(CannotRun) as raised:
            await run_check(Plan(f"http://127.0.0.1:{port}", timeout=0.1))
        nursery.cancel_scope.cancel()
    assert "0.5 s" in raised.value.told.en


async def test_a_path_that_answers_too_late() -> None:
    """One call that hangs takes its row down within its time, and those that need it are not judged."""
    async with spoiled(faults.late_at("/chats/direct", 1.5)) as server:
        with trio.fail_after(PATIENCE):
            result = await checked(server, patience=0.2)
    assert rows(result, Verdict.FAILS) == {"C8"}
    assert rows(result, Verdict.NOT_JUDGED) == {"C3", "C4", "C5", "C10", "P1", "P2"}


@pytest.mark.parametrize("body", [b"null", b"[]", b"{}", b'"x"', b"1", b"\xff<html>", b'{"access_token": 1}'])
async def test_nonsense_ends_no_check(body: bytes) -> None:
    """Whatever a server answers, the check comes to an end with a report."""
    async with spoiled(faults.nonsense(body)) as server:
        with trio.fail_after(PATIENCE):
            result = await checked(server, patience=0.1)
    assert {"C1", "C10", "D"} <= rows(result, Verdict.FAILS)
    assert rows(result, Verdict.HOLDS) == set()


async def test_a_server_that_registers_anybody_and_knows_nothing() -> None:
    """Answers that are right at first and nonsense afterwards are findings, and no accident of the check."""

    def change(passing: faults.Passing) -> None:
        if passing.status == 200 and passing.path != f"{faults.API}/auth/login":
            passing.body = b'[1, "two", null, {"id": {}, "participants": [null]}]'

    async with spoiled(answers(change)) as server:
        result = await checked(server, patience=0.3)
    assert {"C7", "C8", "C9", "D"} <= rows(result, Verdict.FAILS)
    texts = [finding.came.en for outcome in result.outcomes for finding in outcome.findings]
    assert not [text for text in texts if "stumbles" in text]


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://localhost:8000/", "http://localhost:8000"),
        ("http://localhost:8000/api/v1", "http://localhost:8000"),
        ("https://chat.example/messaging/api/v1/", "https://chat.example/messaging"),
        ("http://[::1]:8000/api/v1", "http://[::1]:8000"),
    ],
)
def test_the_address_may_stand_with_the_path_of_the_api(url: str, base: str) -> None:
    """The same server, however its address was copied."""
    assert base_of(url) == base


@pytest.mark.parametrize("url", ["localhost:8000", "ws://localhost/ws", "http://", "", "http://x:99999", "x"])
def test_other_addresses_are_refused(url: str) -> None:
    """What is no http address is refused before anything is sent, by showing one that is."""
    with pytest.raises(CannotRun) as raised:
        base_of(url)
    assert "http://localhost:8000" in raised.value.told.en
