"""The rows. Each measures a running server; it raises `Void` if the server does not do what it must."""

import gc
import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from time import perf_counter, sleep
from typing import TypeVar

from attrs import frozen

from benchmarks.load.client import ChatListener, ChatStream, Loop, Sender, Void, id_and_number, open_sockets
from benchmarks.load.figures import CoreShares, Figures, spread
from benchmarks.load.population import DIRECT_CHATS, GROUPS, HISTORY, PEOPLE, READER, READERS_CHATS, token_of
from benchmarks.load.processes import Cores, RunningServer, running
from benchmarks.load.wire import request, response_body

ARRIVAL = 30.0
"""Seconds within which a message must arrive on the sockets after the response to its send."""
SAMPLE = 50
"""Sockets of a group whose deliveries are timed; the frames of the others are compared, but not timed."""
WARM_UP = 1.0

T = TypeVar("T")


@frozen
class ActiveChat:
    """A chat, and the number of connections that send into it."""

    chat_id: int
    people: Sequence[int]
    senders: int


def sends(server: RunningServer, *, senders: int, seconds: float, warm_up: float = WARM_UP) -> Figures:
    """Send into direct chats, whose two members each have an open socket."""
    places = [ActiveChat(chat.id, chat.people, 1) for chat in DIRECT_CHATS[:senders]]
    return _talk(server, places, seconds, warm_up)


def fanout(
    server: RunningServer, *, people: int, senders: int, seconds: float, warm_up: float = WARM_UP
) -> Figures:
    """Send into one group, whose members each have an open socket."""
    group = GROUPS[people]
    return _talk(server, [ActiveChat(group.id, group.people, senders)], seconds, warm_up)


