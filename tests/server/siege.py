"""A siege: processes are killed, the bus and the database restarted, while clients send; nothing may be lost.

python -m tests.server.siege --processes 4 --sockets 200 --messages 20000 --bus nats

It creates, and removes at the end, a PostgreSQL cluster, which it crashes; a NATS server, or with --bus
postgresql that cluster's notifications, whose connections it ends; and the processes, of which it kills all
but the first, one every few seconds. `verdict` has the rules.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count, pairwise, takewhile
from pathlib import Path
from random import Random
from statistics import quantiles
from typing import Any
from uuid import uuid4

import psycopg
import trio
from attrs import define, field, frozen

from adapters.storage_sql.postgresql.schema import upgrade_postgresql
from benchmarks.load.wire import request
from tests.bus.nats_server import NatsServer
from tests.postgresql_cluster import cluster
from tests.server.clients import PASSWORD
from tests.server.fleet import Member, fleet, free_fixed_port
from tests.server.siege_clients import Caller, Ledger, Listener, Room, Somebody, history, send

ARRIVAL_SECONDS = 60
"""Seconds after the last fault within which every acknowledged message is on every socket."""
GROUP = 20
"""Members of a group; one in eight messages is for a group, the others are for direct chats."""
DOWN_SECONDS = 1.0
"""Seconds for which a killed process, or the bus, is away."""


@frozen
class Plan:
    """The size: `messages` is a minimum, `kill_every` is in seconds."""

    sockets: int
    messages: int
    senders: int = 16
    kill_every: float = 3.0


@define
class Besieged:
    """What can be broken."""

    members: Sequence[Member]
    restart_bus: Callable[[], None]
    restart_database: Callable[[], None]
    kills: int = 0
    bus_restarts: int = 0
    database_restarts: int = 0


@define
class Outcome:
    """The results."""

    ledger: Ledger
    listeners: list[Listener]
    seconds: float
    faults: list[str] = field(factory=list)
    """The violations; empty if all rules hold."""

    @property
    def delays(self) -> list[float]:
        """Seconds from each message's response to its first frame on a socket."""
        return [
            max(0.0, moment - self.ledger.acknowledged_at[message_id])
            for listener in self.listeners
            for message_id, moment in listener.received_at.items()
            if message_id in self.ledger.acknowledged_at
        ]


Asking = Callable[[int], Caller]
"""Creates a caller that begins at the server with this number."""


async def besiege(plan: Plan, besieged: Besieged) -> Outcome:
    """Send and break everything in turn, then compare what the clients have received with the log."""
    addresses = [member.address for member in besieged.members]
    with ExitStack() as stack:

        def ask(number: int) -> Caller:
            caller = Caller(addresses, number, Random(number))
            stack.callback(caller.leave)
            return caller

        return await _besiege(plan, besieged, ask)


