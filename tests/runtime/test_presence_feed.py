"""Sockets receive the presence of the people whom they watch, and of nobody else."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from trio.abc import Clock
from trio.testing import MockClock

from adapters.runtime import Subscription
from adapters.runtime.presence_feed import COMPARE_SECONDS
from adapters.storage_memory import MemoryStorage
from messaging_core import operations
from messaging_core.ports import StorageUnavailable
from messaging_core.presence import LEASE
from tests.runtime.devices import LIMITS, Account, Line, LineConnection, Process, processes, register

GRACE = LIMITS.presence_grace.total_seconds()
SOON = 2 * COMPARE_SECONDS
PEOPLE = 4


class Counting(MemoryStorage):
    """A storage that counts the reads of presence, and is slow or fails on demand."""

    reads = 0
    pause = 0.0
    failure: Exception | None = None

    async def read(self, query: Any) -> Any:
        self.reads += getattr(query, "__qualname__", "").startswith(operations.presences.__name__)
        await trio.sleep(self.pause)
        if self.failure is not None:
            raise self.failure
        return await super().read(query)


class Town:
    """Two processes on one storage, four people, and the connections of those who watch."""

    def __init__(self, storage: Counting, both: list[Process], people: list[Account]) -> None:
        self.storage = storage
        self.here, self.there = both
        self.people = people
        self.chats: dict[int, int] = {}
        """Of each person who shares a chat with the first one, the chat."""
        self._sockets: dict[int, Subscription] = {}

    async def group(self, *members: int) -> int:
        owner, *others = [self.people[number] for number in members]
        body = {"title": "Group", "member_ids": [each.user_id for each in others]}
        status, chat = await self.here.request("POST", "/chats", body, account=owner)
        assert status == 201, chat
        return int(chat["id"])

    async def leave(self, chat: int, number: int) -> None:
        account = self.people[number]
        path = f"/chats/{chat}/members/{account.user_id}"
        assert (await self.here.request("DELETE", path, account=account))[0] == 204

    async def open(self, number: int, process: Process | None = None) -> tuple[Subscription, Line]:
        connection = await (process or self.here).connect(self.people[number])
        assert isinstance(connection, LineConnection)
        hello = await connection.receive()
        await connection.send({"event": "resume", "data": {"log": hello["data"]["log"], "chats": {}}})
        return connection.socket, connection.line

    def watch(self, socket: Subscription, *numbers: int) -> None:
        user_ids = [self.people[number].user_id if number < PEOPLE else 10_000 for number in numbers]
        socket.receive(json.dumps({"event": "watch", "data": {"user_ids": user_ids}}))

    async def play(self, what: str, number: int, socket: Subscription) -> None:
        """One thing that somebody does, if they can; the last one is the first person's `socket`."""
        match what:
            case "open" if number not in self._sockets:
                self._sockets[number], _ = await self.open(number, self.there)
            case "close" if number in self._sockets:
                self._sockets.pop(number).end()
            case "meet" if number not in self.chats:
                self.chats[number] = await self.group(0, number)
            case "leave" if number in self.chats:
                await self.leave(self.chats.pop(number), number)
            case "watch":
                self.watch(socket, *range(PEOPLE))

    def shown(self, line: Line) -> list[tuple[int, str]]:
        """Of whom the connection has received what since the last call, in this order."""
        numbers = {account.user_id: number for number, account in enumerate(self.people)}
        found = []
        while line.frames.statistics().current_buffer_used:
            frame = line.frames.receive_nowait()
            if frame["event"] == "presence":
                found.append((numbers[frame["data"]["user_id"]], frame["data"]["status"]))
        return found


@asynccontextmanager
async def town() -> AsyncIterator[Town]:
    storage = Counting()
    async with processes([storage, storage]) as both:
        people = [await register(both[0], f"person{number}") for number in range(PEOPLE)]
        yield Town(storage, both, people)


async def test_the_presence_of_watched_people_is_sent_at_once_and_when_it_changes(
    autojump_clock: Clock,
) -> None:
    """Wherever they have a socket; neither a reload nor the passing of time is a change."""
    async with town() as the:
        await the.group(0, 1, 2)
        await the.group(0, 3)
        socket, line = await the.open(0)
        the.watch(socket, 1, 2, 1)
        await trio.sleep(1)
        assert sorted(the.shown(line)) == [(1, "offline"), (2, "offline")]
        there, _ = await the.open(1, the.there)
        here, _ = await the.open(2)
        await the.open(3)
        await trio.sleep(SOON)
        assert sorted(the.shown(line)) == [(1, "online"), (2, "online")]
        there.end()
        await trio.sleep(GRACE / 2)
        again, _ = await the.open(1)
        await trio.sleep(5 * GRACE)
        assert the.shown(line) == []
        again.end()
        here.end()
        await trio.sleep(GRACE + LEASE.total_seconds())
        assert sorted(the.shown(line)) == [(1, "offline"), (2, "offline")]
        the.watch(socket, 0, 3)
        await trio.sleep(1)
        assert sorted(the.shown(line)) == [(0, "online"), (3, "online")]


