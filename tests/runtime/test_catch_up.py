"""Sockets of profile 2 catch up: whatever the interleaving, a chat's events come in order, and all of them.

Over the memory storage, with real frames, on a clock that does not wait.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest
import trio
from trio.abc import Clock

from adapters.http_api.api import HttpApi
from adapters.http_api.config import ApiConfig
from adapters.http_api.sockets import FULL
from adapters.http_api.wire import encode
from adapters.runtime import Hub, Messaging, Subscription
from adapters.runtime.catch_up import EVENTS_AT_ONCE, RESYNCS_PER_SECOND
from adapters.runtime.hub import TOO_MANY_MESSAGES
from adapters.storage_memory import MemoryStorage
from messaging_core import operations
from messaging_core.effects import Deliver, DeliverEphemeral
from messaging_core.events import MemberSubject
from messaging_core.ids import ChatId, SessionId, UserId
from messaging_core.limits import Limits, Rate
from messaging_core.models import Actor, Message
from messaging_core.ports import Bus, StorageUnavailable
from messaging_core.positions import may_see
from messaging_core.profiles import Close
from messaging_core.sockets import OUR_FAULT, RESUME_LATE, payloads
from messaging_core.testing.memory_bus import Faults, MemoryBroker
from tests.bus.world import NOW, PlainHasher, PlainSigner, Process, SlowStorage, plain_email, token
from tests.frames import check_frame

LIMITS = Limits(sockets_per_user=100, outbox_frames=40, message_rate=Rate(per_second=1e-3, burst=10))


class Line:
    """A connection that accepts some bytes at once, and the rest after a while."""

    def __init__(self, nursery: trio.Nursery, random: Random | None = None) -> None:
        self.closed: Close | None = None
        self.blocked = False
        self._nursery = nursery
        self._random = random
        self._begun = b""
        """What was accepted in part, and is received whole by the next write."""
        self._received = b""
        self.changed = trio.Event()

    def _receive(self, frames: bytes) -> None:
        self._received += frames
        self.changed.set()
        self.changed = trio.Event()

    def offer(self, frames: bytes) -> int:
        size = len(frames)
        if self.blocked:
            return 0
        accepted = size if self._random is None else self._random.choice([size, size, 0, min(9, size)])
        if accepted == size:
            self._receive(frames)
        elif accepted:
            self._begun = frames
        return accepted

    async def write(self, frames: bytes) -> None:
        if self.blocked:
            await trio.sleep_forever()
        if self._random is not None:
            await trio.sleep(self._random.choice([0, 0.01, 0.3]))
        await trio.lowlevel.checkpoint()
        self._receive(self._begun + frames)
        self._begun = b""

    async def close(self, code: int, reason: str) -> None:
        await trio.lowlevel.checkpoint()
        self.closed = Close(code, reason)

    def start_soon(self, task: Callable[[], Awaitable[None]]) -> None:
        self._nursery.start_soon(task)

    @property
    def frames(self) -> list[Any]:
        return [check_frame(payload) for payload in payloads(self._received)]

    def named(self, *events: str) -> list[Any]:
        return [frame for frame in self.frames if frame["event"] in events]

    async def until(self, event: str, count: int = 1) -> list[Any]:
        """All frames, once so many of this event have come."""
        with trio.fail_after(1000):
            while len(self.named(event)) < count:
                await self.changed.wait()
        return self.frames


class Lossy(Hub):
    """A hub that loses some deliveries, as the bus may."""

    random: Random | None = None

    def deliver(self, delivery: Deliver | DeliverEphemeral) -> None:
        if self.random is None or self.random.random() > 0.2:
            super().deliver(delivery)


class Scene(Process):
    """One process over a storage that takes its time, and its sockets of profile 2."""

    async def full(self, actor: Actor, line: Line, *, resumes: bool = False) -> Subscription:
        socket = await self.messaging.connect(token(actor), FULL, resumes=resumes)
        socket.attach(line)
        return socket

    @property
    def log(self) -> str:
        return self.messaging._storage.incarnation

    async def people(self, *names: str) -> list[Actor]:
        return [await self.register(name) for name in names]

    async def latest(self, actor: Actor) -> dict[str, int]:
        """The numbers of all chats of a person."""
        reaches = await self.messaging.read(operations.reaches(self.context(actor)))
        return {str(chat_id): reach.number for chat_id, reach in reaches.items() if reach.is_open}


@asynccontextmanager
async def scene(random: Random | None = None, limits: Limits = LIMITS) -> AsyncIterator[Scene]:
    async with trio.open_nursery() as nursery:
        yield process(nursery, SlowStorage(random or Random(0)), limits)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def two_scenes(random: Random) -> AsyncIterator[list[Scene]]:
    """Two processes over one storage, whose bus loses and doubles signals."""
    storage, broker = SlowStorage(random), MemoryBroker(random)
    async with trio.open_nursery() as nursery:
        scenes = [process(nursery, storage, LIMITS, broker.bus()) for _ in range(2)]
        for each in scenes:
            nursery.start_soon(each.messaging.keep_house)
            await each.wait_for_bus()
        broker.faults = Faults(loss=0.1, duplication=0.1, reference=0.2)
        yield scenes
        broker.faults = Faults()
        nursery.cancel_scope.cancel()


def process(nursery: trio.Nursery, storage: SlowStorage, limits: Limits, bus: Bus | None = None) -> Scene:
    hub = Lossy(limits, encode)
    messaging = Messaging(
        storage=storage,
        hub=hub,
        signer=PlainSigner(),
        hasher=PlainHasher(),
        parse_email=plain_email,
        limits=limits,
        now=lambda: NOW,
        random_bytes=bytes,
        bus=bus,
    )
    return Scene(messaging, nursery, bus)


def resume(log: str, chats: dict[str, int]) -> str:
    return json.dumps({"event": "resume", "data": {"log": log, "chats": chats}})


# --- the property -------------------------------------------------------------------------------------------


async def act(scene: Scene, random: Random, chats: list[ChatId], people: list[Actor]) -> None:
    """Something happens in a chat, or is refused."""
    chat, actor, other = random.choice(chats), people[0], random.choice(people[1:])
    members = (await scene.messaging.read(lambda reader: reader.chat(chat))).member_ids  # type: ignore[union-attr]
    match random.choice(["send", "send", "send", "edit", "delete", "member"]):
        case "send":
            await scene.send(actor, chat)
        case "edit" | "delete" as change:
            newest = await scene.messaging.read(lambda reader: reader.messages_before(chat, None, 5))
            present = [message for message in newest if message.deleted_at is None]
            if present and change == "edit":
                await scene.edit(actor, random.choice(present).id, "Changed")
            elif present:
                await scene.delete(actor, random.choice(present).id)
        case "member" if other.user_id in members:
            await scene.remove(chat, other)
        case "member":
            await scene.add(chat, other, reads_all=random.random() < 0.5)


async def nothing_is_missed(scene: Scene, actor: Actor, frames: list[Any], since: dict[ChatId, int]) -> None:
    """Of each chat the frames are the log's visible events, in order; a message may be shown elsewhere, once.

    `since` says up to which number the client had each chat, -1 that it begins with the chat's first frame;
    a frame with a Chat begins it anew.
    """
    own = [frame for frame in frames if "sequence" in frame]
    for chat_id, begin in since.items():
        shown = [frame for frame in own if frame["chat_id"] == chat_id]
        numbers = [frame["sequence"] for frame in shown]
        assert numbers == sorted(set(numbers)), (chat_id, numbers)
        wholes = [frame for frame in shown if frame["event"] in ("chat.created", "chat.resync")]
        start = wholes[-1]["sequence"] if wholes else begin
        if start < 0:
            start = numbers[0] if numbers else 10_000
        in_messages = {frame["data"].get("id") for frame in shown if frame["event"].startswith("message.")}
        visible = await visible_entries(scene, actor, chat_id, start)
        for number, message, must in visible:
            assert not must or number in numbers or (message is not None and message.id in in_messages), (
                chat_id,
                number,
            )
        assert {number for number in numbers if number > start} <= {number for number, *_ in visible}


async def visible_entries(
    scene: Scene, actor: Actor, chat_id: ChatId, after: int
) -> list[tuple[int, Message | None, bool]]:
    """The log's entries that a person may see, by the rule alone; whether they must be shown later too."""

    def query(reader: Any) -> list[tuple[int, Message | None, bool]]:
        chat = reader.chat(chat_id)
        members = (*(chat.members if chat else ()), *reader.ended_members(chat_id, 0))
        ranges = [member.range for member in members if member.user_id == actor.user_id]
        found = []
        for entry in reader.log(chat_id, after, 10_000):
            id_ = getattr(entry.subject, "message_id", None)
            message = None if id_ is None else reader.message(id_)
            created = entry.sequence if message is None else message.sequence
            revision = entry.sequence if message is None else message.revision
            joins = entry.subject == MemberSubject(actor.user_id) and entry.name == "member.added"
            if seen := [each for each in ranges if may_see(each, entry.sequence, created)]:
                must = any(
                    each.last is None or (may_see(each, revision, created) and not joins) for each in seen
                )
                found.append((entry.sequence, message, must))
        return found

    return await scene.messaging.read(query)


async def live_and_come_back(random: Random, here: Scene, there: Scene) -> None:
    """Events happen on one process, at random, while Bob has sockets on the other one, or on the same.

    One socket is there all the time, or until the second comes back in its place, in the middle of events.
    """
    people = await here.people("alice", "bob", "carol")
    bob = people[1]
    chats = [await here.open_group(people[0], *people[1:]) for _ in range(3)]
    before = Line(there.nursery, random)
    socket = await there.full(bob, before)
    await before.until("hello")
    for _ in range(random.randrange(40)):
        await act(here, random, chats, people)
    if random.random() < 0.5:
        socket.end()
    known = await here.latest(bob)
    for _ in range(random.randrange(30)):
        await act(here, random, chats, people)
    back = Line(there.nursery, random)
    again = await there.full(bob, back, resumes=True)
    again.receive(resume(here.log, known))
    for _ in range(random.randrange(30)):
        await act(here, random, chats, people)
    for each in (here, there):
        each.messaging.hub.random = None  # type: ignore[attr-defined]
    # The next event of a chat shows a socket that it has missed others.
    for chat in chats:
        if str(chat) not in await here.latest(bob):
            await here.add(chat, bob, reads_all=True)
        await here.send(people[0], chat)
    await trio.sleep(100)
    assert back.closed is None
    frames = back.frames
    resumed = [frame["event"] for frame in frames].index("resumed")
    assert frames[0]["event"] == "hello"
    assert all("sequence" in frame for frame in frames[1:resumed])
    await nothing_is_missed(here, bob, frames, {ChatId(int(chat)): n for chat, n in known.items()})
    if socket.protocol.closing is None:
        await nothing_is_missed(here, bob, before.frames, dict.fromkeys(chats, -1))


@pytest.mark.parametrize("seed", range(25))
async def test_whatever_the_interleaving_no_event_is_missed_or_doubled(
    seed: int, autojump_clock: Clock
) -> None:
    """Live events, gaps, joinings, lost deliveries, slow reads and slow connections, in one process."""
    random = Random(seed)
    async with scene(random) as the:
        the.messaging.hub.random = random  # type: ignore[attr-defined]
        await live_and_come_back(random, the, the)


@pytest.mark.parametrize("seed", range(5))
async def test_the_same_holds_for_sockets_on_another_process(seed: int, autojump_clock: Clock) -> None:
    """Over a bus that loses and doubles signals, and refers to events that must then be read."""
    random = Random(seed)
    async with two_scenes(random) as (here, there):
        await live_and_come_back(random, here, there)


# --- resuming -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def a_group(limits: Limits = LIMITS) -> AsyncIterator[tuple[Scene, Actor, Actor, ChatId]]:
    """Alice's group with Bob."""
    async with scene(limits=limits) as the:
        alice, bob = await the.people("alice", "bob")
        yield the, alice, bob, await the.open_group(alice, bob)


async def comes_back(the: Scene, actor: Actor, chats: dict[ChatId, int]) -> tuple[Line, list[Any]]:
    """The connection of a client that resumes, and its frames between `hello` and `resumed`."""
    line = Line(the.nursery)
    socket = await the.full(actor, line, resumes=True)
    socket.receive(resume(the.log, {str(chat): number for chat, number in chats.items()}))
    return line, [
        frame for frame in await line.until("resumed") if frame["event"] not in ("hello", "resumed")
    ]


async def test_a_client_that_missed_nothing_is_sent_nothing(autojump_clock: Clock) -> None:
    """But the numbers of its chats, so that it knows where it is."""
    async with a_group() as (the, _, bob, chat):
        line, missed = await comes_back(the, bob, {chat: 1})
        assert missed == []
        assert line.frames[-1]["data"] == {
            "chats": [
                {
                    "id": chat,
                    "sequence": 1,
                    "unread_count": 0,
                    "read_up_to": None,
                    "others_read_up_to": None,
                }
            ],
            "users": [],
        }


async def test_a_chat_that_the_client_did_not_list_is_sent_as_it_is(autojump_clock: Clock) -> None:
    """With its number, from which live events go on."""
    async with a_group() as (the, alice, bob, chat):
        await the.send(alice, chat)
        line, (created,) = await comes_back(the, bob, {})
        assert (created["event"], created["chat_id"], created["sequence"]) == ("chat.created", chat, 2)
        assert [user["tag"] for user in created["data"]["participants"]] == ["alice", "bob"]
        await the.send(alice, chat)
        await line.until("message.created")
        assert line.frames[-1]["sequence"] == 3


async def test_of_a_chat_that_was_left_the_end_comes_and_nothing_later(autojump_clock: Clock) -> None:
    """The removal, or the deletion; a chat that the client knows the end of is not mentioned."""
    async with a_group() as (the, alice, bob, chat):
        other = await the.open_group(alice, bob)
        await the.send(alice, chat)
        await the.remove(chat, bob)
        await the.send(alice, chat)
        await the.delete_chat(other)
        line, missed = await comes_back(the, bob, {chat: 1, other: 1})
        assert [(frame["event"], frame["chat_id"], frame["sequence"]) for frame in missed] == [
            ("chat.deleted", other, 2),
            ("message.created", chat, 2),
            ("member.removed", chat, 3),
        ]
        assert missed[2]["data"]["user"]["tag"] == "bob"
        assert missed[0]["data"] == {"id": other, "deleted_by": None}
        assert line.frames[-1]["data"]["chats"] == []
        assert (await comes_back(the, bob, {chat: 3, other: 2}))[1] == []


def placed(frames: list[Any]) -> list[tuple[str, int, int]]:
    return [(frame["event"], frame["chat_id"], frame["sequence"]) for frame in frames]


async def test_a_chat_with_too_many_events_is_sent_as_it_is(autojump_clock: Clock) -> None:
    """The other chats are sent their events."""
    async with a_group(Limits(resumed_events=5)) as (the, alice, bob, chat):
        short = await the.open_group(alice, bob)
        for _ in range(6):
            await the.send(alice, chat)
        await the.send(alice, short)
        _, missed = await comes_back(the, bob, {chat: 1, short: 1})
        assert placed(missed) == [("chat.resync", chat, 7), ("message.created", short, 2)]
        assert missed[0]["data"]["id"] == chat


async def test_beyond_some_megabytes_chats_are_sent_as_they_are(autojump_clock: Clock) -> None:
    """Those that come later, and longer ones; of a chat that was left, the removal is sent."""
    async with a_group(Limits(resumed_bytes=65_536)) as (the, alice, bob, first):
        second, left = await the.open_group(alice, bob), await the.open_group(alice, bob)
        for chat, count in ((first, 6), (second, 7), (left, 8)):
            for _ in range(count):
                await the.send(alice, chat, "一" * 4000)
        await the.remove(left, bob)
        _, missed = await comes_back(the, bob, {first: 1, second: 1, left: 1})
        assert placed(missed) == [
            *[("message.created", first, number) for number in range(2, 8)],
            ("chat.resync", second, 8),
            ("member.removed", left, 10),
        ]


async def test_clients_that_start_over_are_spread_over_time(autojump_clock: Clock) -> None:
    """After a backup was restored, all of them come at once; each learns when to fetch."""
    async with a_group() as (the, _, bob, _chat):
        lines = [Line(the.nursery) for _ in range(2 * RESYNCS_PER_SECOND + 2)]
        for socket in [await the.full(bob, line, resumes=True) for line in lines]:
            socket.receive(resume("other", {}))
        seconds = [(await line.until("resync_required"))[1]["data"]["retry_after"] for line in lines]
        # They are in the order in which the clients' messages were handled.
        assert (min(seconds), max(seconds)) == (0, 2)


async def test_resuming_has_the_rate_of_requests(autojump_clock: Clock) -> None:
    """A user in debt is sent the next part when it is repaid, and is not refused."""
    limits = Limits(request_rate=Rate(per_second=0.1, burst=2), response_bytes_per_permit=1024)
    async with a_group(limits) as (the, alice, bob, chat):
        HttpApi(the.messaging, ApiConfig(), trio.current_time)
        begun = trio.current_time()
        await comes_back(the, bob, {chat: 1})
        assert trio.current_time() - begun < 1
        for _ in range(20):
            await the.send(alice, chat, "x" * 1000)
        begun = trio.current_time()
        _, missed = await comes_back(the, bob, {chat: 1})
        assert len([frame for frame in missed if frame["event"] == "message.created"]) == 20
        assert trio.current_time() - begun > 50


async def test_a_client_that_sends_no_positions_is_closed(autojump_clock: Clock) -> None:
    """After 10 s, with a code after which it may try again."""
    async with a_group() as (the, _, bob, _chat):
        line = Line(the.nursery)
        await the.full(bob, line, resumes=True)
        await trio.sleep(11)
        assert line.closed == RESUME_LATE


# --- live ---------------------------------------------------------------------------------------------------


async def test_a_joining_is_shown_to_each_as_they_see_it(autojump_clock: Clock) -> None:
    """The others see who it is; the one who joined also sees the chat, and then its events."""
    async with a_group() as (the, alice, bob, chat):
        (carol,) = await the.people("carol")
        bobs, carols = Line(the.nursery), Line(the.nursery)
        await the.full(bob, bobs)
        await the.full(carol, carols)
        await the.add(chat, carol)
        await the.send(alice, chat)
        for line in (bobs, carols):
            frames = await line.until("message.created")
            assert [frame["event"] for frame in frames] == ["hello", "member.added", "message.created"]
            added = frames[1]
            assert added["sequence"] == 2
            assert list(added["data"]) == [
                "chat_id",
                "user",
                "role",
                "joined_at",
                "participants_count",
                "chat",
            ]
            assert (added["data"]["user"]["tag"], added["data"]["participants_count"]) == ("carol", 3)
            assert (added["data"]["chat"] is None) == (line is bobs)
        assert carols.frames[1]["data"]["chat"]["id"] == chat


async def test_a_connection_that_is_not_read_is_sent_no_more_than_half_an_outbox(
    autojump_clock: Clock,
) -> None:
    """Its position is the buffer: the log is read as it drains, and live events of other chats have room."""
    async with a_group() as (the, alice, bob, chat):
        for _ in range(3 * LIMITS.outbox_frames):
            await the.send(alice, chat)
        stuck = Line(the.nursery)
        socket = await the.full(bob, stuck, resumes=True)
        await stuck.until("hello")
        stuck.blocked = True
        socket.receive(resume(the.log, {str(chat): 1}))
        await trio.sleep(1000)
        assert socket.protocol.waiting == LIMITS.outbox_frames // 2
        assert socket.protocol.closing is None
        socket.end()
        await trio.sleep(1)
        assert not socket._catches_up


async def test_a_log_is_sent_in_parts(autojump_clock: Clock) -> None:
    """None is left out between them, and what is committed meanwhile comes after."""
    async with a_group() as (the, alice, bob, chat):
        count = 2 * EVENTS_AT_ONCE + 7
        for _ in range(count):
            await the.send(alice, chat)
        line = Line(the.nursery)
        socket = await the.full(bob, line, resumes=True)
        socket.receive(resume(the.log, {str(chat): 1}))
        await line.until("message.created", 3)
        await the.send(alice, chat)
        frames = await line.until("resumed")
        assert [frame["sequence"] for frame in frames[1:-1]] == list(range(2, count + 3))
        (resumed,) = frames[-1]["data"]["chats"]
        assert (resumed["id"], resumed["sequence"]) == (chat, count + 2)
        assert (resumed["unread_count"], resumed["others_read_up_to"]) == (count + 1, count + 1)


class Gate:
    """Holds back the results of a storage's reads until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened = trio.Event()
        self.waiting = trio.Event()
        read = MemoryStorage.read

        async def gated(storage: MemoryStorage, query: Any) -> Any:
            found = await read(storage, query)
            self.waiting.set()
            await self.opened.wait()
            return found

        monkeypatch.setattr(SlowStorage, "read", gated)


async def test_an_event_that_comes_late_is_not_sent_again(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It closes the gap while the log is read, which has it too."""
    async with a_group() as (the, alice, bob, chat):
        line = Line(the.nursery)
        await the.full(bob, line)
        await the.send(alice, chat)
        await line.until("message.created")
        hub, late = the.messaging.hub, list[Deliver | DeliverEphemeral]()
        with monkeypatch.context() as patch:
            patch.setattr(the.messaging, "_deliver", late.append)
            await the.send(alice, chat)
        gate = Gate(monkeypatch)
        await the.send(alice, chat)
        await gate.waiting.wait()
        hub.deliver(late[0])
        hub.flush()
        gate.opened.set()
        await line.until("message.created", 3)
        await trio.sleep(1)
        assert [frame["sequence"] for frame in line.named("message.created")] == [2, 3, 4]


