"""How a check runs: the choice of rows, the timeouts, and servers that hang or respond with nonsense."""

import socket

import pytest
import trio
from trio.testing import MockClock

from adapters.checklist import running
from adapters.checklist.judging import ChecklistRow, RowOutcome, RowVerdict
from adapters.checklist.phrases import LANGUAGES
from adapters.checklist.running import CannotRun, CheckPlan, base_of, run_check
from messaging_core.privacy import EmailVisibility
from tests.checklist import faults
from tests.checklist.checks import TIMEOUT, checked, rows, serving_with
from tests.checklist.faults import frames, responses
from tests.patience import PATIENCE
from tests.server.servers import serving


async def test_rows_are_judged_by_themselves() -> None:
    """With `only`, a row gets the same verdict as in a full check, and the result holds no other row."""
    async with serving() as server:
        for row_id in ("C3", "P2"):
            result = await checked(server, row_id, event_timeout=2)
            assert [outcome.row.id for outcome in result.outcomes] == [row_id]
            assert result.holds


async def test_a_needed_row_that_fails_is_in_the_result_too() -> None:
    """With `only`, the result of a row that is not judged includes the failing row that it needs."""
    async with serving_with(frames(lambda *_: [])) as server:
        result = await checked(server, "C4")
    assert rows(result, RowVerdict.NOT_JUDGED) == {"C4"}
    assert rows(result, RowVerdict.FAILS) == {"C3"}


async def test_progress_is_called_when_a_row_begins() -> None:
    """The progress callback receives each row as it begins, and the outcomes so far."""
    calls: list[tuple[str, int]] = []

    def progress(row: ChecklistRow, done: object) -> None:
        assert isinstance(done, tuple)
        assert all(isinstance(outcome, RowOutcome) for outcome in done)
        calls.append((row.id, len(done)))

    async with serving() as server:
        await run_check(CheckPlan(server.address, only=("D", "C1", "C6"), timeout=TIMEOUT), progress)
    assert calls == [("D", 0), ("C1", 1), ("C6", 2)]


async def test_two_checks_of_one_server_do_not_collide() -> None:
    """Each run registers its own accounts, so a second or a concurrent run finds no address in use."""
    async with serving() as server:
        results = []

        async def one() -> None:
            results.append(await checked(server, "C10", "C9", event_timeout=2))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one)
            nursery.start_soon(one)
    assert [result.holds for result in results] == [True, True]


async def test_rate_limits_are_no_fault() -> None:
    """A server with rate limits passes: the check registers few accounts, and waits after a 429."""
    async with serving(rate_limits=True) as server:
        result = await checked(server, event_timeout=2)
    assert result.holds


@pytest.mark.parametrize("visibility", EmailVisibility)
async def test_hidden_emails_are_no_fault(visibility: EmailVisibility) -> None:
    """Every row holds with every email_visibility; a remark at C5 says that others' e-mails are hidden."""
    async with serving(email_visibility=visibility) as server:
        result = await checked(server, event_timeout=2)
    assert result.holds
    noted = {o.row.id for o in result.outcomes for remark in o.remarks if "email is null" in remark.en}
    assert noted == ({"C5"} if visibility is EmailVisibility.SELF else set())


async def test_no_server_listens() -> None:
    """If nothing listens at the address, `CannotRun` names the address in each language."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(CannotRun) as raised:
            await run_check(CheckPlan(address, timeout=TIMEOUT))
    for language in LANGUAGES:
        assert address.removeprefix("http://") in raised.value.reason.into(language)


async def test_a_server_that_never_responds() -> None:
    """If a server accepts connections and never responds, the check cannot run after one response timeout."""
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]

        async def say_nothing(_: trio.SocketStream) -> None:
            await trio.sleep_forever()

        nursery.start_soon(trio.serve_listeners, say_nothing, listeners)
        with trio.fail_after(PATIENCE), pytest.raises(CannotRun) as raised:
            await run_check(CheckPlan(f"http://127.0.0.1:{port}", timeout=0.1))
        nursery.cancel_scope.cancel()
    assert "0.5 s" in raised.value.reason.en


async def test_a_path_that_responds_too_late(clock: MockClock) -> None:
    """A request that times out fails its row, and the rows that need it are not judged."""

    async def wait_too_long() -> None:
        clock.jump(TIMEOUT * running.RESPONSE_TIMEOUTS + 1)
        await trio.testing.wait_all_tasks_blocked()

    async with serving_with(faults.late_at("/chats/direct", wait_too_long)) as server:
        result = await checked(server)
    assert rows(result, RowVerdict.FAILS) == {"C8"}
    assert rows(result, RowVerdict.NOT_JUDGED) == {"C3", "C4", "C5", "C10", "P1", "P2"}


@pytest.mark.parametrize("body", [b"null", b"[]", b"{}", b'"x"', b"1", b"\xff<html>", b'{"access_token": 1}'])
async def test_nonsense_ends_no_check(body: bytes) -> None:
    """Whatever a server responds, the check ends with a report."""
    async with serving_with(faults.nonsense(body)) as server:
        with trio.fail_after(PATIENCE):
            result = await checked(server, event_timeout=0.1)
    assert {"C1", "C10", "D"} <= rows(result, RowVerdict.FAILS)
    assert rows(result, RowVerdict.HOLDS) == set()


async def test_a_server_that_only_registers_and_logs_in() -> None:
    """Nonsense in later responses is a finding of a row, and never an exception inside the check."""

    def change(passing: faults.PassingResponse) -> None:
        if passing.status == 200 and passing.path != f"{faults.API}/auth/login":
            passing.body = b'[1, "two", null, {"id": {}, "participants": [null]}]'

    async with serving_with(responses(change)) as server:
        result = await checked(server, event_timeout=0.3)
    assert {"C7", "C8", "C9", "D"} <= rows(result, RowVerdict.FAILS)
    texts = [finding.actual.en for outcome in result.outcomes for finding in outcome.findings]
    assert not [text for text in texts if "the check cannot read" in text]


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
def test_the_address_may_include_the_path_of_the_api(url: str, base: str) -> None:
    """The server's address may end with a slash or with the API's path."""
    assert base_of(url) == base


@pytest.mark.parametrize("url", ["localhost:8000", "ws://localhost/ws", "http://", "", "http://x:99999", "x"])
def test_other_addresses_are_refused(url: str) -> None:
    """Anything but an http(s) URL is refused before a request, and the error shows a valid address."""
    with pytest.raises(CannotRun) as raised:
        base_of(url)
    assert "http://localhost:8000" in raised.value.reason.en
