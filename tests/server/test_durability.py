"""Acknowledged changes survive a power cut and a restart, with a real server process."""

import resource
import signal
import sqlite3
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from tests.listener.harness import wait_until
from tests.patience import PATIENCE
from tests.server.clients import (
    FAULTS_EXPECTED,
    OPEN_ITERATORS,
    Person,
    Socket,
    browser,
    collect_open_iterators,
    expect,
    log_in,
    new_key,
    register,
)
from tests.server.servers import UNMEASURED, ServerProcess, process

KILLS = 10
SENDERS = 4
RESPONSES = 25
"""The number of responses before the server is killed, while more requests are in flight."""
UNLIMITED = {"MESSAGING_RATE_LIMITS": "off", "MESSAGING_LOG_LEVEL": "warning"}


class Stream:
    """Messages that several senders send one after another, and the outcome of each."""

    def __init__(self) -> None:
        self.sent: dict[str, str] = {}
        """The content of each sent message, by its key."""
        self.acknowledged: dict[str, int] = {}
        """The id of each message that got a 201, by its key."""

    async def run(self, server: ServerProcess, person: Person, chat: int) -> None:
        """Send until the server has responded often enough, then kill it while requests are in flight."""
        enough = trio.Event()
        until = len(self.acknowledged) + RESPONSES

        async def send() -> None:
            while True:
                key = new_key()
                self.sent[key] = f"message {len(self.sent)}"
                try:
                    self.acknowledged[key] = (await person.send(chat, self.sent[key], key=key))["id"]
                except httpx.TransportError:
                    return
                if len(self.acknowledged) >= until:
                    enough.set()

        async with trio.open_nursery() as nursery:
            for _ in range(SENDERS):
                nursery.start_soon(send)
            with trio.fail_after(PATIENCE):
                await enough.wait()
            await server.kill()
        collect_open_iterators()


