"""Measures several processes of our server on one PostgreSQL: messages a second, and delays between
processes.

    python -m benchmarks.processes [--processes 1,2,4] [--senders 16] [--seconds 5]

Each sender sends one message after the other into a direct chat. The sender's socket is on the process that
gets the requests, the other member's socket on the next process. The load, all processes and PostgreSQL share
the machine's cores, and none has a core of its own. The program creates a database on the server that
--server names, and drops it afterwards. It expects NATS on port 4222.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit

import psycopg
import trio

from adapters.storage_sql.postgresql.schema import upgrade_postgresql
from adapters.storage_sql.postgresql.storage import open_postgresql
from benchmarks.load.client import ChatListener, ChatStream, Loop, Sender, Void, id_and_number, open_sockets
from benchmarks.load.figures import spread
from benchmarks.load.population import DIRECT_CHATS, token_of
from benchmarks.load.processes import Cores, RunningServer, free_port, ours, running, thread_seconds
from benchmarks.load.rows import request_pieces
from benchmarks.load.seeding import people_and_chats

ARRIVAL = 30.0
WARM_UP = 1.5
NAME = "messaging_bench_processes"
BUSES = ("none", "postgresql", "nats://127.0.0.1:4222/messaging-bench")


@contextmanager
def database(server: str) -> Iterator[str]:
    """The address of a new database with users and chats; dropped afterwards."""
    address = urlsplit(server)._replace(path=f"/{NAME}").geturl()

    async def fill() -> None:
        async with open_postgresql(address) as storage:
            await storage.transact(people_and_chats())

    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {NAME} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {NAME}")
        try:
            upgrade_postgresql(address)
            trio.run(fill)
            yield address
        finally:
            connection.execute(f"DROP DATABASE IF EXISTS {NAME} WITH (FORCE)")


def measure(servers: Sequence[RunningServer], *, senders: int, seconds: float) -> dict[str, float]:
    """The figures of running processes. Raises `Void` if a socket misses a message."""
    ports = [server.port for server in servers]
    sent: list[float] = []
    responses: list[tuple[float, float, int]] = []
    here: list[tuple[float, float]] = []
    elsewhere: list[tuple[float, float]] = []
    stopped = False

    def next_request(before: bytes, between: bytes, after: bytes) -> bytes | None:
        if stopped:
            return None
        number = len(sent)
        sent.append(perf_counter())
        return b"%b%012d%b%010d%b" % (before, number, between, number, after)

    def on_response(began: float, response: bytes) -> None:
        responses.append((began, perf_counter() - began, id_and_number(response)[0]))

    loop = Loop()
    with ExitStack() as stack:
        stack.callback(loop.close)
        listeners, connections = [], []
        for number, chat in enumerate(DIRECT_CHATS[:senders]):
            stream = ChatStream()
            for person, port, delays in (
                (chat.people[0], ports[number % len(ports)], here),
                (chat.people[1], ports[(number + 1) % len(ports)], elsewhere),
            ):
                (sock,) = open_sockets(port, [token_of(person)])
                listener = ChatListener(stream, sent, delays)
                listener.attach(loop, sock)
                stack.callback(listener.close)
                listeners.append(listener)
            request_of = partial(next_request, *request_pieces(chat.id, chat.people[0]))
            connection = Sender(loop, ports[number % len(ports)], request_of, on_response)
            stack.callback(connection.close)
            connections.append(connection)
        for connection in connections:
            connection.start()
        loop.run(WARM_UP)
        began, used, ran = perf_counter(), time.process_time(), _cpu_seconds(servers)
        loop.run(seconds)
        ended, used, ran = perf_counter(), time.process_time() - used, _cpu_seconds(servers) - ran
        stopped = True
        loop.run(ARRIVAL, until=lambda: all(connection.is_idle for connection in connections))
        loop.run(ARRIVAL, until=lambda: sum(each.frames() for each in listeners) == 2 * len(responses))
        if sum(each.frames() for each in listeners) != 2 * len(responses):
            raise Void("not every message has arrived on both sockets")
    counted = [took for start, took, _ in responses if began <= start + took < ended]
    return {
        "per_second": len(counted) / (ended - began),
        "load_cpu": used / (ended - began),
        "message_us": ran / len(counted) * 1e6,
        **spread("answer", counted),
        **spread("here", [delay for start, delay in here if began <= start + delay < ended]),
        **spread("elsewhere", [delay for start, delay in elsewhere if began <= start + delay < ended]),
    }


def _cpu_seconds(servers: Sequence[RunningServer]) -> float:
    return sum(thread_seconds(server.pid)[0] for server in servers)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.processes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--processes", default="1,2,4")
    parser.add_argument("--senders", type=int, default=16, help="at most 64")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--server", default="postgresql://postgres@127.0.0.1:5432/")
    arguments = parser.parse_args()
    print(
        "| bus | processes | senders | messages/s | answer | socket here | socket elsewhere "
        "| us a message | load's core |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    with database(arguments.server) as address:
        for bus in BUSES:
            for count in map(int, ["1"] if bus == "none" else arguments.processes.split(",")):
                with ExitStack() as stack:
                    servers: list[RunningServer] = []
                    options = f"--database {address} --bus {bus}"
                    for port in [free_port() for _ in range(count)]:
                        command = ours(port, Path("unused"), options)
                        servers.append(stack.enter_context(running(command, port, Cores(None, None))))
                    figures = measure(servers, senders=arguments.senders, seconds=arguments.seconds)
                times = " | ".join(
                    f"{figures[f'{name}_p50_ms']:.1f} / {figures[f'{name}_p99_ms']:.1f}"
                    for name in ("answer", "here", "elsewhere")
                )
                print(
                    f"| {bus.partition(':')[0]} | {count} | {arguments.senders} "
                    f"| {figures['per_second']:.0f} | {times} "
                    f"| {figures['message_us']:.0f} | {figures['load_cpu']:.0%} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
