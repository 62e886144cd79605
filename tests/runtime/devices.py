"""People with several devices: clients of profile 2 over several processes, compared with a fresh fetch."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from random import Random
from typing import Any, Protocol

import trio
from attrs import define, field, frozen

from adapters.http_api.api import HttpApi
from adapters.http_api.config import ApiConfig
from adapters.http_api.exchange import HttpRequest
from adapters.http_api.sockets import FULL
from adapters.http_api.wire import encode
from adapters.runtime import Hub, Messaging, Subscription
from messaging_core.client import Client, ClientEffect, Fetch, Reconnect, SendFrame
from messaging_core.limits import Limits
from messaging_core.ports import Bus, Storage
from messaging_core.sockets import payloads
from messaging_core.testing.memory_bus import Faults, MemoryBroker
from tests.bus.world import NOW, PlainHasher, PlainSigner, plain_email
from tests.frames import check_frame

API = "/api/v1"

# --- what a device needs ------------------------------------------------------------------------------------


@frozen
class Account:
    """A person with an account."""

    user_id: int
    access_token: str


class Connection(Protocol):
    """An open socket of profile 2 that resumes."""

    async def send(self, frame: Any) -> None: ...

    async def receive(self) -> Any:
        """The next frame; None once the connection is over."""

    async def close(self) -> None:
        """Lose the connection."""


class Place(Protocol):
    """A process to connect to; `nursery` runs the tasks of devices."""

    nursery: trio.Nursery

    async def request(
        self, method: str, path: str, body: object = None, *, account: Account | None = None
    ) -> tuple[int, Any]:
        """The status of the response, and its body; `path` is below the API's, or whole.

        The status is 0 without a response.
        """

    async def connect(self, account: Account) -> Connection: ...


async def register(place: Place, name: str) -> Account:
    body = {"email": f"{name}@test.com", "password": "password123", "display_name": name}
    status, signed_in = await place.request("POST", "/auth/register", body)
    assert status == 201, signed_in
    return Account(signed_in["user"]["id"], signed_in["access_token"])


@define(eq=False)
class Device:
    """A client of a person, on a connection to one of the processes, or on none."""

    account: Account
    client: Client = field(factory=Client)
    opens_chats: bool = True
    """Whether it fetches the history of every chat."""
    names: set[str] = field(factory=set)
    """The names of the frames that it has received."""
    _connection: Connection | None = None
    _scope: trio.CancelScope | None = None

    @property
    def is_connected(self) -> bool:
        return self._connection is not None

    async def connect(self, place: Place) -> None:
        self._connection = await place.connect(self.account)
        self._scope = trio.CancelScope()
        place.nursery.start_soon(self._receive, self._connection, self._scope, place)

    async def disconnect(self) -> None:
        """Lose the connection, and the frames on the way."""
        if self._connection is not None and self._scope is not None:
            self._scope.cancel()
            await self._connection.close()
            self._over()

    def _over(self) -> None:
        self.client.disconnected()
        self._connection = self._scope = None

    async def _receive(self, connection: Connection, scope: trio.CancelScope, place: Place) -> None:
        with scope:
            while (frame := await connection.receive()) is not None:
                self.names.add(frame["event"])
                await self._do(self.client.receive(frame), place)
                if self.opens_chats:
                    for chat_id in list(self.client.chats):
                        await self._do(self.client.open_chat(chat_id), place)
            self._over()

    async def _do(self, effects: tuple[ClientEffect, ...], place: Place) -> None:
        for effect in effects:
            match effect:
                case SendFrame(frame):
                    if self._connection is not None:
                        await self._connection.send(frame)
                case Fetch(path):
                    place.nursery.start_soon(self._fetch, effect, path, place)
                case Reconnect():
                    raise AssertionError("the log has not changed")

    async def _fetch(self, fetch: Fetch, path: str, place: Place) -> None:
        status = 0
        body: Any = None
        while status == 0:
            status, body = await place.request("GET", path, account=self.account)
            if status == 0:
                await trio.sleep(0.5)
        if status == 200:
            await self._do(self.client.fetched(fetch, body), place)

    async def fresh(self, place: Place) -> dict[int, Any]:
        """What a client without a state fetches: each chat and, if it opens chats, its newest page."""
        _, chats = await place.request("GET", "/chats", account=self.account)
        found = {}
        for chat in chats:
            path = f"/messages?chat_id={chat['id']}&limit={COMPARED}"
            _, page = await place.request("GET", path, account=self.account)
            found[chat["id"]] = (chat, page["messages"] if self.opens_chats else None)
        return found

    def shown(self) -> dict[int, Any]:
        """What the client shows; without a history, if it opens no chats."""
        return {
            chat_id: ({**held.chat}, list(held.history[:COMPARED]) if self.opens_chats else None)
            for chat_id, held in self.client.chats.items()
        }

    async def converges(self, place: Place, within: float, *, but: Sequence[str] = ()) -> None:
        """Wait until the client shows what a fresh fetch shows; fail with the difference if it never does.

        `but` names fields of chats that are not compared.
        The last events of a chat may be hidden from its reader, so that no frame has had their numbers.
        """
        fresh: dict[int, Any] = {}
        shown: dict[int, Any] = {}
        with trio.move_on_after(within):
            while True:
                fresh, shown = await self.fresh(place), self.shown()
                for chat_id in fresh.keys() & shown.keys():
                    assert shown[chat_id][0].pop("sequence") <= fresh[chat_id][0].pop("sequence")
                    for name in but:
                        del shown[chat_id][0][name], fresh[chat_id][0][name]
                if self.client.is_live and fresh == shown:
                    return
                await trio.sleep(0.2)
        assert self.client.is_live, "everything that was missed has not arrived"
        assert shown == fresh, "\n".join(_differences(shown, fresh, f"user {self.account.user_id}"))


def _differences(shown: Any, fresh: Any, where: str) -> Iterator[str]:
    """Where two JSON values differ."""
    if isinstance(shown, dict) and isinstance(fresh, dict):
        for key in shown.keys() | fresh.keys():
            yield from _differences(shown.get(key), fresh.get(key), f"{where}, {key}")
    elif isinstance(shown, list | tuple) and isinstance(fresh, list | tuple) and len(shown) == len(fresh):
        for number, pair in enumerate(zip(shown, fresh, strict=True)):
            yield from _differences(*pair, f"{where}, {number}")
    elif shown != fresh:
        yield f"{where}: shown {shown!r}, fresh {fresh!r}"


COMPARED = 50
"""Messages of each chat that are compared: a client fetches as many when it opens a chat."""

# --- processes without a network ----------------------------------------------------------------------------

LIMITS = Limits(sockets_per_user=100, resumed_events=8)
"""A client that has missed more events of a chat is sent the chat anew."""


class Line:
    """The hub's side of a connection, which accepts everything at once."""

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


