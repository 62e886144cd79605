"""The watch: calls back when a descriptor has bytes to read, or a deadline has passed."""

import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from math import inf

import pytest
import trio
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from adapters.listener import watch as watch_module
from adapters.listener.watch import Watch, WatchedDescriptor
from tests.listener.harness import running
from tests.listener.test_direct_frames import adopted


@define
class RecordingCallbacks:
    """Records the calls of the watch; reads the bytes."""

    mine: socket.socket | None = None
    read: bytes = b""
    due_at: list[float] = field(factory=list)
    postpone: Callable[[], None] | None = None
    """Postpones the peer's end, once it has been read."""
    has_ended: bool = False

    def readable(self) -> None:
        assert self.mine is not None
        data = self.mine.recv(100)
        self.read += data
        if not data and self.postpone is not None:
            self.postpone()

    def ended(self) -> None:
        self.has_ended = True

    def due(self) -> None:
        self.due_at.append(trio.current_time())


@define
class WatchedPair:
    listening: RecordingCallbacks
    peer: socket.socket
    descriptor: WatchedDescriptor


@pytest.fixture
async def watch(nursery: trio.Nursery) -> AsyncIterator[Watch]:
    with Watch() as watch:
        scope = await nursery.start(running, watch)
        yield watch
        scope.cancel()
        await wait_all_tasks_blocked()


@pytest.fixture
def pair(watch: Watch) -> Iterator[WatchedPair]:
    mine, peer = socket.socketpair()
    with mine, peer:
        mine.setblocking(False)
        listening = RecordingCallbacks(mine)
        yield WatchedPair(listening, peer, watch.add(mine.fileno(), listening))


async def settled() -> None:
    await wait_all_tasks_blocked()


async def test_bytes_are_reported_only_while_reading(watch: Watch, pair: WatchedPair) -> None:
    """None before `start_reading` and after `stop_reading`; the next start reports those in between."""
    pair.peer.send(b"a")
    await settled()
    assert pair.listening.read == b""
    watch.start_reading(pair.descriptor)
    await settled()
    assert pair.listening.read == b"a"
    pair.peer.send(b"b")
    await settled()
    assert pair.listening.read == b"ab"
    watch.stop_reading(pair.descriptor)
    watch.stop_reading(pair.descriptor)
    pair.peer.send(b"c")
    await settled()
    assert pair.listening.read == b"ab"
    watch.start_reading(pair.descriptor)
    watch.start_reading(pair.descriptor)
    await settled()
    assert pair.listening.read == b"abc"


async def test_a_removed_descriptor_is_not_called(
    watch: Watch, pair: WatchedPair, autojump_clock: MockClock
) -> None:
    """Neither for bytes nor for deadlines, and its number may be added again."""
    watch.start_reading(pair.descriptor)
    watch.set_deadline(pair.descriptor, trio.current_time() + 1)
    pair.peer.send(b"a")
    watch.remove(pair.descriptor)
    watch.remove(pair.descriptor)
    watch.start_reading(pair.descriptor)
    await trio.sleep(2)
    assert (pair.listening.read, pair.listening.due_at) == (b"", [])
    again = watch.add(pair.descriptor.number, pair.listening)
    watch.start_reading(again)
    await settled()
    assert pair.listening.read == b"a"


@pytest.mark.parametrize(
    ("moves", "due"),
    [
        ([(0, 5)], [5]),
        ([(0, 5), (1, 3)], [3]),
        ([(0, 5), (1, 9)], [9]),
        ([(0, 5), (1, 9), (2, 4)], [4]),
        ([(0, 5), (1, inf)], []),
        ([(0, 5), (6, 8)], [5, 8]),
        ([(0, 5), (1, 3), (4, 5)], [3, 5]),
    ],
)
async def test_a_deadline_is_reported_once(
    watch: Watch,
    pair: WatchedPair,
    autojump_clock: MockClock,
    moves: list[tuple[float, float]],
    due: list[float],
) -> None:
    """Of a deadline that is moved, earlier or later, only the last value counts."""
    began = trio.current_time()
    for at, deadline in moves:
        await trio.sleep_until(began + at)
        watch.set_deadline(pair.descriptor, began + deadline)
    await trio.sleep_until(began + 20)
    assert [round(at - began, 3) for at in pair.listening.due_at] == due


