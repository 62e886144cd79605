"""Measures how much the `GET /chats` of one account in many large groups delays other accounts.

    python benchmarks/chat_lists.py [--groups 858] [--people 1000] [--seconds 5] [--database postgresql://…]

Seeds a new SQLite file, or an empty PostgreSQL database, with an owner of groups of strangers. Prints the
size and the time of the owner's list, of a page and of one group, the time to create a group, the latency of
another account's messages alone and during four concurrent lists, and the longest block of the server's event
loop.
"""

import argparse
import http.client
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import trio

SERVING = "--serve"
"""With this first argument, the program is the server, with an instrument in its event loop."""


class LongestStep(trio.abc.Instrument):
    """The longest step of any task, in seconds of wall-clock time and of this thread's processor time."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.thread_time()
        self.reset()

    def reset(self) -> None:
        self.wall = self.cpu = 0.0

    def before_task_step(self, _: trio.lowlevel.Task) -> None:
        self._wall, self._cpu = time.perf_counter(), time.thread_time()

    def after_task_step(self, _: trio.lowlevel.Task) -> None:
        self.wall = max(self.wall, time.perf_counter() - self._wall)
        self.cpu = max(self.cpu, time.thread_time() - self._cpu)


def serve() -> None:
    """Run `messaging serve`, which prints the longest step since the last report for each line of input."""
    from adapters.cli.main import main as command  # noqa: PLC0415 - the load does not need it

    longest = LongestStep()
    run = trio.run

    def report() -> None:
        for _ in sys.stdin:
            print(json.dumps({"wall": longest.wall, "cpu": longest.cpu}), flush=True)
            longest.reset()

    def run_watched(*args: Any, **options: Any) -> Any:
        threading.Thread(target=report, daemon=True).start()
        return run(*args, **options, instruments=[longest])

    vars(trio)["run"] = run_watched
    command(sys.argv[2:])


class InstrumentedServer:
    """A server process that reports the longest step of its event loop."""

    def __init__(self, process: "subprocess.Popen[str]", port: int) -> None:
        self._process = process
        self.port = port

    def longest_step(self) -> str:
        """The longest step since the last call."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        step = json.loads(next(line for line in self._process.stdout if line.startswith("{")))
        wall, cpu = step["wall"] * 1000, step["cpu"] * 1000
        return f"the loop was blocked for {wall:.1f} ms at most ({cpu:.1f} ms of processor time)"

    def request(self, method: str, path: str, token: str | None = None, body: object = None) -> bytes:
        return KeepAliveCaller(self.port, token).request(method, path, body)


class KeepAliveCaller:
    """A keep-alive connection."""

    def __init__(self, port: int, token: str | None) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self._headers = {"Content-Type": "application/json"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"

    def request(self, method: str, path: str, body: object = None) -> bytes:
        sent = None if body is None else json.dumps(body)
        self._connection.request(method, f"/api/v1{path}", sent, self._headers)
        response = self._connection.getresponse()
        content = response.read()
        assert response.status < 300, content[:500]
        return content


@contextmanager
def serving(database: str) -> Iterator[InstrumentedServer]:
    command = [
        *(sys.executable, __file__, SERVING, "serve", "--bind", "127.0.0.1:0", "--database", database),
        *("--no-rate-limits", "--log-level", "warning", "--signing-keys", f"lists:{'1f' * 32}"),
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = next(
            int(found[1]) for line in process.stdout if (found := re.search(r"http://\S+:(\d+)/docs", line))
        )
        try:
            yield InstrumentedServer(process, port)
        finally:
            process.terminate()


def register(server: InstrumentedServer, name: str) -> tuple[int, str]:
    account = {"email": f"{name}@test.com", "password": "password123", "display_name": name}
    signed_in = json.loads(server.request("POST", "/auth/register", body=account))
    return signed_in["user"]["id"], signed_in["access_token"]


def seed(database: str, owner: int, groups: int, people: int) -> list[int]:
    """Store the strangers and the owner's groups of strangers; returns the strangers' ids."""
    from adapters.storage_sql import open_sqlite  # noqa: PLC0415 - as above
    from messaging_core.effects import StoreChat, StoreUser  # noqa: PLC0415
    from messaging_core.ids import UserId  # noqa: PLC0415
    from messaging_core.models import Chat, Member, Role, User  # noqa: PLC0415
    from messaging_core.ports import Transaction  # noqa: PLC0415

    now = datetime.now(UTC).replace(microsecond=0)

    def strangers(tx: Transaction) -> list[int]:
        ids = [tx.next_user_id() for _ in range(people - 1)]
        for id_ in ids:
            user = User(id_, f"s{id_}@strangers.example", f"Stranger {id_}", f"stranger{id_}", None, now)
            tx.apply(StoreUser(user, "none", user.email))
        return [*ids]

    def group(ids: list[int], number: int) -> Callable[[Transaction], None]:
        at = now - timedelta(seconds=groups - number)
        members = (
            Member(UserId(owner), Role.OWNER, at),
            *(Member(UserId(id_), Role.MEMBER, at) for id_ in ids),
        )

        def operation(tx: Transaction) -> None:
            tx.apply(StoreChat(Chat(tx.next_chat_id(), f"Group {number}", True, at, members, 0, at, None)))

        return operation

    async def fill() -> list[int]:
        if database.startswith("sqlite:"):
            opened = open_sqlite(Path(database.removeprefix("sqlite:///")))
        else:
            from adapters.storage_sql.postgresql.storage import open_postgresql  # noqa: PLC0415

            opened = open_postgresql(database)
        async with opened as storage:
            ids = await storage.transact(strangers)
            for number in range(groups):
                await storage.transact(group(ids, number))
        return ids

    return trio.run(fill)


def timed(call: Callable[[], bytes], times: int = 3) -> tuple[float, bytes]:
    """The median time in seconds, and the last response."""
    took: list[float] = []
    response = b""
    for _ in range(times):
        began = time.perf_counter()
        response = call()
        took.append(time.perf_counter() - began)
    return median(took), response


def sends(server: InstrumentedServer, token: str, chat: int, until: Callable[[int], bool]) -> str:
    """Send one message after the other; returns their latencies as a text."""
    caller = KeepAliveCaller(server.port, token)
    took: list[float] = []
    while not until(len(took)):
        began = time.perf_counter()
        caller.request("POST", "/messages", {"chat_id": chat, "type": "text", "content": "hello"})
        took.append(time.perf_counter() - began)
    if len(took) < 2:
        return f"one message, {took[0] * 1000:.0f} ms"
    cuts = quantiles(took, n=100)
    return (
        f"{len(took)} messages: p50 {cuts[49] * 1000:.1f} ms, p99 {cuts[98] * 1000:.1f} ms, "
        f"longest {max(took) * 1000:.1f} ms"
    )


def measure(
    server: InstrumentedServer,
    owner: tuple[int, str],
    sender: tuple[int, str],
    strangers: list[int],
    seconds: float,
) -> None:
    _, token = owner
    chat = json.loads(server.request("POST", "/chats/direct", sender[1], {"user_id": owner[0]}))["id"]
    server.longest_step()
    alone = sends(server, sender[1], chat, lambda n: n == 300)
    print(f"a stranger's messages alone: {alone}; {server.longest_step()}")
    reads = [("the list", "/chats"), ("a group", f"/chats/{chat - 1}")]
    if b'"next_cursor"' in server.request("GET", "/chats?limit=1", token):
        reads.insert(1, ("a page of 200", "/chats?limit=200"))
    for name, path in reads:
        server.longest_step()
        took, response = timed(lambda path=path: server.request("GET", path, token))  # type: ignore[misc]
        found = json.loads(response)
        chats = found if isinstance(found, list) else found.get("chats", [found])
        shown = sum(len(chat["participants"]) for chat in chats)
        print(
            f"{name}: {len(response):,} bytes, {len(chats)} chats with {shown:,} participants, "
            f"{took * 1000:.0f} ms; {server.longest_step()}"
        )
    body = {"title": "Another group", "member_ids": strangers}
    server.longest_step()
    took, response = timed(lambda: server.request("POST", "/chats", token, body))
    print(f"creating a group: {len(response):,} bytes, {took * 1000:.0f} ms; {server.longest_step()}")

    ended = threading.Event()
    lists: list[float] = []

    def list_(caller: KeepAliveCaller) -> None:
        while not ended.is_set():
            began = time.perf_counter()
            caller.request("GET", "/chats")
            lists.append(time.perf_counter() - began)

    threads = [threading.Thread(target=list_, args=(KeepAliveCaller(server.port, token),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    until = time.perf_counter() + seconds
    beside = sends(server, sender[1], chat, lambda sent: sent > 0 and time.perf_counter() > until)
    each = median(lists) * 1000
    ended.set()
    for thread in threads:
        thread.join()
    count = f"{len(lists)} in {each:.0f} ms each"
    print(f"during four concurrent lists ({count}): {beside}; {server.longest_step()}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--groups", type=int, default=858)
    parser.add_argument("--people", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--database", help="an empty PostgreSQL database with its tables")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        database = arguments.database or f"sqlite:///{directory}/messaging.db"
        with serving(database) as server:
            owner, sender = register(server, "owner"), register(server, "sender")
        strangers = seed(database, owner[0], arguments.groups, arguments.people)
        with serving(database) as server:
            measure(server, owner, sender, strangers, arguments.seconds)


if __name__ == "__main__":
    if sys.argv[1:2] == [SERVING]:
        serve()
    else:
        main()