async def test_nobody_sees_a_stranger(autojump_clock: Clock) -> None:
    """Who shares no chat, or none any more, is not shown, and looks like a person who does not exist."""
    async with town() as the:
        chat = await the.group(0, 1)
        socket, line = await the.open(0)
        the.watch(socket, 1, 2, PEOPLE)
        await trio.sleep(1)
        assert the.shown(line) == [(1, "offline")]
        await the.leave(chat, 1)
        others = [(await the.open(number))[0] for number in (1, 2)]
        await trio.sleep(SOON)
        assert the.shown(line) == []
        await the.group(0, 2)
        for other in others:
            other.end()
        await trio.sleep(GRACE + SOON)
        assert the.shown(line) == [(2, "offline")], "from the next change on, who shares a chat by then"


@settings(max_examples=10, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["open", "close", "meet", "leave", "watch", "wait"]), st.integers(1, PEOPLE - 1)
        ),
        max_size=10,
    )
)
def test_what_is_shown_is_what_rest_shows(steps: list[tuple[str, int]]) -> None:
    """Whatever people do: each frame agrees with `GET /presence/{user_id}` at its time."""

    async def play() -> None:
        async with town() as the:
            socket, line = await the.open(0)
            for what, number in steps:
                await the.play(what, number, socket)
                await trio.sleep(2 * GRACE if what == "wait" else SOON)
                for found, status in dict(the.shown(line)).items():
                    assert found == 0 or found in the.chats, "a stranger was shown"
                    path = f"/presence/{the.people[found].user_id}"
                    _, presence = await the.here.request("GET", path, account=the.people[0])
                    assert presence["status"] == status

    trio.run(play, clock=MockClock(autojump_threshold=0))


async def test_where_nobody_watches_nothing_is_read(autojump_clock: Clock) -> None:
    """Neither before the first list, nor after an empty one, nor for closed sockets."""
    async with town() as the:
        await the.group(0, 1)
        (socket, _), (other, _) = await the.open(0), await the.open(1)
        await trio.sleep(1000)
        assert the.storage.reads == 0
        the.watch(socket, 1)
        the.watch(other, 0)
        await trio.sleep(SOON)
        assert the.storage.reads > 0
        the.watch(socket)
        other.end()
        await trio.sleep(1)
        reads = the.storage.reads
        await trio.sleep(1000)
        assert the.storage.reads == reads


async def test_only_the_last_of_many_lists_is_read(autojump_clock: Clock) -> None:
    """A client that sends list after list costs what one list costs."""
    async with town() as the:
        await the.group(0, 1, 2)
        socket, line = await the.open(0)
        for _ in range(50):
            the.watch(socket, 1)
        the.watch(socket, 2)
        await trio.sleep(1)
        assert (the.shown(line), the.storage.reads) == ([(2, "offline")], 1)


async def test_a_list_that_is_replaced_while_it_is_read_for(autojump_clock: Clock) -> None:
    """Nothing is sent of it any more."""
    async with town() as the:
        await the.group(0, 1, 2)
        socket, line = await the.open(0)
        the.storage.pause = 1.0
        the.watch(socket, 1)
        await trio.sleep(1.5)  # it is asked who may be seen
        the.watch(socket, 2)
        await trio.sleep(SOON)
        assert the.shown(line) == [(2, "offline")]


@pytest.mark.parametrize(
    ("failure", "levels"),
    [(StorageUnavailable("no disk"), ["warning"]), (RuntimeError("a defect"), ["error"] * 5)],
)
async def test_a_failure_loses_nothing(failure: Exception, levels: list[str], autojump_clock: Clock) -> None:
    """What could not be read is read later; an outage of the storage is logged once."""
    async with town() as the:
        await the.group(0, 1)
        socket, line = await the.open(0)
        await trio.sleep(1)
        the.storage.failure = failure
        the.watch(socket, 1)
        with capture_logs() as logs:
            await trio.sleep(4.5 * COMPARE_SECONDS)
        said = [each for each in logs if each["event"].startswith("Presence cannot be read")]
        assert [each["log_level"] for each in said] == levels
        the.storage.failure = None
        await trio.sleep(SOON)
        assert the.shown(line) == [(1, "offline")]


async def test_a_fault_of_one_connection_is_logged(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are sent what is theirs."""
    async with town() as the:
        await the.group(0, 1, 2)
        (broken, wrong), (socket, line) = await the.open(0), await the.open(1)
        await trio.sleep(1)
        monkeypatch.setattr(wrong, "offer", None)
        the.watch(broken, 2)
        the.watch(socket, 2)
        with capture_logs() as logs:
            await trio.sleep(1)
        assert the.shown(line) == [(2, "offline")]
        assert "A WebSocket could not be written to" in [each["event"] for each in logs]


async def test_a_full_socket_receives_it_once_it_has_room(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Presence waits for half of the outbox, and is what it is by then."""
    async with town() as the:
        await the.group(0, 1)
        socket, line = await the.open(0)
        await trio.sleep(1)
        room, offer = trio.Event(), line.offer

        async def write(frames: bytes) -> None:
            await room.wait()
            offer(frames)

        monkeypatch.setattr(line, "offer", lambda _: 0)
        monkeypatch.setattr(line, "write", write)
        for _ in range(LIMITS.outbox_frames // 2 + 1):
            socket.receive('{"event":"ping"}')
        the.watch(socket, 1)
        await trio.sleep(1)
        await the.open(1)
        await trio.sleep(SOON)
        room.set()
        await trio.sleep(SOON)
        assert the.shown(line) == [(1, "online")]
