"""A socket's outbox: bounded whatever comes, first in first out, ephemeral frames shed first."""

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from messaging_core.limits import Limits
from messaging_core.sockets import Outbox, Room

SMALL = Limits(outbox_frames=4)
BYTES = SMALL.outbox_bytes

puts = st.tuples(
    st.sampled_from([0, 1, 1000, BYTES // 4, BYTES // 2, BYTES // 2 + 1, BYTES, BYTES + 1]), st.booleans()
)


@given(st.lists(st.none() | puts, max_size=40))
def test_any_sequence(actions: list[tuple[int, bool] | None]) -> None:
    """Bounds hold, what was taken comes out in order, and only what finds no room is turned away."""
    outbox = Outbox(SMALL)
    waiting: deque[bytes] = deque()
    for number, action in enumerate(actions):
        if action is None:
            assert outbox.get() == (waiting.popleft() if waiting else None)
        else:
            size, ephemeral = action
            frame = bytes([number]) * size
            share = 2 if ephemeral else 1
            fits = (
                len(waiting) < SMALL.outbox_frames // share
                and sum(map(len, waiting)) + size <= BYTES // share
            )
            room = outbox.put(frame, ephemeral=ephemeral)
            if fits:
                assert room is Room.TAKEN
                waiting.append(frame)
            else:
                assert room is (Room.SHED if ephemeral else Room.FULL)
        assert len(outbox) == len(waiting) <= SMALL.outbox_frames
        assert outbox.size == sum(map(len, waiting)) <= BYTES
    assert [outbox.get() for _ in waiting] == list(waiting)
    assert outbox.get() is None
    assert outbox.size == len(outbox) == 0


def test_frames_are_counted() -> None:
    """Ephemeral frames fill half of the outbox, durable ones all of it."""
    outbox = Outbox(SMALL)
    assert [outbox.put(b"x", ephemeral=True) for _ in range(3)] == [Room.TAKEN, Room.TAKEN, Room.SHED]
    assert [outbox.put(b"x") for _ in range(3)] == [Room.TAKEN, Room.TAKEN, Room.FULL]
    assert outbox.put(b"x", ephemeral=True) is Room.SHED
    outbox.get()
    assert outbox.put(b"x") is Room.TAKEN


def test_bytes_are_counted() -> None:
    """The same by bytes."""
    outbox = Outbox(SMALL)
    assert outbox.put(b"x" * (BYTES // 2 + 1), ephemeral=True) is Room.SHED
    assert outbox.put(b"x" * (BYTES // 2), ephemeral=True) is Room.TAKEN
    assert outbox.put(b"x" * (BYTES // 2 + 1)) is Room.FULL
    assert outbox.put(b"x" * (BYTES // 2)) is Room.TAKEN
    assert outbox.put(b"") is Room.TAKEN
    assert outbox.put(b"x") is Room.FULL


def test_the_smallest_outbox() -> None:
    """Two frames are the least: one of them may be ephemeral."""
    outbox = Outbox(Limits(outbox_frames=2))
    assert outbox.put(b"x", ephemeral=True) is Room.TAKEN
    assert outbox.put(b"x", ephemeral=True) is Room.SHED
    assert outbox.put(b"x") is Room.TAKEN
