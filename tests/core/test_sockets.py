"""The frames of a socket and its outbox: bounded, in order, and ephemeral frames are shed first."""

from collections import deque

from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import TextMessage

from messaging_core.limits import Limits
from messaging_core.sockets import Outbox, PutResult, payloads, text_frame

SMALL = Limits(outbox_frames=4)
BYTES = SMALL.outbox_bytes

puts = st.tuples(
    st.sampled_from([1, 2, 1000, BYTES // 4, BYTES // 2, BYTES // 2 + 1, BYTES, BYTES + 1]), st.booleans()
)


@given(st.lists(st.none() | puts, max_size=40))
def test_any_sequence(actions: list[tuple[int, bool] | None]) -> None:
    """The bounds hold, accepted frames leave in order, and a frame is refused only if it does not fit.

    A durable frame that does not fit has the ephemeral frames shed, and no durable one.
    """
    outbox = Outbox(SMALL)
    waiting: deque[tuple[bytes, bool]] = deque()

    def fits(size: int, share: int) -> bool:
        used = sum(len(frame) for frame, _ in waiting)
        return len(waiting) < SMALL.outbox_frames // share and used + size <= BYTES // share

    for number, action in enumerate(actions):
        if action is None:
            assert outbox.take() == (waiting.popleft()[0] if waiting else b"")
        else:
            size, ephemeral = action
            frame = bytes([number]) * size
            if not ephemeral and not fits(size, 1):
                waiting = deque(item for item in waiting if not item[1])
            result = outbox.put(frame, ephemeral=ephemeral)
            if fits(size, 2 if ephemeral else 1):
                assert result is PutResult.QUEUED
                waiting.append((frame, ephemeral))
            else:
                assert result is (PutResult.SHED if ephemeral else PutResult.FULL)
        assert len(outbox) == len(waiting) <= SMALL.outbox_frames
        assert outbox.size == sum(len(frame) for frame, _ in waiting) <= BYTES
    assert [outbox.take() for _ in waiting] == [frame for frame, _ in waiting]
    assert outbox.take() == b""
    assert outbox.size == len(outbox) == 0


@given(st.lists(st.binary(min_size=1, max_size=9), max_size=20), st.lists(st.integers(0, 30), max_size=20))
def test_a_batch_holds_whole_frames(frames: list[bytes], sizes: list[int]) -> None:
    """A batch holds as many whole frames as fit, in order, and one even if it does not fit."""
    outbox = Outbox(Limits(outbox_frames=20))
    assert all(outbox.put(frame) is PutResult.QUEUED for frame in frames)
    waiting = deque(frames)
    for size in sizes:
        expected = waiting.popleft() if waiting else b""
        while waiting and len(expected) + len(waiting[0]) <= size:
            expected += waiting.popleft()
        assert outbox.take(size) == expected
        assert outbox.size == sum(map(len, waiting))


@given(st.lists(st.sampled_from([0, 1, 125, 126, 127, 65535, 65536]) | st.integers(0, 300), max_size=5))
def test_a_client_parses_the_frames(sizes: list[int]) -> None:
    """A client parses each payload as one text message, whatever its length."""
    sent = [b"x" * size for size in sizes]
    frames = b"".join(map(text_frame, sent))
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(frames)
    received = "".join(event.data for event in client.events() if isinstance(event, TextMessage))
    assert received == "x" * sum(sizes)
    assert list(payloads(frames)) == sent


def test_the_outbox_bounds_frames() -> None:
    """Ephemeral frames may fill half of the outbox, durable frames all of it, in place of ephemeral ones."""
    outbox = Outbox(SMALL)
    assert [outbox.put(b"e", ephemeral=True) for _ in range(3)] == [
        PutResult.QUEUED,
        PutResult.QUEUED,
        PutResult.SHED,
    ]
    assert [outbox.put(b"d") for _ in range(2)] == [PutResult.QUEUED, PutResult.QUEUED]
    assert (len(outbox), outbox.size) == (4, 4)
    assert outbox.put(b"d") is PutResult.QUEUED
    assert (len(outbox), outbox.size) == (3, 3), "the ephemeral frames have made room"
    assert [outbox.put(b"d") for _ in range(2)] == [PutResult.QUEUED, PutResult.FULL]
    assert outbox.put(b"e", ephemeral=True) is PutResult.SHED
    assert outbox.take(100) == b"dddd"


def test_ephemeral_frames_are_shed_wherever_they_wait() -> None:
    """Those that left are no longer counted, and the order of the durable frames stays."""
    outbox = Outbox(SMALL)
    outbox.put(b"1", ephemeral=True)
    assert outbox.take() == b"1"
    for number in range(2, 6):
        outbox.put(b"%d" % number, ephemeral=number in {2, 3})
    assert outbox.put(b"6") is PutResult.QUEUED
    assert outbox.put(b"7") is PutResult.QUEUED
    assert outbox.put(b"8") is PutResult.FULL
    assert outbox.take(100) == b"4567"


def test_the_outbox_bounds_bytes() -> None:
    """Ephemeral bytes may fill half of the outbox, durable bytes all of it."""
    outbox = Outbox(SMALL)
    assert outbox.put(b"x" * (BYTES // 2 + 1), ephemeral=True) is PutResult.SHED
    assert outbox.put(b"x" * (BYTES // 2), ephemeral=True) is PutResult.QUEUED
    assert outbox.put(b"x" * (BYTES // 2)) is PutResult.QUEUED
    assert (len(outbox), outbox.size) == (2, BYTES)
    assert outbox.put(b"") is PutResult.QUEUED
    assert outbox.put(b"x") is PutResult.QUEUED
    assert (len(outbox), outbox.size) == (3, BYTES // 2 + 1)
    assert outbox.put(b"x" * (BYTES // 2)) is PutResult.FULL
    assert outbox.put(b"x" * (BYTES // 2 - 1)) is PutResult.QUEUED


def test_the_next_frame_leaves_alone() -> None:
    """Without a size, `take` joins no frames that have bytes."""
    outbox = Outbox(SMALL)
    for frame in (b"", b"x", b"y"):
        outbox.put(frame)
    assert [outbox.take() for _ in range(3)] == [b"", b"x", b"y"]


def test_the_smallest_outbox() -> None:
    """The smallest outbox holds two frames, of which one may be ephemeral."""
    outbox = Outbox(Limits(outbox_frames=2))
    assert outbox.put(b"x", ephemeral=True) is PutResult.QUEUED
    assert outbox.put(b"x", ephemeral=True) is PutResult.SHED
    assert outbox.put(b"x") is PutResult.QUEUED
