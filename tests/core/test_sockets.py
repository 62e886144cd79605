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
    """The bounds hold, accepted frames leave in order, and a frame is refused only if it does not fit."""
    outbox = Outbox(SMALL)
    waiting: deque[bytes] = deque()
    for number, action in enumerate(actions):
        if action is None:
            assert outbox.take() == (waiting.popleft() if waiting else b"")
        else:
            size, ephemeral = action
            frame = bytes([number]) * size
            share = 2 if ephemeral else 1
            fits = (
                len(waiting) < SMALL.outbox_frames // share
                and sum(map(len, waiting)) + size <= BYTES // share
            )
            result = outbox.put(frame, ephemeral=ephemeral)
            if fits:
                assert result is PutResult.QUEUED
                waiting.append(frame)
            else:
                assert result is (PutResult.SHED if ephemeral else PutResult.FULL)
        assert len(outbox) == len(waiting) <= SMALL.outbox_frames
        assert outbox.size == sum(map(len, waiting)) <= BYTES
    assert [outbox.take() for _ in waiting] == list(waiting)
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
    """Ephemeral frames may fill half of the outbox, durable frames all of it."""
    outbox = Outbox(SMALL)
    assert [outbox.put(b"x", ephemeral=True) for _ in range(3)] == [
        PutResult.QUEUED,
        PutResult.QUEUED,
        PutResult.SHED,
    ]
    assert [outbox.put(b"x") for _ in range(3)] == [PutResult.QUEUED, PutResult.QUEUED, PutResult.FULL]
    assert outbox.put(b"x", ephemeral=True) is PutResult.SHED
    outbox.take()
    assert outbox.put(b"x") is PutResult.QUEUED


def test_the_outbox_bounds_bytes() -> None:
    """Ephemeral bytes may fill half of the outbox, durable bytes all of it."""
    outbox = Outbox(SMALL)
    assert outbox.put(b"x" * (BYTES // 2 + 1), ephemeral=True) is PutResult.SHED
    assert outbox.put(b"x" * (BYTES // 2), ephemeral=True) is PutResult.QUEUED
    assert outbox.put(b"x" * (BYTES // 2 + 1)) is PutResult.FULL
    assert outbox.put(b"x" * (BYTES // 2)) is PutResult.QUEUED
    assert outbox.put(b"") is PutResult.QUEUED
    assert outbox.put(b"x") is PutResult.FULL


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
