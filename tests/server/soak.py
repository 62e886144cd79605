"""Many sockets that drop and return while everything changes and processes are killed: nothing may be missed.

    python -m tests.server.soak [--sockets 500] [--seconds 60] [--kills 2]

Two servers on a new PostgreSQL database. Each socket is a device of profile 2, which connects to either
server, loses its connection after a while without a close frame, and comes back; half of the people have two
devices. Meanwhile people send, edit and delete messages, and change groups and their members. At the end
every device must show what a fresh fetch shows.
"""

import argparse
import json
import logging
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import httpx
import trio
from attrs import define, field, frozen
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketConnection, connect_websocket_url

from tests.frames import check_frame
from tests.patience import PATIENCE
from tests.postgresql import new_database_with_tables
from tests.runtime.devices import API, Account, Connection, Device, register
from tests.runtime.stage import ACTS, Stage, Step
from tests.server.fleet import Member, fleet

ACTS_PER_SECOND = 40
CHATS = 40
"""Groups with which it begins; a person is in about eight."""
GROUP = 10
"""People of a group at its beginning."""
ONLINE_SECONDS = (0.5, 10.0)
OFFLINE_SECONDS = (0.0, 4.0)
UNREACHABLE = (httpx.TransportError, OSError, HandshakeError, ConnectionClosed)
"""What a client meets while a server is away."""


@frozen
class WebSocket:
    """A device's connection over a real port."""

    connection: WebSocketConnection

    async def send(self, frame: Any) -> None:
        await self.connection.send_message(json.dumps(frame))

    async def receive(self) -> Any:
        try:
            return check_frame(await self.connection.get_message())
        except ConnectionClosed:
            await self.close()
            return None

    async def close(self) -> None:
        """Cut the connection, without a close frame."""
        await self.connection._stream.aclose()  # the library closes with a handshake only


@define(eq=False)
class Server:
    """A server of the fleet, as `tests.runtime.devices.Place`."""

    nursery: trio.Nursery
    member: Member
    http: httpx.AsyncClient
    statuses: Counter[int] = field(factory=Counter)

    async def request(
        self, method: str, path: str, body: object = None, *, account: Account | None = None
    ) -> tuple[int, Any]:
        whole = path if path.startswith(API) else f"{API}{path}"
        headers = {} if account is None else {"Authorization": f"Bearer {account.access_token}"}
        try:
            response = await self.http.request(
                method, self.member.address + whole, json=body, headers=headers, timeout=PATIENCE
            )
        except UNREACHABLE:
            return 0, None  # whether it was carried out is not known
        self.statuses[response.status_code] += 1
        return response.status_code, response.json() if response.content else None

    async def connect(self, account: Account) -> Connection:
        address = self.member.address.replace("http", "ws", 1)
        url = f"{address}/ws?token={account.access_token}&profile=2&resume=1"
        return WebSocket(await connect_websocket_url(self.nursery, url, max_message_size=1 << 24))


