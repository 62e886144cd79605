"""People with several devices: clients of profile 2 over several processes, compared with a fresh fetch."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from random import Random
from typing import Any

import trio
from attrs import define, field

from adapters.http_api.api import HttpApi
from adapters.http_api.config import ApiConfig
from adapters.http_api.exchange import HttpRequest, HttpResponse
from adapters.http_api.sockets import FULL
from adapters.http_api.wire import encode
from adapters.runtime import Hub, Messaging, Subscription
from messaging_core.client import Client, ClientEffect, Fetch, Reconnect, SendFrame
from messaging_core.limits import Limits
from messaging_core.models import Actor
from messaging_core.ports import Bus, Storage
from messaging_core.sockets import payloads
from messaging_core.testing.memory_bus import Faults, MemoryBroker
from tests.bus.world import NOW, PlainHasher, PlainSigner, plain_email, token
from tests.frames import check_frame

API = "/api/v1"

LIMITS = Limits(sockets_per_user=100, resumed_events=8)
"""A client that has missed more events of a chat is sent the chat anew."""


class Line:
    """A connection that accepts everything at once, and passes it on, frame by frame."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._send, self.frames = trio.open_memory_channel[Any](10_000)

    def offer(self, frames: bytes) -> int:
        for payload in payloads(frames):
            self._send.send_nowait(check_frame(payload))
        return len(frames)

    async def write(self, frames: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.offer(frames)

    async def close(self, code: int, reason: str) -> None:
        await trio.lowlevel.checkpoint()
        self._send.close()

    def start_soon(self, task: Callable[[], Awaitable[None]]) -> None:
        self._nursery.start_soon(task)


class Process:
    """One process: its sockets, and its API without a network."""

    def __init__(self, nursery: trio.Nursery, storage: Storage, bus: Bus, *, began: float) -> None:
        self.nursery = nursery
        self.messaging = Messaging(
            storage=storage,
            hub=Hub(LIMITS, encode),
            signer=PlainSigner(),
            hasher=PlainHasher(),
            parse_email=plain_email,
            limits=LIMITS,
            now=lambda: NOW + timedelta(seconds=int(trio.current_time() - began)),
            random_bytes=bytes,
            bus=bus,
        )
        self._api = HttpApi(self.messaging, ApiConfig(rate_limits=False), trio.current_time)
        nursery.start_soon(self.messaging.keep_house)

    async def request(
        self, method: str, path: str, body: object = None, *, actor: Actor | None = None
    ) -> HttpResponse:
        """The response to a request of `actor`; `path` is below the API's, or whole."""
        whole = path if path.startswith(API) else f"{API}{path}"
        place, _, query = whole.partition("?")
        headers = {} if actor is None else {"authorization": f"Bearer {token(actor)}"}
        route = self._api.route(method, place)
        assert route is not None, (method, place)
        content = b"" if body is None else json.dumps(body).encode()
        return await route.respond(HttpRequest(method, place, query.encode(), headers, content))

    async def register(self, name: str) -> Actor:
        body = {"email": f"{name}@test.com", "password": "password123", "display_name": name}
        response = await self.request("POST", "/auth/register", body)
        assert response.status == 201, response
        access_token = json.loads(response.body)["access_token"]
        return await self.messaging.authenticate(access_token)


@define(eq=False)
class Device:
    """A client of a person, on a connection to one of the processes, or on none."""

    actor: Actor
    client: Client = field(factory=Client)
    process: Process | None = None
    opens_chats: bool = True
    """Whether it fetches the history of every chat."""
    names: set[str] = field(factory=set)
    """The names of the frames that it has received."""
    _socket: Subscription | None = None
    _scope: trio.CancelScope | None = None

    async def connect(self, process: Process) -> None:
        self.process = process
        self._socket = await process.messaging.connect(token(self.actor), FULL, resumes=True)
        self._scope = trio.CancelScope()
        line = Line(process.nursery)
        self._socket.attach(line)
        process.nursery.start_soon(self._receive, line, self._scope, process)

    def disconnect(self) -> None:
        """Lose the connection: frames on the way are lost, and the client does not learn how many."""
        if self.process is not None and self._socket is not None and self._scope is not None:
            self.process.messaging.hub.disconnect(self._socket)
            self._scope.cancel()
            self.client.disconnected()
        self.process = self._socket = self._scope = None

    async def _receive(self, line: Line, scope: trio.CancelScope, process: Process) -> None:
        with scope:
            async for frame in line.frames:
                self.names.add(frame["event"])
                await self._do(self.client.receive(frame), process)
                if self.opens_chats:
                    for chat_id in list(self.client.chats):
                        await self._do(self.client.open_chat(chat_id), process)

    async def _do(self, effects: tuple[ClientEffect, ...], process: Process) -> None:
        for effect in effects:
            match effect:
                case SendFrame(frame):
                    assert self._socket is not None
                    self._socket.receive(json.dumps(frame))
                case Fetch(path):
                    process.nursery.start_soon(self._fetch, effect, path, process)
                case Reconnect():
                    raise AssertionError("the log has not changed")

    async def _fetch(self, fetch: Fetch, path: str, process: Process) -> None:
        response = await process.request("GET", path, actor=self.actor)
        if response.status == 200:
            await self._do(self.client.fetched(fetch, json.loads(response.body)), process)

    async def fresh(self, process: Process) -> dict[int, Any]:
        """What a client without a state fetches: each chat and, if it opens chats, its history."""
        chats = json.loads((await process.request("GET", "/chats", actor=self.actor)).body)
        found = {}
        for chat in chats:
            path = f"/messages?chat_id={chat['id']}&limit=200"
            page = json.loads((await process.request("GET", path, actor=self.actor)).body)
            found[chat["id"]] = (chat, page["messages"] if self.opens_chats else None)
        return found

    def shown(self) -> dict[int, Any]:
        """What the client shows; without a history, if it opens no chats."""
        return {
            chat_id: ({**held.chat}, list(held.history) if self.opens_chats else None)
            for chat_id, held in self.client.chats.items()
        }

    async def converges(self, process: Process, within: float) -> None:
        """Wait until the client shows what a fresh fetch shows; fail with the difference if it never does.

        The last events of a chat may be hidden from its reader, so that no frame has had their numbers.
        """
        fresh: dict[int, Any] = {}
        shown: dict[int, Any] = {}
        with trio.move_on_after(within):
            while True:
                fresh, shown = await self.fresh(process), self.shown()
                for chat_id in fresh.keys() & shown.keys():
                    assert shown[chat_id][0].pop("sequence") <= fresh[chat_id][0].pop("sequence")
                if self.client.is_live and fresh == shown:
                    return
                await trio.sleep(0.2)
        assert shown == fresh
        assert self.client.is_live


@asynccontextmanager
async def processes(
    storages: Sequence[Storage], random: Random | None = None, faults: Faults | None = None
) -> AsyncIterator[list[Process]]:
    """Processes, one for each of the storages, which are of one database, on a bus with faults."""
    broker = MemoryBroker(random or Random(0), faults or Faults())
    async with trio.open_nursery() as nursery:
        began = trio.current_time()
        yield [Process(nursery, storage, broker.bus(), began=began) for storage in storages]
        nursery.cancel_scope.cancel()