def _talk(server: RunningServer, places: Sequence[ActiveChat], seconds: float, warm_up: float) -> Figures:
    sent: list[float] = []
    responses: list[tuple[float, float, bytes]] = []
    delays: list[tuple[float, float]] = []
    stopped = False

    def next_request(before: bytes, between: bytes, after: bytes) -> bytes | None:
        if stopped:
            return None
        number = len(sent)
        message = b"%b%012d%b%010d%b" % (before, number, between, number, after)
        sent.append(perf_counter())
        return message

    def on_response(began: float, response: bytes) -> None:
        responses.append((began, perf_counter() - began, response))

    with _measuring() as (loop, stack):
        streams, listeners, connections = [], [], []
        for place in places:
            stream = ChatStream()
            streams.append(stream)
            timed = set(place.people[:: max(1, len(place.people) // SAMPLE)])
            opened = open_sockets(server.port, [token_of(person) for person in place.people])
            for person, sock in zip(place.people, opened, strict=True):
                listener = ChatListener(stream, sent, delays if person in timed else None)
                listener.attach(loop, sock)
                stack.callback(listener.close)
                listeners.append(listener)
            for author in place.people[: place.senders]:
                request_of = partial(next_request, *request_pieces(place.chat_id, author))
                connection = Sender(loop, server.port, request_of, on_response)
                stack.callback(connection.close)
                connections.append(connection)

        for connection in connections:
            connection.start()
        loop.run(warm_up)
        frames_before = sum(listener.frames() for listener in listeners)
        shares = CoreShares(server)
        began = perf_counter()
        before = (len(responses), len(delays))
        _run_until_a_result(loop, seconds, lambda: len(responses) > before[0] and len(delays) > before[1])
        ended = perf_counter()
        figures = shares.figures()
        frames = sum(listener.frames() for listener in listeners) - frames_before
        stopped = True
        loop.run(ARRIVAL, until=lambda: all(connection.is_idle for connection in connections))
        expected = _expected(responses, len(sent), places)
        loop.run(ARRIVAL, until=lambda: _arrived(streams, listeners, expected))
        _check(streams, listeners, expected)

    took = [duration for start, duration, _ in responses if began <= start + duration < ended]
    delivered = [delay for start, delay in delays if began <= start + delay < ended]
    return {
        "per_second": len(took) / (ended - began),
        **spread("answer", took),
        "deliveries_per_second": frames / (ended - began),
        **spread("delivery", delivered),
        **figures,
        "reconnected": sum(connection.reconnected for connection in connections),
    }


def request_pieces(chat_id: int, author: int) -> tuple[bytes, bytes, bytes]:
    """A send in three pieces, to join with the number of the key and the number of the content."""
    content = "seq0000000000 " + "and the rest of a message that is about as long as people's messages are."
    body = json.dumps({"chat_id": chat_id, "type": "text", "content": content}).encode()
    run = str(uuid.uuid4())[:24]
    key = f"{run}000000000000"
    whole = request("POST", "/api/v1/messages", token=token_of(author), body=body, Idempotency_Key=key)
    before, rest = whole.split(key.encode())
    between, after = rest.split(b"seq0000000000")
    return before + run.encode(), between + b"seq", after


def _expected(
    responses: Sequence[tuple[float, float, bytes]],
    sent: int,
    places: Sequence[ActiveChat],
) -> list[list[tuple[int, int]]]:
    """Id and number of every message that the server confirmed, in order, by chat."""
    if len(responses) != sent:
        raise Void(f"{sent - len(responses)} of {sent} sends got no response")
    by_chat: dict[int, list[tuple[int, int]]] = {place.chat_id: [] for place in places}
    for _, _, response in responses:
        if not response.startswith(b"HTTP/1.1 201"):
            raise Void(f"the response to a send is {response!r}")
        message = json.loads(response_body(response))
        by_chat[message["chat_id"]].append(id_and_number(response))
    return [sorted(by_chat[place.chat_id]) for place in places]


def _arrived(
    streams: Sequence[ChatStream], listeners: Sequence[ChatListener], expected: list[list[tuple[int, int]]]
) -> bool:
    wanted = all(len(stream.ids) >= len(messages) for stream, messages in zip(streams, expected, strict=True))
    return wanted and all(listener.position == len(listener.stream.data) for listener in listeners)


def _check(
    streams: Sequence[ChatStream], listeners: Sequence[ChatListener], expected: list[list[tuple[int, int]]]
) -> None:
    """Require every confirmed message on every socket of its chat, in order, and no other frame."""
    for stream, messages in zip(streams, expected, strict=True):
        received = list(zip(stream.ids, stream.numbers, strict=True))
        if received != messages:
            raise Void(
                f"the server confirmed {len(messages)} messages of a chat and delivered {len(received)}"
            )
    behind = sum(listener.position != len(listener.stream.data) for listener in listeners)
    if behind:
        raise Void(f"{behind} of {len(listeners)} sockets did not receive every frame")


def reads(
    server: RunningServer, *, what: str, messages: int, connections: int, seconds: float, warm_up: float = 0.3
) -> Figures:
    """Read the `chats` or `messages` of one user repeatedly."""
    paths = {"chats": "/api/v1/chats", "messages": f"/api/v1/messages?chat_id={HISTORY.id}&limit=50"}
    read = request("GET", paths[what], token=token_of(READER))
    responses: list[tuple[float, float]] = []
    bodies: set[bytes] = set()
    stopped = False

    def next_request() -> bytes | None:
        return None if stopped else read

    def on_response(began: float, response: bytes) -> None:
        responses.append((perf_counter(), perf_counter() - began))
        bodies.add(response[:15] + response_body(response))

    with _measuring() as (loop, stack):
        senders = [Sender(loop, server.port, next_request, on_response) for _ in range(connections)]
        for sender in senders:
            stack.callback(sender.close)
            sender.start()
        loop.run(warm_up)
        shares = CoreShares(server)
        began = perf_counter()
        before = len(responses)
        _run_until_a_result(loop, seconds, lambda: len(responses) > before)
        ended = perf_counter()
        figures = shares.figures()
        stopped = True
        loop.run(ARRIVAL, until=lambda: all(sender.is_idle for sender in senders))

    if len(bodies) != 1:
        raise Void(f"the same request got {len(bodies)} different responses")
    response = bodies.pop()
    if not response.startswith(b"HTTP/1.1 200"):
        raise Void(f"the response to a read is {response[:300]!r}")
    body = json.loads(response[15:])
    found = len(body) if what == "chats" else len(body["messages"])
    if found != (len(READERS_CHATS) if what == "chats" else min(messages, 50)):
        raise Void(f"the response holds {found} {what}")
    took = [duration for end, duration in responses if began <= end < ended]
    return {"per_second": len(took) / (ended - began), **spread("answer", took), **figures}


def idle(server: RunningServer, *, sockets: int, settling: float = 1.0) -> Figures:
    """Measure the cost of an open socket that receives nothing."""
    tokens = [token_of(1 + number % PEOPLE) for number in range(sockets)]
    with ExitStack() as stack:
        for sock in open_sockets(server.port, tokens[:100]):  # the first sockets load code and fill caches
            stack.enter_context(sock)
        before = _settled(server, settling)
        shares = CoreShares(server)
        began = perf_counter()
        for sock in open_sockets(server.port, tokens):
            stack.enter_context(sock)
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


def _settled(server: RunningServer, settling: float) -> int:
    """The server's memory after it has stayed within 1 % for `settling` seconds, or after 10 seconds."""
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
    """Measure the time from the start of the process to the first 200 on /health; the median of several."""
    took = []
    for _ in range(times):
        free = port()
        with running(command(free), free, cores) as server:
            took.append(server.startup)
    return {"seconds": sorted(took)[len(took) // 2]}


def _run_until_a_result(loop: Loop, seconds: float, has_result: Callable[[], bool]) -> None:
    """Run for this time, and then until the first result of a slower server."""
    loop.run(seconds)
    if not has_result():
        loop.run(ARRIVAL, until=has_result)


@contextmanager
def _measuring() -> Iterator[tuple[Loop, ExitStack]]:
    """Yields a loop and a stack of what to close with it; the garbage collector is off meanwhile."""
    gc.collect()
    gc.disable()
    try:
        with ExitStack() as stack:
            loop = Loop()
            stack.callback(loop.close)
            yield loop, stack
    finally:
        gc.enable()