async def test_removed_descriptors_do_not_accumulate(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections shorter than their deadlines leave a bounded number of queue entries."""
    monkeypatch.setattr(watch_module, "REMOVED_ENTRIES", 10)
    for _ in range(1000):
        descriptor = watch.add(0, RecordingCallbacks())
        watch.set_deadline(descriptor, trio.current_time() + 75)
        watch.remove(descriptor)
    assert len(watch._queue) <= 2 * 11


async def test_bytes_are_read_before_the_ends_of_many_peers(watch: Watch) -> None:
    """Of peers that leave at once, some are reported in one turn of the loop; others' bytes come first."""
    with ExitStack() as stack:
        leaving: list[RecordingCallbacks] = []
        peers: list[socket.socket] = []
        for _ in range(4 * watch_module.ENDS_AT_ONCE + 1):
            mine, peer = map(stack.enter_context, socket.socketpair())
            mine.setblocking(False)
            callbacks = RecordingCallbacks(mine)
            descriptor = watch.add(mine.fileno(), callbacks)
            callbacks.postpone = partial(watch.postpone_end, descriptor)
            watch.start_reading(descriptor)
            leaving.append(callbacks)
            peers.append(peer)
        *gone, sender = peers
        *ending, staying = leaving
        await settled()
        for peer in gone:
            peer.close()
        sender.send(b"a")
        ended = [0]
        while ended[-1] < len(gone):
            await trio.lowlevel.checkpoint()
            ended.append(sum(each.has_ended for each in ending))
            assert staying.read == b"a" or not ended[-1]
        steps = [after - before for before, after in pairwise(ended)]
        assert max(steps) <= 2 * watch_module.ENDS_AT_ONCE  # this task may run before the watch, or after it


async def test_many_deadlines_are_reported_in_several_turns(watch: Watch, autojump_clock: MockClock) -> None:
    """Of deadlines that pass at once, some are reported in one turn of the loop, and each once."""
    watched = [RecordingCallbacks() for _ in range(5 * watch_module.ENDS_AT_ONCE)]
    for callbacks in watched:
        watch.set_deadline(watch.add(0, callbacks), trio.current_time() + 1)
    await trio.sleep(1)
    reported = [0]
    while reported[-1] < len(watched):
        await trio.lowlevel.checkpoint()
        reported.append(sum(len(each.due_at) for each in watched))
    assert max(after - before for before, after in pairwise(reported)) <= 2 * watch_module.ENDS_AT_ONCE
    await trio.sleep(2)
    assert all(len(each.due_at) == 1 for each in watched)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 30), st.integers(0, 3)), max_size=60))
def test_any_moves(moves: list[tuple[int, int, int]]) -> None:
    """Each of many descriptors is called when its last deadline passes, as in a list of times."""

    async def main() -> None:
        with Watch() as watch:
            async with trio.open_nursery() as nursery:
                scope = await nursery.start(running, watch)
                began = trio.current_time()
                listening = [RecordingCallbacks() for _ in range(10)]
                descriptors = [watch.add(0, each) for each in listening]
                deadlines = [inf] * 10
                expected: list[list[float]] = [[] for _ in range(10)]
                now = 0.0
                for number, ahead, sleep in moves:
                    now += sleep
                    await trio.sleep_until(began + now + 0.5)
                    for each, deadline in enumerate(deadlines):
                        if deadline <= now + 0.5:
                            expected[each].append(deadline)
                            deadlines[each] = inf
                    deadlines[number] = now + 1 + ahead
                    watch.set_deadline(descriptors[number], began + deadlines[number])
                await trio.sleep_until(began + now + 100)
                for each, deadline in enumerate(deadlines):
                    expected[each] += [deadline] * (deadline < inf)
                assert [[round(at - began, 3) for at in each.due_at] for each in listening] == expected
                scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def test_an_idle_adopted_socket_has_no_task() -> None:
    """A task would take more memory than the rest of the socket."""
    async with adopted() as first:
        await wait_all_tasks_blocked()
        tasks = _tasks()
        await first.peer.send(b"\x8a\x80abcd")  # a pong
        await wait_all_tasks_blocked(0.05)
        assert _tasks() == tasks
        assert not any("_serve" in task for task in tasks)


def _tasks() -> list[str]:
    found, waiting = [], [trio.lowlevel.current_root_task()]
    while waiting:
        task = waiting.pop()
        if task is not None:
            found.append(task.name)
            waiting += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return sorted(found)
