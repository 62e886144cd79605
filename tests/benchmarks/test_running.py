"""The benchmarks start servers on a seeded database, measure them, and always end them."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from time import monotonic, sleep

import pytest

from benchmarks.load import rows
from benchmarks.load.client import Void
from benchmarks.load.figures import Figures
from benchmarks.load.population import CHATS, HISTORY, PEOPLE
from benchmarks.load.processes import Cores, NotServing, RunningServer, free_port, ours, running
from benchmarks.load.seeding import fill_ours, fill_peers, seed_ours, seed_peers
from tests.patience import PATIENCE

ANYWHERE = Cores(None, None)


def canned(port: int) -> list[str]:
    """The command of the server that does almost nothing."""
    return [sys.executable, "-m", "benchmarks.load", "canned", "--port", str(port)]


def exists(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def test_a_server_ends_with_the_block() -> None:
    port = free_port()
    with running(canned(port), port, ANYWHERE) as server:
        assert exists(server.pid)
        assert 0 < server.startup < 30
        assert server.resident_bytes() > 2**20
    assert not exists(server.pid)


def test_a_server_ends_when_the_process_that_started_it_is_killed() -> None:
    program = """if True:
        import sys, time
        from benchmarks.load.processes import Cores, free_port, running
        port = free_port()
        command = [sys.executable, "-m", "benchmarks.load", "canned", "--port", str(port)]
        with running(command, port, Cores(None, None)) as server:
            print(server.pid, flush=True)
            time.sleep(60)
    """
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as harness:
        assert harness.stdout is not None
        pid = int(harness.stdout.readline())
        assert exists(pid)
        os.kill(harness.pid, signal.SIGKILL)
    until = monotonic() + PATIENCE
    while exists(pid) and monotonic() < until:
        sleep(0.01)
    assert not exists(pid)


def test_the_error_of_a_server_that_does_not_start_has_its_output() -> None:
    with (
        pytest.raises(NotServing, match="out of order"),
        running([sys.executable, "-c", "raise SystemExit('out of order')"], free_port(), ANYWHERE),
    ):
        pass


def test_every_confirmed_message_is_delivered_to_every_socket() -> None:
    port = free_port()
    with running(canned(port), port, ANYWHERE) as server:
        sends = rows.sends(server, senders=3, seconds=0.1, warm_up=0.05)
        group = rows.fanout(server, people=100, senders=2, seconds=0.1, warm_up=0.05)
    assert sends["deliveries_per_second"] == pytest.approx(2 * sends["per_second"], rel=0.2)
    assert group["deliveries_per_second"] > 10 * group["per_second"]
    assert 0 < sends["load_cpu"] <= 1.1


def test_messages_that_do_not_reach_every_socket_make_a_row_void(monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket of a user outside the chat receives no frame, so the row is void."""
    monkeypatch.setattr(rows, "ARRIVAL", 0.2)
    chat = CHATS[0]
    strayed = rows.ActiveChat(chat.id, [chat.people[0], PEOPLE], 1)
    monkeypatch.setattr(rows, "ActiveChat", lambda *_: strayed)
    port = free_port()
    with (
        running(canned(port), port, ANYWHERE) as server,
        pytest.raises(Void, match="did not receive every frame"),
    ):
        rows.sends(server, senders=1, seconds=0.05, warm_up=0.0)


def test_the_load_measures_our_server(tmp_path: Path) -> None:
    database = tmp_path / "messaging.db"
    seed_ours(database)
    fill_ours(database, 60)
    port = free_port()
    with running(ours(port, database), port, ANYWHERE) as server:
        assert rows.sends(server, senders=2, seconds=0.1, warm_up=0.0)["per_second"] > 0
        for what in ("messages", "chats"):
            assert _read(server, what)["per_second"] > 0
        idle = rows.idle(server, sockets=20, settling=0.1)
        assert 0 < idle["opening_us"] <= 1.1e6 / idle["opened_per_second"]


def _read(server: RunningServer, what: str) -> Figures:
    return rows.reads(server, what=what, messages=60, connections=2, seconds=0.1, warm_up=0.0)


def test_our_database_and_the_peers_have_the_same_contents(tmp_path: Path) -> None:
    contents = []
    for seed, fill in ((seed_ours, fill_ours), (seed_peers, fill_peers)):
        path = tmp_path / seed.__name__
        seed(path)
        fill(path, 5)
        with closing(sqlite3.connect(path)) as connection:
            contents.append(
                [
                    connection.execute(query).fetchall()
                    for query in (
                        "SELECT id, email, display_name, tag, avatar_url FROM users ORDER BY id",
                        "SELECT id, title, is_group, last_message_id FROM chats ORDER BY id",
                        "SELECT chat_id, user_id, role FROM members ORDER BY chat_id, user_id",
                        "SELECT id, chat_id, author_id, type, content FROM messages ORDER BY id",
                    )
                ]
            )
    assert contents[0] == contents[1]
    users, chats, _, messages = contents[0]
    assert (len(users), len(chats), len(messages)) == (PEOPLE, len(CHATS), 5)
    assert (HISTORY.id, "Direct Message", 0, 5) in chats


def test_the_peers_lock_agrees_with_the_servers() -> None:
    """bench.txt and server.txt pin shared packages to the same versions, so the served ones are measured."""
    directory = Path(__file__).parents[2] / "requirements"
    server, bench = (
        dict(
            re.findall(
                r"^([a-z0-9-]+)\S*==(\S+)", (directory / name).read_text(encoding="utf-8"), re.MULTILINE
            )
        )
        for name in ("server.txt", "bench.txt")
    )
    assert {name for name, version in server.items() if bench.get(name, version) != version} == set()
    assert {"hypercorn", "quart", "quart-trio", "sqlalchemy", "trio"} <= set(bench)
    entries = re.split(r"\n(?=[a-z])", (directory / "bench.txt").read_text(encoding="utf-8"))[1:]
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []
