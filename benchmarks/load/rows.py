"""The rows: each measures one server that runs, and raises `Void` where it does not do what it must."""

import gc
import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from time import perf_counter, sleep
from typing import TypeVar

from attrs import frozen

from benchmarks.load.client import Audience, Listener, Loop, Sender, Void, answered_id, open_sockets
from benchmarks.load.figures import Figures, Shares, spread
from benchmarks.load.population import DIRECT_CHATS, GROUPS, HISTORY, PEOPLE, READER, READERS_CHATS, token_of
from benchmarks.load.processes import Cores, Running, running
from benchmarks.load.wire import answer_body, request

ARRIVAL = 30.0
"""Seconds that what was answered has to arrive on the sockets."""
SAMPLE = 50
"""Sockets of a group whose deliveries are timed; what the others hear is compared, not timed."""
WARM_UP = 1.0

T = TypeVar("T")


@frozen
class Place:
    """A chat that is sent to, by so many connections of its own."""

    chat_id: int
    people: Sequence[int]
    senders: int


def sends(server: Running, *, senders: int, seconds: float, warm_up: float = WARM_UP) -> Figures:
    """Messages into direct chats, each of two people who have a socket open."""
    places = [Place(chat.id, chat.people, 1) for chat in DIRECT_CHATS[:senders]]
    return _talk(server, places, seconds, warm_up)


def fanout(
    server: Running, *, people: int, senders: int, seconds: float, warm_up: float = WARM_UP
) -> Figures:
    """Messages into one group, each of whose people has a socket open."""
    group = GROUPS[people]
    return _talk(server, [Place(group.id, group.people, senders)], seconds, warm_up)


def _talk(server: Running, places: Sequence[Place], seconds: float, warm_up: float) -> Figures:
    sent: list[float] = []
    answers: list[tuple[float, float, bytes]] = []
    delays: list[tuple[float, float]] = []
    stopped = False

    def make(before: bytes, between: bytes, after: bytes) -> bytes | None:
        if stopped:
            return None
        number = len(sent)
        made = b"%b%012d%b%010d%b" % (before, number, between, number, after)
        sent.append(perf_counter())
        return made

    def take(began: float, answer: bytes) -> None:
        answers.append((began, perf_counter() - began, answer))

    with _measuring() as (loop, stack):
        audiences, listeners, connections = [], [], []
        for place in places:
            audience = Audience()
            audiences.append(audience)
            timed = set(place.people[:: max(1, len(place.people) // SAMPLE)])
            opened = open_sockets(server.port, [token_of(person) for person in place.people])
            for person, plain in zip(place.people, opened, strict=True):
                listener = Listener(audience, sent, delays if person in timed else None)
                listener.attach(loop, plain)
                stack.callback(listener.close)
                listeners.append(listener)
            for author in place.people[: place.senders]:
                connection = Sender(loop, server.port, partial(make, *sending(place.chat_id, author)), take)
                stack.callback(connection.close)
                connections.append(connection)

        for connection in connections:
            connection.start()
        loop.run(warm_up)
        frames_before = sum(listener.frames() for listener in listeners)
        shares = Shares(server)
        began = perf_counter()
        before = (len(answers), len(delays))
        _run_until_something_came(loop, seconds, lambda: len(answers) > before[0] and len(delays) > before[1])
        ended = perf_counter()
        figures = shares.figures()
        frames = sum(listener.frames() for listener in listeners) - frames_before
        stopped = True
        loop.run(ARRIVAL, until=lambda: all(connection.resting for connection in connections))
        expected = _expected(answers, len(sent), places)
        loop.run(ARRIVAL, until=lambda: _arrived(audiences, listeners, expected))
        _check(audiences, listeners, expected)

    took = [duration for start, duration, _ in answers if began <= start + duration < ended]
    delivered = [delay for start, delay in delays if began <= start + delay < ended]
    return {
        "per_second": len(took) / (ended - began),
        **spread("answer", took),
        "deliveries_per_second": frames / (ended - began),
        **spread("delivery", delivered),
        **figures,
        "reconnected": sum(connection.reconnected for connection in connections),
    }


def sending(chat_id: int, author: int) -> tuple[bytes, bytes, bytes]:
    """A request in three pieces, between which its key's number and its content's belong."""
    content = "seq0000000000 " + "and the rest of a message that is about as long as people's messages are."
    body = json.dumps({"chat_id": chat_id, "type": "text", "content": content}).encode()
    run = str(uuid.uuid4())[:24]
    key = f"{run}000000000000"
    whole = request("POST", "/api/v1/messages", token=token_of(author), body=body, Idempotency_Key=key)
    before, rest = whole.split(key.encode())
    between, after = rest.split(b"seq0000000000")
    return before + run.encode(), between + b"seq", after


def _expected(
    answers: Sequence[tuple[float, float, bytes]],
    sent: int,
    places: Sequence[Place],
) -> list[list[tuple[int, int]]]:
    """Id and number of every message that was answered, in order, by chat."""
    if len(answers) != sent:
        raise Void(f"{sent - len(answers)} of {sent} messages were not answered")
    by_chat: dict[int, list[tuple[int, int]]] = {place.chat_id: [] for place in places}
    for _, _, answer in answers:
        if not answer.startswith(b"HTTP/1.1 201"):
            raise Void(f"a message was answered with {answer!r}")
        message = json.loads(answer_body(answer))
        by_chat[message["chat_id"]].append(answered_id(answer))
    return [sorted(by_chat[place.chat_id]) for place in places]


def _arrived(
    audiences: Sequence[Audience], listeners: Sequence[Listener], expected: list[list[tuple[int, int]]]
) -> bool:
    wanted = all(
        len(audience.ids) >= len(messages) for audience, messages in zip(audiences, expected, strict=True)
    )
    return wanted and all(listener.position == len(listener.audience.stream) for listener in listeners)


def _check(
    audiences: Sequence[Audience], listeners: Sequence[Listener], expected: list[list[tuple[int, int]]]
) -> None:
    """Every answered message was heard on every socket of its chat, in order, and nothing else was."""
    for audience, messages in zip(audiences, expected, strict=True):
        heard = list(zip(audience.ids, audience.numbers, strict=True))
        if heard != messages:
            raise Void(f"{len(messages)} messages were answered in a chat, {len(heard)} heard")
    behind = sum(listener.position != len(listener.audience.stream) for listener in listeners)
    if behind:
        raise Void(f"{behind} of {len(listeners)} sockets did not hear everything")


def reads(
    server: Running, *, what: str, messages: int, connections: int, seconds: float, warm_up: float = 0.3
) -> Figures:
    """`chats` or `messages` of one person, over and over."""
    paths = {"chats": "/api/v1/chats", "messages": f"/api/v1/messages?chat_id={HISTORY.id}&limit=50"}
    asked = request("GET", paths[what], token=token_of(READER))
    answers: list[tuple[float, float]] = []
    bodies: set[bytes] = set()
    stopped = False

    def make() -> bytes | None:
        return None if stopped else asked

    def take(began: float, answer: bytes) -> None:
        answers.append((perf_counter(), perf_counter() - began))
        bodies.add(answer[:15] + answer_body(answer))

    with _measuring() as (loop, stack):
        senders = [Sender(loop, server.port, make, take) for _ in range(connections)]
        for sender in senders:
            stack.callback(sender.close)
            sender.start()
        loop.run(warm_up)
        shares = Shares(server)
        began = perf_counter()
        before = len(answers)
        _run_until_something_came(loop, seconds, lambda: len(answers) > before)
        ended = perf_counter()
        figures = shares.figures()
        stopped = True
        loop.run(ARRIVAL, until=lambda: all(sender.resting for sender in senders))

    if len(bodies) != 1:
        raise Void(f"the same request had {len(bodies)} different answers")
    answer = bodies.pop()
    if not answer.startswith(b"HTTP/1.1 200"):
        raise Void(f"answered with {answer[:300]!r}")
    body = json.loads(answer[15:])
    found = len(body) if what == "chats" else len(body["messages"])
    if found != (len(READERS_CHATS) if what == "chats" else min(messages, 50)):
        raise Void(f"{found} {what} came")
    took = [duration for end, duration in answers if began <= end < ended]
    return {"per_second": len(took) / (ended - began), **spread("answer", took), **figures}


def idle(server: Running, *, sockets: int, settling: float = 1.0) -> Figures:
    """What a socket costs that is open and hears nothing."""
    tokens = [token_of(1 + number % PEOPLE) for number in range(sockets)]
    with ExitStack() as stack:
        for plain in open_sockets(server.port, tokens[:100]):  # loads and makes what only the first ones need
            stack.enter_context(plain)
        before = _settled(server, settling)
        shares = Shares(server)
        began = perf_counter()
        for plain in open_sockets(server.port, tokens):
            stack.enter_context(plain)
        opened = perf_counter() - began
        figures = shares.figures()
        after = _settled(server, settling)
    return {
        "bytes_per_socket": (after - before) / sockets,
        "resident_mib": after / 2**20,
        "opened_per_second": sockets / opened,
        "opening_us": figures["server_cpu"] * opened / sockets * 1e6,
        **figures,
    }


def _settled(server: Running, settling: float) -> int:
    """The server's memory once it has stayed within 1 % for so long; 10 seconds at most."""
    last, since = server.resident_bytes(), perf_counter()
    until = since + 10
    while perf_counter() - since < settling and perf_counter() < until:
        sleep(0.1)
        now = server.resident_bytes()
        if abs(now - last) > last * 0.01:
            last, since = now, perf_counter()
    return server.resident_bytes()


def startup(
    command: Callable[[int], list[str]], port: Callable[[], int], cores: Cores, times: int
) -> Figures:
    """From the spawn to the first 200 on /health: the median of several."""
    took = []
    for _ in range(times):
        free = port()
        with running(command(free), free, cores) as server:
            took.append(server.startup)
    return {"seconds": sorted(took)[len(took) // 2]}


def _run_until_something_came(loop: Loop, seconds: float, came: Callable[[], bool]) -> None:
    """For so long, and longer where a server is slower than that."""
    loop.run(seconds)
    if not came():
        loop.run(ARRIVAL, until=came)


@contextmanager
def _measuring() -> Iterator[tuple[Loop, ExitStack]]:
    """A loop, and what is closed with it; no garbage is collected meanwhile."""
    gc.collect()
    gc.disable()
    try:
        with ExitStack() as stack:
            loop = Loop()
            stack.callback(loop.close)
            yield loop, stack
    finally:
        gc.enable()