async def history(person: Person, chat: int) -> list[dict[str, Any]]:
    """The whole history, page by page, newest first."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = expect(await person.ask("GET", f"/messages?chat_id={chat}&limit=200{cursor}"), 200)
        found += page["messages"]
        if page["next_cursor"] is None:
            return found
        cursor = f"&before_id={page['next_cursor']}"


@OPEN_ITERATORS
async def test_killed_ten_times(tmp_path: Path) -> None:
    """After each kill every message that got a 201 is stored, and no message twice, retries included."""
    stream = Stream()
    pair = None
    chat = 0
    stored: list[dict[str, Any]] = []
    for round_ in range(KILLS + 1):
        variables = UNLIMITED | (UNMEASURED if round_ < KILLS else {})
        async with process(tmp_path, variables=variables) as server, browser(server) as http:
            if pair is None:
                alice, bob = await register(server, http, "Alice"), await register(server, http, "Bob")
                chat = await alice.direct_chat_with(bob)
                pair = (alice, bob)
            alice, bob = (
                Person(server, http, known.user, known.access_token, known.refresh_token) for known in pair
            )
            await retry_unacknowledged(alice, chat, stream)
            if round_ < KILLS:
                await stream.run(server, alice, chat)
                continue
            stored = await history(bob, chat)
            assert await server.stop() == 0
    assert len(stream.acknowledged) >= KILLS * RESPONSES
    assert sorted(message["content"] for message in stored) == sorted(stream.sent.values())
    assert {message["id"] for message in stored} == set(stream.acknowledged.values())
    assert [message["id"] for message in stored] == sorted(stream.acknowledged.values(), reverse=True)


async def retry_unacknowledged(person: Person, chat: int, stream: Stream) -> None:
    """Retry, in the way of a client whose connection broke, with the same key."""
    for key in stream.sent.keys() - stream.acknowledged.keys():
        stream.acknowledged[key] = (await person.send(chat, stream.sent[key], key=key))["id"]
    # Repeat the last ones before the kill as well: the responses must be the same.
    for key in list(stream.acknowledged)[-SENDERS:]:
        assert (await person.send(chat, stream.sent[key], key=key))["id"] == stream.acknowledged[key]


async def test_a_restart_logs_nobody_out(tmp_path: Path) -> None:
    """After a restart both tokens are valid, the data unchanged, and files with secrets the owner's only."""
    async with process(tmp_path) as server, browser(server) as http:
        alice, bob = await register(server, http, "Alice"), await register(server, http, "Bob")
        chat = await alice.direct_chat_with(bob)
        sent = await alice.send(chat, "before", key="k")
        ended = await log_in(server, http, "Alice")
        expect(await ended.ask("POST", "/auth/logout"), 204)
        assert await server.stop() == 0
    for name in ("messaging.db", "messaging.db.keys"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    async with process(tmp_path) as server, browser(server) as http:
        again = Person(server, http, alice.user, alice.access_token, alice.refresh_token)
        assert expect(await again.ask("GET", "/users/me"), 200) == alice.user
        async with again.socket() as socket:
            assert await again.send(chat, "before", key="k") == sent
            later = await again.send(chat, "after")
            assert later["id"] > sent["id"]
            assert (await socket.message())["id"] == later["id"]
        expect(await http.post("/auth/refresh", json={"refresh_token": alice.refresh_token}), 200)
        still_ended = Person(server, http, ended.user, ended.access_token, ended.refresh_token)
        expect(await still_ended.ask("GET", "/users/me"), 401, "session_revoked")
        expect(await http.post("/auth/refresh", json={"refresh_token": ended.refresh_token}), 401)


async def test_sigterm_closes_every_socket(tmp_path: Path) -> None:
    """SIGTERM: sockets receive their queued frames and then 1012, and the exit status is 0."""
    async with process(tmp_path) as server, browser(server) as http:
        alice, bob = await register(server, http, "Alice"), await register(server, http, "Bob")
        chat = await alice.direct_chat_with(bob)
        async with alice.socket() as a1, alice.socket() as a2, bob.socket() as b:
            sent = await alice.send(chat)
            server.process.terminate()
            closes: list[tuple[int, str]] = []
            async with trio.open_nursery() as nursery:
                for socket in (a1, a2, b):
                    nursery.start_soon(hear_then_close, socket, sent["id"], closes)
        assert await server.wait() == 0
        assert closes == [(1012, "restarting")] * 3
    assert '"level": "error"' not in server.log
    assert "Traceback" not in server.log


async def hear_then_close(socket: Socket, message_id: int, closes: list[tuple[int, str]]) -> None:
    assert (await socket.message())["id"] == message_id
    closes.append(await socket.closed())


@OPEN_ITERATORS
async def test_requests_in_flight_are_finished(tmp_path: Path) -> None:
    """SIGTERM: accepted requests get responses, and no acknowledged change is lost."""
    acknowledged: list[int] = []
    async with process(tmp_path, variables=UNLIMITED) as server, browser(server) as http:
        alice, bob = await register(server, http, "Alice"), await register(server, http, "Bob")
        chat = await alice.direct_chat_with(bob)

        async def send() -> None:
            while True:
                try:
                    acknowledged.append((await alice.send(chat))["id"])
                except httpx.TransportError:
                    return
                if len(acknowledged) == RESPONSES:
                    server.process.terminate()

        async with trio.open_nursery() as nursery:
            for _ in range(SENDERS):
                nursery.start_soon(send)
        collect_open_iterators()
        assert await server.wait() == 0
    async with process(tmp_path, variables=UNLIMITED) as server, browser(server) as http:
        again = Person(server, http, bob.user, bob.access_token, bob.refresh_token)
        assert set(acknowledged) <= {message["id"] for message in await history(again, chat)}


async def test_ctrl_c_ends_a_server_gracefully(tmp_path: Path) -> None:
    """SIGINT ends the server as SIGTERM does: exit status 0, no traceback."""
    async with process(tmp_path) as server, browser(server) as http:
        expect(await http.get(f"{server.address}/ready"), 200)
        server.process.send_signal(signal.SIGINT)
        assert await server.wait() == 0
    assert "Traceback" not in server.log


async def test_a_server_that_cannot_write_is_not_ready(tmp_path: Path) -> None:
    """From the first 503 of a full disk, /ready is 503 until there is space, without another write.

    While the disk has space, /ready writes nothing.
    """
    async with process(tmp_path, variables=UNLIMITED) as server, browser(server) as http:

        async def ready() -> httpx.Response:
            return await http.get(f"{server.address}/ready", extensions=FAULTS_EXPECTED)

        alice, bob = await register(server, http, "Alice"), await register(server, http, "Bob")
        chat = await alice.direct_chat_with(bob)
        sent = await alice.send(chat, "before", key="before")
        before = on_disk(tmp_path)
        expect(await ready(), 200)
        assert on_disk(tmp_path) == before
        with full_disk(server):
            change = ("PATCH", f"/messages/{sent['id']}", {"content": "meanwhile"})
            refused = await alice.ask(*change, extensions=FAULTS_EXPECTED)
            expect(refused, 503, "storage_unavailable")
            assert await alice.send(chat, "before", key="before") == sent  # a commit that needs no space
            for _ in range(2):
                expect(await ready(), 503, "storage_unavailable")
            expect(await http.get(f"{server.address}/health"), 200)
        expect(await ready(), 200)
        before = on_disk(tmp_path)
        expect(await ready(), 200)
        assert on_disk(tmp_path) == before
        await alice.send(chat, "after")


@contextmanager
def full_disk(server: ServerProcess) -> Iterator[None]:
    """Limit the size of the server's files, as a full disk does."""
    pid, limit = server.process.pid, resource.RLIMIT_FSIZE
    _, most = resource.prlimit(pid, limit)
    resource.prlimit(pid, limit, (0, most))
    try:
        yield
    finally:
        resource.prlimit(pid, limit, (most, most))


async def send_until_refused(person: Person, chat: int, acknowledged: list[int]) -> None:
    """Send one message after another; adds the ids of those that got a 201."""
    while True:
        body = {"chat_id": chat, "type": "text", "content": str(len(acknowledged))}
        response = await person.ask("POST", "/messages", body, extensions=FAULTS_EXPECTED)
        if response.status_code != 201:
            expect(response, 503, "storage_unavailable")
            return
        acknowledged.append(response.json()["id"])


def rescue(directory: Path, pid: int) -> None:
    """Rescue the data as docs/deployment.md describes, in another directory and without systemd."""
    page = Path("docs/deployment.md").read_text(encoding="utf-8")
    (commands,) = (block for block in page.split("```")[1::2] if "rescued.db" in block)
    commands = commands.partition("systemctl stop")[0].partition("MainPID --value messaging)")[2]
    subprocess.run(["sh", "-eu", "-c", f"pid={pid}\n{commands}"], cwd=directory, check=True)


def delete_and_rescue(directory: Path) -> None:
    (directory / "messaging.db").unlink()


def rename_for_a_while(directory: Path) -> None:
    (directory / "messaging.db").rename(directory / "moved.db")


def delete_the_log(directory: Path) -> None:
    (directory / "messaging.db-wal").unlink()


@pytest.mark.parametrize(
    "happening", [delete_and_rescue, rename_for_a_while, delete_the_log], ids=lambda one: one.__name__
)
async def test_a_file_that_disappears_loses_no_acknowledged_message(
    tmp_path: Path, happening: Callable[[Path], None]
) -> None:
    """If the file disappears amid messages, no 201 follows the first 503, and one log line has the cause.

    After the steps of the page and a restart, all acknowledged messages are stored, and the server goes on.
    """
    path = tmp_path / "messaging.db"
    async with process(tmp_path, variables=UNLIMITED) as server, browser(server) as http:
        alice, bob = await register(server, http, "Alice"), await register(server, http, "Bob")
        chat = await alice.direct_chat_with(bob)
        acknowledged = list[int]()

        async def ready() -> httpx.Response:
            return await http.get(f"{server.address}/ready", extensions=FAULTS_EXPECTED)

        async with trio.open_nursery() as nursery:
            for _ in range(SENDERS):
                nursery.start_soon(send_until_refused, alice, chat, acknowledged)
            await wait_until(lambda: len(acknowledged) > SENDERS)
            happening(tmp_path)
        expect(await ready(), 503, "storage_unavailable")
        expect(await http.get(f"{server.address}/health"), 200)
        assert len(await history(alice, chat)) == len(acknowledged) > SENDERS
        assert server.log.count("[critical") + server.log.count('"critical"') == 1
        if happening is delete_and_rescue:
            await trio.to_thread.run_sync(rescue, tmp_path, server.process.pid)
            with closing(sqlite3.connect(tmp_path / "rescued.db")) as rescued:
                assert rescued.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        elif happening is rename_for_a_while:
            (tmp_path / "moved.db").rename(path)
            with trio.fail_after(PATIENCE):
                while (await ready()).status_code != 200:  # noqa: ASYNC110 - only requests show it
                    await trio.sleep(0.02)
            acknowledged.append((await alice.send(chat))["id"])
        assert await server.stop() == 0
    if happening is delete_and_rescue:
        assert not path.exists()
        (tmp_path / "rescued.db").rename(path)
    async with process(tmp_path, variables=UNLIMITED) as server, browser(server) as http:
        again = Person(server, http, alice.user, alice.access_token, alice.refresh_token)
        acknowledged.append((await again.send(chat))["id"])
        assert [message["id"] for message in await history(again, chat)] == sorted(acknowledged, reverse=True)


def on_disk(directory: Path) -> list[bytes]:
    """The database and its write-ahead log."""
    return [(directory / name).read_bytes() for name in ("messaging.db", "messaging.db-wal")]
