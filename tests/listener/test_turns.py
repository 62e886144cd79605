"""Long responses take turns with the other tasks."""

import trio
from trio.abc import Instrument

from adapters.listener.turns import TURN, Turns


class LoopTurns(Instrument):
    """Counts the turns of the loop. Trio runs each task that can run once a turn, in a random order."""

    def __init__(self) -> None:
        self.number = 0

    def before_io_wait(self, timeout: float) -> None:
        self.number += 1


async def test_after_a_long_response_each_further_one_waits_for_a_turn() -> None:
    """Responses that are due at once start in a turn each, and other tasks run in each turn."""
    turns, loop = Turns(), LoopTurns()
    responses, others = list[int](), list[int]()

    async def respond() -> None:
        if turns.spent:
            await turns.next()
        responses.append(loop.number)
        turns.spend(2 * TURN)

    async def other() -> None:
        while len(responses) < 4:
            others.append(loop.number)
            await trio.lowlevel.checkpoint()
        others.append(loop.number)

    trio.lowlevel.add_instrument(loop)
    turns.spend(2 * TURN)
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(respond)
        nursery.start_soon(other)
    assert len(responses) == len(set(responses)) == 4, "two long responses in one turn of the loop"
    assert set(responses) <= set(others), "a turn in which another task did not run"


async def test_a_short_response_does_not_end_the_turn() -> None:
    turns = Turns()
    turns.spend(TURN)
    assert not turns.spent