@define(eq=False)
class Soak:
    """The people, their devices, and what happens to them."""

    servers: Sequence[Server]
    random: Random
    stage: Stage
    connections: int = 0
    acts: Counter[str] = field(factory=Counter)

    async def begin(self, sockets: int) -> None:
        """Create the accounts, the chats and the devices."""
        people = max(GROUP, sockets * 2 // 3)
        for number in range(people):
            self.stage.people.append(await register(self.servers[number % 2], f"person{number}"))
        for number in range(sockets):
            account = self.stage.people[number % people]
            self.stage.devices.append(Device(account, opens_chats=number % 5 != 0))
        for number in range(min(CHATS, people)):
            members = [self.random.choice(self.stage.people).user_id for _ in range(GROUP)]
            body = {"title": f"Group {number}", "member_ids": members, "history": "all"}
            status, chat = await self.servers[0].request(
                "POST", "/chats", body, account=self.stage.people[number]
            )
            assert status == 201, chat
            self.stage.chats.append(chat["id"])

    async def come_and_go(self, device: Device) -> None:
        """Connect and lose the connection, for ever."""
        while True:
            await trio.sleep(self.random.uniform(*OFFLINE_SECONDS))
            try:
                with trio.CancelScope(shield=True):  # a cancelled handshake would leave the connection open
                    await device.connect(self.random.choice(self.servers))
            except UNREACHABLE:
                continue
            self.connections += 1
            await trio.sleep(self.random.uniform(*ONLINE_SECONDS))
            await device.disconnect()

    async def act(self) -> None:
        """Change something, for ever: mostly messages, and sometimes a group."""
        while True:
            what = self.random.choice(["send"] * 20 + ["edit"] * 6 + ["erase"] * 3 + list(ACTS))
            if what != "delete_group" or self.random.random() < 0.1:
                await self.stage.act(self.step(what))
                self.acts[what] += 1
            await trio.sleep(self.random.expovariate(ACTS_PER_SECOND / ACTORS))

    def step(self, what: str) -> Step:
        """A step of somebody in a chat of theirs, as one of their devices shows it."""
        stage, random = self.stage, self.random
        number = random.randrange(len(stage.devices))
        held = list(stage.devices[number].client.chats.values())
        own = stage.devices[number].account.user_id
        chat_id = random.choice(held).chat["id"] if held else stage.chats[0]
        sent = [
            message["id"]
            for each in held
            for message in each.messages.values()
            if message["author_id"] == own and message["id"] in stage.messages
        ]
        newest = len(stage.messages) - 1
        return Step(
            what,
            random.randrange(2),
            number % len(stage.people),
            random.randrange(len(stage.people)),
            stage.chats.index(chat_id) if chat_id in stage.chats else 0,
            newest - stage.messages.index(random.choice(sent)) if sent else random.randrange(50),
        )

    async def kill(self, server: Server) -> None:
        """Kill a server, and start it again."""
        server.member.kill()
        await trio.sleep(self.random.uniform(0, 2))
        server.member.start()
        await trio.to_thread.run_sync(server.member.wait)


ACTORS = 8


async def soak(members: Sequence[Member], *, sockets: int, seconds: float, kills: int, seed: int) -> str:
    """Play it; what happened. Raises `AssertionError` if a device misses anything."""
    random = Random(seed)
    limits = httpx.Limits(max_connections=60)
    async with httpx.AsyncClient(limits=limits, trust_env=False) as http, trio.open_nursery() as nursery:
        servers = [Server(nursery, member, http) for member in members]
        play = Soak(servers, random, Stage(servers, random, (0.0,)))
        await play.begin(sockets)
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as busy:
                for device in play.stage.devices:
                    busy.start_soon(play.come_and_go, device)
                for _ in range(ACTORS):
                    busy.start_soon(play.act)
                for number in range(kills):
                    await trio.sleep(seconds / (kills + 1))
                    await play.kill(servers[number % 2])
                await trio.sleep_forever()
        for server in servers:
            await trio.to_thread.run_sync(server.member.wait)
        began = trio.current_time()
        await play.stage.settle(PATIENCE, is_lossy=True)
        settled = trio.current_time() - began
        for device in play.stage.devices:
            await device.disconnect()
        nursery.cancel_scope.cancel()
    done = ", ".join(f"{count} {what}" for what, count in play.acts.most_common())
    statuses = sum((server.statuses for server in servers), Counter[int]())
    return (
        f"{play.connections} connections of {sockets} devices, {kills} kills; all show what a fresh fetch "
        f"shows, {settled:.1f} s after the end\nrequests: {done}\nstatuses: {dict(statuses)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sockets", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bus", default="postgresql")
    arguments = parser.parse_args()
    logging.disable()
    with (
        tempfile.TemporaryDirectory() as directory,
        new_database_with_tables("soak") as database,
        fleet(Path(directory), database, arguments.bus, "--log-level", "warning") as members,
    ):
        played = partial(
            soak,
            members,
            sockets=arguments.sockets,
            seconds=arguments.seconds,
            kills=arguments.kills,
            seed=arguments.seed,
        )
        sys.stdout.write(trio.run(played) + "\n")


if __name__ == "__main__":
    main()
