"""Commits that share a key are notified in the order of their tickets."""

import pytest

from adapters.storage_sql.postgresql.commit_order import CommitOrder


@pytest.mark.parametrize("keys", [{"chat"}, {"chat", "session"}])
def test_a_ticket_waits_for_earlier_ones_of_its_keys(keys: set[str]) -> None:
    """Three tickets of the same keys are notified in their order, in whichever order they complete."""
    order, notified = CommitOrder(), list[int]()
    first, second, third = (order.take(keys) for _ in range(3))
    order.complete(third, lambda: notified.append(3))
    order.complete(second, lambda: notified.append(2))
    assert notified == []
    order.complete(first, lambda: notified.append(1))
    assert notified == [1, 2, 3]
    assert order._queues == {}


def test_a_ticket_does_not_wait_for_other_keys() -> None:
    """Another chat's commit is notified at once."""
    order, notified = CommitOrder(), list[int]()
    order.take({"chat"})
    order.complete(order.take({"other chat"}), lambda: notified.append(2))
    order.complete(order.take(()), lambda: notified.append(3))
    assert notified == [2, 3]


def test_two_locks_are_two_queues() -> None:
    """A ticket of two keys waits for the earlier tickets of each, and delays the later ones of each."""
    order, notified = CommitOrder(), list[str]()
    tickets = {name: order.take(keys) for name, keys in (("a", {1}), ("b", {2}), ("ab", {1, 2}), ("c", {2}))}
    for name in ("c", "ab", "b"):
        order.complete(tickets[name], lambda name=name: notified.append(name))  # type: ignore[misc]
    assert notified == ["b"]
    order.complete(tickets["a"], lambda: notified.append("a"))
    assert notified == ["b", "a", "ab", "c"]
    assert order._queues == {}