async def _besiege(plan: Plan, besieged: Besieged, ask: Asking) -> Outcome:
    ledger = Ledger()
    people = await _register(plan.sockets // 2, ask, ledger)
    rooms = await _open_rooms(people, ask, ledger)
    listeners = [
        Listener(
            person,
            [room for room in rooms if person in room.people],
            ask(number),
            ledger,
        )
        for number, person in enumerate([*people, *reversed(people)])
    ]
    async with trio.open_nursery() as nursery:
        for listener in listeners:
            nursery.start_soon(listener.listen)
        for listener in listeners:
            with trio.fail_after(ARRIVAL_SECONDS):
                await listener.opened.wait()
        began = trio.current_time()
        async with trio.open_nursery() as trouble:
            trouble.start_soon(_kill, plan, besieged)
            restarted = trio.Event()
            trouble.start_soon(_restart, plan, besieged, ledger, restarted)
            await _talk(plan, ask, rooms, ledger, restarted)
            trouble.cancel_scope.cancel()
        seconds = trio.current_time() - began
        for member in besieged.members:
            await trio.to_thread.run_sync(member.wait)
        with trio.move_on_after(ARRIVAL_SECONDS):
            while not all(map(Listener.has_received_all, listeners)):  # noqa: ASYNC110
                await trio.sleep(0.05)
        logs = {room.id: await history(ask(0), room.id, room.people[0], 0, ledger) for room in rooms}
        nursery.cancel_scope.cancel()
    return Outcome(ledger, listeners, seconds, list(verdict(ledger, listeners, logs)))


def verdict(
    ledger: Ledger, listeners: Sequence[Listener], logs: dict[int, list[tuple[int, str]]]
) -> Iterator[str]:
    """The violations.

    - Every acknowledged message is stored, and none is stored twice.
    - At the end every client has each chat as it is stored, in its order.
    - Each socket has received a contiguous part of that, with nothing twice.
    """
    for room_id, log in logs.items():
        stored = dict(log)
        for message_id, content in ledger.acknowledged[room_id].items():
            if stored.get(message_id) != content:
                yield f"message {message_id}, {content!r}, was acknowledged and is not stored"
        if len(set(stored.values())) != len(log):
            yield f"chat {room_id} has a message twice"
    for listener in listeners:
        for room in listener.rooms:
            ids = [message_id for message_id, _ in logs[room.id]]
            received = listener.received[room.id]
            if received != ids:
                missing, extra = sorted(set(ids) - set(received))[:5], sorted(set(received) - set(ids))[:5]
                yield f"user {listener.person.id} missed {missing} in chat {room.id}; not stored: {extra}"
            for run in listener.runs:
                yield from _broken(run[room.id], ids)


def _broken(run: Sequence[int], ids: Sequence[int]) -> Iterator[str]:
    """The places where a socket's messages are not a contiguous part of the stored ones."""
    places = {message_id: place for place, message_id in enumerate(ids)}
    if lost := [message_id for message_id in run if message_id not in places]:
        yield f"a socket received messages {lost[:5]}, which are not stored"
        return
    for one, other in pairwise(run):
        if places[other] != places[one] + 1:
            yield f"a socket received message {other} after {one}"


# --- people -------------------------------------------------------------------------------------------------


async def _register(number: int, ask: Asking, ledger: Ledger) -> list[Somebody]:
    people: list[Somebody] = []

    async def register(caller: Caller, count: int) -> None:
        for _ in range(count):
            name = uuid4().hex
            body = f'{{"email": "{name}@test.com", "password": "{PASSWORD}", "display_name": "{name[:8]}"}}'
            request_bytes = request("POST", "/api/v1/auth/register", body=body.encode(), Idempotency_Key=name)
            signed_in, _ = await caller.insist(request_bytes, ledger)
            people.append(Somebody(signed_in["user"]["id"], signed_in["access_token"]))

    async with trio.open_nursery() as nursery:
        for part in range(4):
            nursery.start_soon(register, ask(part), (number + part) // 4)
    return people


async def _open_rooms(people: Sequence[Somebody], ask: Asking, ledger: Ledger) -> list[Room]:
    """Every client is in one direct chat, and in one group."""
    caller = ask(0)
    rooms = []
    for size, path in ((2, "/api/v1/chats/direct"), (GROUP, "/api/v1/chats")):
        for start in range(0, len(people), size):
            members = people[start : start + size]
            others = ", ".join(str(person.id) for person in members[1:])
            value = f'"user_id": {others}' if size == 2 else f'"title": "Siege", "member_ids": [{others}]'
            request_bytes = request("POST", path, token=members[0].token, body=f"{{{value}}}".encode())
            chat, _ = await caller.insist(request_bytes, ledger)
            rooms.append(Room(chat["id"], members))
    return rooms


async def _talk(
    plan: Plan, ask: Asking, rooms: Sequence[Room], ledger: Ledger, restarted: trio.Event
) -> None:
    """Send the planned number of messages, and more until all faults have happened."""
    pairs = [room for room in rooms if len(room.people) == 2]
    groups = [room for room in rooms if len(room.people) > 2]
    numbers = takewhile(lambda number: number < plan.messages or not restarted.is_set(), count())

    async def talk(caller: Caller) -> None:
        for number in numbers:
            among = groups if groups and number % 8 == 0 else pairs
            room = among[(number // 8 if among is groups else number) % len(among)]
            author = room.people[number % len(room.people)]
            await send(caller, room, author, f"{number:08d}-{uuid4()}", ledger)

    async with trio.open_nursery() as nursery:
        for sender in range(plan.senders):
            nursery.start_soon(talk, ask(sender))


# --- trouble ------------------------------------------------------------------------------------------------


async def _kill(plan: Plan, besieged: Besieged) -> None:
    """Kill one process after another, each once the previous one serves again; never the first."""
    while True:
        for member in besieged.members[1:]:
            await trio.sleep(plan.kill_every)
            await trio.to_thread.run_sync(member.kill)
            besieged.kills += 1
            with trio.CancelScope(shield=True):
                await trio.sleep(DOWN_SECONDS)
                await trio.to_thread.run_sync(partial(member.wait, "/health"))


async def _restart(plan: Plan, besieged: Besieged, ledger: Ledger, restarted: trio.Event) -> None:
    """Restart the bus after a quarter and three quarters of the messages, the database after half of them."""
    for quarter in (1, 2, 3):
        while ledger.count < plan.messages * quarter / 4:  # noqa: ASYNC110 - other tasks change it
            await trio.sleep(0.05)
        if quarter == 2:
            besieged.database_restarts += 1
            await trio.to_thread.run_sync(besieged.restart_database)
        else:
            besieged.bus_restarts += 1
            await trio.to_thread.run_sync(besieged.restart_bus)
    restarted.set()


def terminate(address: str, *, application: str | None = None) -> None:
    """End the connections to a database, of all applications or of one."""
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(
            """SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()
               AND pid <> pg_backend_pid() AND (%(name)s::text IS NULL OR application_name = %(name)s)""",
            {"name": application},
        )


@contextmanager
def broken_bus(kind: str, database: str) -> Iterator[tuple[str, Callable[[], None]]]:
    """The bus that `--bus` names, and a function that restarts it."""
    if kind == "postgresql":
        yield kind, partial(terminate, database, application="messaging bus")
        return
    broker = NatsServer(free_fixed_port())

    async def restart() -> None:
        await broker.stop()
        await trio.sleep(DOWN_SECONDS)
        await broker.start()

    trio.run(broker.start)
    try:
        yield f"nats://127.0.0.1:{broker.port}", partial(trio.run, restart)
    finally:
        trio.run(broker.stop)


# --- the report ---------------------------------------------------------------------------------------------


def report(besieged: Besieged, outcome: Outcome) -> str:
    ledger = outcome.ledger
    stayed = sum(len(listener.runs) == 1 for listener in outcome.listeners)
    cuts = quantiles(outcome.delays, n=1000)
    logged = [
        json.loads(line)
        for member in besieged.members
        for line in member.log_file.read_text(encoding="utf-8").splitlines()
        if line.startswith("{") and line.endswith("}")  # a killed process may leave an incomplete line
    ]
    from_log = sum(line["events"] for line in logged if line["event"] == "Delivered from the log")
    moved = sum(line["chats"] for line in logged if line["event"] == "Found chats that have moved on")
    lines: dict[str, Any] = {
        "messages acknowledged": f"{ledger.count}, {ledger.count / outcome.seconds:.0f}/s",
        "deliveries by a socket": len(outcome.delays),
        "processes killed": besieged.kills,
        "restarts of the bus, of the database": (besieged.bus_restarts, besieged.database_restarts),
        "sockets that stayed, of all": (stayed, len(outcome.listeners)),
        "sockets' ends by code, 0 without one": dict(ledger.closed),
        "sends that were repeated": ledger.repeated,
        "other responses, 0 for none": dict(ledger.refused),
        "ms from response to socket: p50, p99, p99.9, longest": tuple(
            round(1000 * delay, 1) for delay in (cuts[499], cuts[989], cuts[998], max(outcome.delays))
        ),
        "chats that comparisons found": moved,
        "events delivered from the log": from_log,
        "violations": outcome.faults[:10] or "none",
    }
    return "\n".join(f"{name}: {value}" for name, value in lines.items())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.server.siege", description=__doc__)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--sockets", type=int, default=200)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--bus", choices=["postgresql", "nats"], default="postgresql")
    parser.add_argument("--kill-every", type=float, default=3.0, metavar="SECONDS")
    arguments = parser.parse_args()
    plan = Plan(arguments.sockets, arguments.messages, kill_every=arguments.kill_every)
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="siege-"))
        database = stack.enter_context(cluster())
        upgrade_postgresql(database.address)
        bus, restart_bus = stack.enter_context(broken_bus(arguments.bus, database.address))
        members = stack.enter_context(fleet(directory, database.address, bus, count=arguments.processes))
        besieged = Besieged(members, restart_bus, database.restart)
        outcome = trio.run(besiege, plan, besieged)
        sys.stdout.write(f"{report(besieged, outcome)}\nlogs: {directory}\n")
    sys.exit(bool(outcome.faults))


if __name__ == "__main__":
    main()
