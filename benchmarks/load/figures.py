"""What a row shows."""

import os
from collections.abc import Mapping, Sequence
from math import ceil
from time import perf_counter

from benchmarks.load.client import Void
from benchmarks.load.processes import Running, core_seconds, thread_seconds

Figures = Mapping[str, float]


def percentile(values: Sequence[float], part: float) -> float:
    """The nearest-rank percentile: the smallest value that `part` of the values do not exceed.

    Raises `ValueError` for no values.
    """
    if not values:
        raise ValueError("no values")
    return sorted(values)[max(ceil(part * len(values)), 1) - 1]


def spread(name: str, seconds: Sequence[float]) -> dict[str, float]:
    """p50 and p99 of times, in milliseconds; raises `Void` where there are none."""
    if not seconds:
        raise Void(f"no {name} came in time")
    return {f"{name}_p{part}_ms": percentile(seconds, part / 100) * 1000 for part in (50, 99)}


class Shares:
    """How the server and the load fared on their cores since this was made, as shares of the time.

    `cpu` is what they used. `load_waited` is what the load could have used while others had its core;
    `server_others` is what others used of the server's core, the kernel's own work included. For how long the
    server waited cannot be told: its threads wait for each other too.
    """

    def __init__(self, server: Running) -> None:
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