async def test_a_chat_that_begins_during_a_resumption_is_part_of_it(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is new to the client, and among the chats of `resumed`."""
    async with a_group() as (the, alice, bob, chat):
        line = Line(the.nursery)
        socket = await the.full(bob, line, resumes=True)
        gate = Gate(monkeypatch)
        socket.receive(resume(the.log, {str(chat): 1}))
        await gate.waiting.wait()
        other = await the.open_group(alice, bob)
        await trio.sleep(1)
        gate.opened.set()
        frames = await line.until("resumed")
        assert placed(frames[1:-1]) == [("chat.created", other, 1)]
        assert [each["id"] for each in frames[-1]["data"]["chats"]] == [chat, other]


async def test_what_happens_before_a_client_starts_over_is_not_sent(autojump_clock: Clock) -> None:
    """It fetches everything anyway, and each chat begins with its next event."""
    async with a_group() as (the, alice, bob, chat):
        line = Line(the.nursery)
        socket = await the.full(bob, line, resumes=True)
        await the.send(alice, chat)
        await trio.sleep(1)
        socket.receive(resume("other", {}))
        await line.until("resync_required")
        await the.send(alice, chat)
        await trio.sleep(1)
        names = [frame["event"] for frame in line.frames]
        assert names == ["hello", "resync_required", "message.created"]


async def test_an_event_from_before_the_connection_is_written_is_shown(autojump_clock: Clock) -> None:
    """The hub knows a socket before its client sees it open."""
    async with a_group() as (the, _, bob, chat):
        (carol,) = await the.people("carol")
        socket = await the.messaging.connect(token(bob), FULL)
        await the.add(chat, carol)
        await trio.sleep(1)
        line = Line(the.nursery)
        socket.attach(line)
        assert [frame["event"] for frame in await line.until("member.added")] == ["hello", "member.added"]


async def test_a_storage_that_does_not_answer_is_asked_again(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The socket stays open meanwhile."""
    async with a_group() as (the, alice, bob, chat):
        await the.send(alice, chat)
        line = Line(the.nursery)
        socket = await the.full(bob, line, resumes=True)
        read, failures = SlowStorage.read, [StorageUnavailable("gone")] * 3

        async def fail(storage: SlowStorage, query: Any) -> Any:
            if failures:
                raise failures.pop()
            return await read(storage, query)

        monkeypatch.setattr(SlowStorage, "read", fail)
        socket.receive(resume(the.log, {str(chat): 1}))
        assert [frame["event"] for frame in await line.until("resumed")] == [
            "hello",
            "message.created",
            "resumed",
        ]


async def test_nothing_is_read_for_a_socket_that_has_ended(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even while the storage does not answer."""
    async with a_group() as (the, _, bob, chat):
        socket = await the.full(bob, Line(the.nursery), resumes=True)
        reads = []

        async def fail(storage: SlowStorage, query: Any) -> Any:
            await trio.lowlevel.checkpoint()
            reads.append(query)
            raise StorageUnavailable("gone")

        monkeypatch.setattr(SlowStorage, "read", fail)
        socket.receive(resume(the.log, {str(chat): 1}))
        await trio.sleep(9.5)  # between two attempts
        socket.end()
        asked = len(reads)
        assert asked > 1
        await trio.sleep(100)
        assert len(reads) == asked


async def test_a_fault_in_catching_up_closes_that_socket(autojump_clock: Clock) -> None:
    """With 1011: its client comes back, and nobody else notices."""
    async with a_group() as (the, _, bob, chat):
        line = Line(the.nursery)
        socket = await the.full(bob, line, resumes=True)

        def broken(*_: object) -> None:
            raise RuntimeError

        the.messaging.hub.encode = broken  # type: ignore[assignment]
        socket.receive(resume(the.log, {str(chat): 1}))
        await trio.sleep(10)
        assert line.closed == OUR_FAULT


# --- commands -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def commands(rate_limits: bool = False) -> AsyncIterator[tuple[Scene, Actor, ChatId]]:
    """A group whose members may send by their sockets."""
    async with a_group() as (the, alice, _, chat):
        HttpApi(the.messaging, ApiConfig(rate_limits=rate_limits), trio.current_time)
        yield the, alice, chat


def send(chat: ChatId, number: int) -> str:
    data = {"chat_id": chat, "type": "text", "content": str(number), "client_ref": f"{number:016}"}
    return json.dumps({"event": "message.send", "data": data})


async def test_commands_are_carried_out_in_their_order_each_before_its_event(autojump_clock: Clock) -> None:
    """One runs and 16 wait; a further one is refused at once, and may be repeated."""
    async with commands() as (the, alice, chat):
        line = Line(the.nursery)
        socket = await the.full(alice, line)
        for number in range(18):
            socket.receive(send(chat, number))
        frames = (await line.until("message.created", 17))[1:]
        error = frames[0]
        assert (error["event"], error["data"]["client_ref"]) == ("error", f"{17:016}")
        assert (error["data"]["problem"]["status"], error["data"]["retry_after"]) == (429, 1)
        assert [
            (frame["event"], (frame["data"].get("message") or frame["data"])["content"])
            for frame in frames[1:]
        ] == [
            each for number in range(17) for each in (("ack", str(number)), ("message.created", str(number)))
        ]


async def test_a_reply_comes_before_its_event_from_the_log_too(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket that catches up may read the event before the storage has reported the commit."""
    async with commands() as (the, alice, chat):
        (carol,) = await the.people("carol")
        line = Line(the.nursery)
        socket = await the.full(alice, line)
        await the.send(alice, chat)
        await line.until("message.created")
        reported, committed = trio.Event(), trio.Event()

        async def transact(storage: MemoryStorage, operation: Any, *, committed_: Any) -> Any:
            result = storage.world.transact(operation)
            committed.set()
            await reported.wait()
            committed_(result)
            return result

        with monkeypatch.context() as patch:
            patch.setattr(
                SlowStorage,
                "transact",
                lambda storage, operation, *, committed: transact(storage, operation, committed_=committed),
            )
            socket.receive(send(chat, 1))
            await committed.wait()
        await the.add(chat, carol)
        await trio.sleep(5)
        before = ["hello", "message.created"]
        assert [frame["event"] for frame in line.frames] == before
        reported.set()
        frames = await line.until("member.added")
        names = [frame["event"] for frame in frames]
        assert names == [*before, "ack", "message.created", "member.added"]


async def test_commands_have_the_rates_of_rest(autojump_clock: Clock) -> None:
    """Beyond the rate of messages the reply is an `error` with the seconds to wait."""
    async with commands(rate_limits=True) as (the, alice, chat):
        line = Line(the.nursery)
        socket = await the.full(alice, line)
        for number in range(LIMITS.message_rate.burst + 1):
            socket.receive(send(chat, number))
            with trio.fail_after(1000):
                while len(line.named("ack", "error")) <= number:
                    await line.changed.wait()
        errors = [frame["data"] for frame in line.named("error")]
        refused = [each for each in errors if each["problem"]["code"] == "too_many_requests"]
        assert refused
        assert all(each["retry_after"] >= 1 for each in refused)


async def test_a_client_that_sends_without_end_is_closed(autojump_clock: Clock) -> None:
    """Messages are counted as requests are, over all sockets of a user; those of profile 1 cost nothing."""
    async with commands(rate_limits=True) as (the, alice, _):
        line = Line(the.nursery)
        socket = await the.full(alice, line)
        plain = the.messaging.hub.connect(alice)
        for each in (plain, socket):
            for _ in range(LIMITS.request_rate.burst + (each is plain)):
                each.receive('{"event":"later"}')
        closings = [socket.protocol.closing]
        socket.receive('{"event":"later"}')
        closings += [socket.protocol.closing, plain.protocol.closing]
        assert closings == [None, TOO_MANY_MESSAGES, None]


@pytest.mark.parametrize(
    ("message", "status", "code"),
    [
        ("", 400, "malformed_message"),
        ("[]", 400, "malformed_message"),
        ('{"data":{}}', 400, "malformed_message"),
        ('{"event":1}', 400, "malformed_message"),
        ("[" * 10_000, 400, "malformed_message"),
        (b"\xff", 400, "malformed_message"),
        ('{"event":"message.send","data":[]}', 400, "malformed_message"),
        ('{"event":"message.send","data":{}}', 422, "validation_failed"),
        ('{"event":"message.send","data":{"client_ref":"too short"}}', 422, "validation_failed"),
        ('{"event":"message.send","data":{"client_ref":1}}', 422, "validation_failed"),
        (
            '{"event":"message.send","data":{"chat_id":1,"type":"text","content":"x","client_ref":"é0123456789abcdef"}}',
            400,
            "idempotency_key_invalid",
        ),
        ('{"event":"message.send","data":{"client_ref":"0123456789abcdef"}}', 422, "validation_failed"),
        ('{"event":"resume","data":{"log":"x","chats":{}}}', 409, "resume_unexpected"),
        ('{"event":"watch","data":{}}', 400, "malformed_message"),
        ('{"event":"watch","data":{"user_ids":[0]}}', 400, "malformed_message"),
        ('{"event":"watch","data":{"user_ids":[1e300]}}', 400, "malformed_message"),
        ('{"event":"watch","data":{"user_ids":["1"]}}', 400, "malformed_message"),
        (f'{{"event":"watch","data":{{"user_ids":{[1] * 101}}}}}', 400, "malformed_message"),
        ('{"event":"resume","data":{"log":"x","chats":{"0":1}}}', 400, "malformed_message"),
        ('{"event":"resume","data":{"log":"x","chats":{"1":-1}}}', 400, "malformed_message"),
        ('{"event":"resume","data":{"log":"x","chats":{"1":1e300}}}', 400, "malformed_message"),
    ],
)
async def test_a_message_that_is_wrong_is_replied_to(
    message: str | bytes, status: int, code: str, autojump_clock: Clock
) -> None:
    """With an `error` that holds the problem; the socket stays open."""
    async with commands() as (the, alice, _):
        line = Line(the.nursery)
        socket = await the.full(alice, line)
        socket.receive(message)
        socket.receive('{"event":"ping"}')
        await line.until("error")
        (error,) = line.named("error")
        problem = error["data"]["problem"]
        assert (problem["status"], problem["code"]) == (status, code), problem
        assert len(line.named("keepalive")) == 1


async def test_typing_is_shown_to_the_others_and_not_replied_to(autojump_clock: Clock) -> None:
    """Unless it is refused."""
    async with commands() as (the, alice, chat):
        bob = Actor(UserId(2), SessionId(2))
        lines = Line(the.nursery), Line(the.nursery)
        socket, _ = [await the.full(actor, line) for actor, line in zip((alice, bob), lines, strict=True)]
        for number in (chat, 99, chat):
            data = {"chat_id": number, "is_typing": True}
            socket.receive(json.dumps({"event": "typing", "data": data}))
        socket.receive(send(chat, 1))
        own = (await lines[0].until("message.created"))[1:]
        assert [frame["event"] for frame in own] == ["error", "ack", "message.created"]
        assert (own[0]["data"]["client_ref"], own[0]["data"]["problem"]["code"]) == (None, "chat_not_found")
        typing = {"event": "typing", "data": {"chat_id": chat, "user_id": alice.user_id, "is_typing": True}}
        assert (await lines[1].until("message.created"))[1:-1] == [typing, typing]


async def test_reading_is_shown_to_all_and_not_replied_to(autojump_clock: Clock) -> None:
    """A reading that moves no mark is shown to nobody, and one that is refused is replied to."""
    async with commands() as (the, alice, chat):
        bob = Actor(UserId(2), SessionId(2))
        lines = Line(the.nursery), Line(the.nursery)
        _, socket = [await the.full(actor, line) for actor, line in zip((alice, bob), lines, strict=True)]
        sent = [(await the.send(alice, chat)).id for _ in range(2)]
        for data in (
            {"chat_id": chat, "message_id": sent[0]},
            {"chat_id": chat, "message_id": sent[0]},
            {"chat_id": 99},
            {"chat_id": chat},
            {},
        ):
            socket.receive(json.dumps({"event": "read", "data": data}))
        await lines[1].until("error", 2)
        refused = [frame["data"]["problem"]["code"] for frame in lines[1].named("error")]
        assert refused == ["chat_not_found", "validation_failed"]
        about = {"chat_id": chat, "user_id": bob.user_id, "sequence": 3}
        first = {**about, "read_up_to": sent[0], "message_ids": [sent[0]], "unread_count": 1}
        last = {**about, "read_up_to": sent[1], "message_ids": [sent[1]], "unread_count": 0}
        for line in lines:
            await line.until("message.read", 2)
            assert [frame["data"] for frame in line.named("message.read")] == [first, last]


async def test_a_message_of_an_unknown_name_is_ignored(autojump_clock: Clock) -> None:
    """So that a later version of a client may send more."""
    async with commands() as (the, alice, _):
        line = Line(the.nursery)
        socket = await the.full(alice, line)
        for message in ('{"event":"later"}', b'{"event":"message.read","data":[1]}'):
            socket.receive(message)
        await trio.sleep(1)
        assert [frame["event"] for frame in line.frames] == ["hello"]
