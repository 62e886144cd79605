"""A cache whose entries have weights."""

from collections.abc import Callable, Hashable, ItemsView
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class WeightedCache(Generic[K, V]):
    """Values by key, bounded by their total weight; evicts the value that was put longest ago."""

    def __init__(self, capacity: int, weigh: Callable[[V], int]) -> None:
        self._capacity = capacity
        self._weigh = weigh
        self._values: dict[K, V] = {}
        self._weights: dict[K, int] = {}
        self.weight = 0
        self.get = self._values.get

    def put(self, key: K, value: V) -> None:
        self.drop(key)
        weight = self._weigh(value)
        while self._values and self.weight + weight > self._capacity:
            self.drop(next(iter(self._values)))
        self._values[key] = value
        self._weights[key] = weight
        self.weight += weight

    def drop(self, key: K) -> None:
        if self._values.pop(key, None) is not None:
            self.weight -= self._weights.pop(key)

    def items(self) -> ItemsView[K, V]:
        return self._values.items()

    def __len__(self) -> int:
        return len(self._values)
