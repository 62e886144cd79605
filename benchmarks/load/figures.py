"""The figures of a row: percentiles, and shares of the two cores."""

import os
from collections.abc import Mapping, Sequence
from math import ceil
from time import perf_counter

from benchmarks.load.client import Void
from benchmarks.load.processes import RunningServer, core_seconds, thread_seconds

Figures = Mapping[str, float]


def percentile(values: Sequence[float], part: float) -> float:
    """The nearest-rank percentile: the smallest value such that `part` of the values do not exceed it.

    Raises `ValueError` without values.
    """
    if not values:
        raise ValueError("no values")
    return sorted(values)[max(ceil(part * len(values)), 1) - 1]


def spread(name: str, seconds: Sequence[float]) -> dict[str, float]:
    """p50 and p99 of times, in milliseconds. Raises `Void` without times."""
    if not seconds:
        raise Void(f"no {name} arrived in time")
    return {f"{name}_p{part}_ms": percentile(seconds, part / 100) * 1000 for part in (50, 99)}


class CoreShares:
    """Shares of the two cores since the creation of this object.

    `load_cpu` and `server_cpu` are the shares that the load and the server used. `load_waited` is the share
    for which the load was ready to run and others had its core; `server_others` is what others used of the
    server's core, including the kernel. The server's own waiting is not measurable: its threads also wait for
    each other.
    """

    def __init__(self, server: RunningServer) -> None:
        self._pid = server.pid
        self._began = perf_counter()
        self._before = self._now()

    def figures(self) -> dict[str, float]:
        elapsed = perf_counter() - self._began
        names = ("load_cpu", "load_waited", "server_cpu", "server_core")
        shares = {
            name: (after - before) / elapsed
            for name, before, after in zip(names, self._before, self._now(), strict=True)
        }
        busy = shares.pop("server_core")
        return {**shares, "server_others": max(busy - shares["server_cpu"], 0.0)}

    def _now(self) -> tuple[float, float, float, float]:
        server, _ = thread_seconds(self._pid)
        return *thread_seconds(os.getpid()), server, core_seconds(self._pid)
