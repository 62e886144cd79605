"""Commits that share a key are told of in the order in which their places were taken."""

import pytest

from adapters.storage_sql.postgresql.commit_order import CommitOrder


@pytest.mark.parametrize("keys", [{"chat"}, {"chat", "session"}])
def test_whoever_is_settled_first_waits_for_those_before(keys: set[str]) -> None:
    """Three that have met are told of in their order, in whichever order their outcomes become known."""
    order, told = CommitOrder(), list[int]()
    first, second, third = (order.take(keys) for _ in range(3))
    order.settle(third, lambda: told.append(3))
    order.settle(second, lambda: told.append(2))
    assert told == []
    order.settle(first, lambda: told.append(1))
    assert told == [1, 2, 3]
    assert order._queues == {}


def test_those_who_have_not_met_wait_for_nobody() -> None:
    """Another chat's commit is told of at once."""
    order, told = CommitOrder(), list[int]()
    order.take({"chat"})
    order.settle(order.take({"other chat"}), lambda: told.append(2))
    order.settle(order.take(()), lambda: told.append(3))
    assert told == [2, 3]


def test_two_locks_are_two_queues() -> None:
    """Who has locked two things waits for those before it at each, and holds up those behind it at each."""
    order, told = CommitOrder(), list[str]()
    places = {name: order.take(keys) for name, keys in (("a", {1}), ("b", {2}), ("ab", {1, 2}), ("c", {2}))}
    for name in ("c", "ab", "b"):
        order.settle(places[name], lambda name=name: told.append(name))  # type: ignore[misc]
    assert told == ["b"]
    order.settle(places["a"], lambda: told.append("a"))
    assert told == ["b", "a", "ab", "c"]
    assert order._queues == {}