@frozen
class LineConnection:
    """The device's side of such a connection."""

    socket: Subscription
    line: Line

    async def send(self, frame: Any) -> None:
        await trio.lowlevel.checkpoint()
        self.socket.receive(json.dumps(frame))

    async def receive(self) -> Any:
        try:
            return await self.line.frames.receive()
        except trio.EndOfChannel:
            return None

    async def close(self) -> None:
        self.socket.end()
        await trio.lowlevel.checkpoint()


class Process:
    """One process: its sockets, and its API."""

    def __init__(self, nursery: trio.Nursery, storage: Storage, bus: Bus, *, began: float) -> None:
        self.nursery = nursery
        self._messaging = Messaging(
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
        self._api = HttpApi(self._messaging, ApiConfig(rate_limits=False), trio.current_time)
        nursery.start_soon(self._messaging.keep_house)

    async def request(
        self, method: str, path: str, body: object = None, *, account: Account | None = None
    ) -> tuple[int, Any]:
        whole = path if path.startswith(API) else f"{API}{path}"
        name, _, query = whole.partition("?")
        headers = {} if account is None else {"authorization": f"Bearer {account.access_token}"}
        route = self._api.route(method, name)
        assert route is not None, (method, name)
        content = b"" if body is None else json.dumps(body).encode()
        response = await route.respond(HttpRequest(method, name, query.encode(), headers, content))
        return response.status, json.loads(response.body) if response.body else None

    async def connect(self, account: Account) -> Connection:
        socket = await self._messaging.connect(account.access_token, FULL, resumes=True)
        line = Line(self.nursery)
        socket.attach(line)
        return LineConnection(socket, line)


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
