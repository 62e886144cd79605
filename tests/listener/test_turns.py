"""Answers that take long take turns with everybody else."""

from itertools import pairwise

import trio

from adapters.listener.turns import TURN, Turns


async def test_after_a_long_answer_each_further_one_waits_for_a_turn() -> None:
    """A crowd that is due at once goes on one by one, and others run in between."""
    turns, order = Turns(), list[str]()

    async def answer(name: str) -> None:
        if turns.spent:
            await turns.next()
        order.append(name)
        turns.spend(2 * TURN)

    async def others() -> None:
        while len(order) < 8 or order.count("answer") < 4:
            order.append("others")
            await trio.lowlevel.checkpoint()

    turns.spend(2 * TURN)
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(answer, "answer")
        nursery.start_soon(others)
    answered = [place for place, name in enumerate(order) if name == "answer"]
    assert len(answered) == 4
    assert all("others" in order[first:second] for first, second in pairwise(answered))


async def test_short_answers_wait_for_nobody() -> None:
    turns = Turns()
    turns.spend(TURN)
    assert not turns.spent
