"""Describes the machine of the measurement."""

import json
import os
import platform
import re
import sqlite3
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter

from benchmarks.load.figures import percentile
from benchmarks.load.processes import PEERS

PACKAGES = ("fastapi", "uvicorn", "sqlalchemy", "quart-trio", "hypercorn", "trio")
NODE_PACKAGES = ("fastify", "ws", "better-sqlite3")


def machine_facts(directory: Path) -> Mapping[str, str]:
    """Date, processor, system, duration of a disk sync, and versions."""
    cpu = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": f"{os.cpu_count()} x {cpu[1] if cpu else platform.machine()}",
        "system": f"{platform.system()} {platform.release()}",
        "sync": f"{_sync_seconds(directory) * 1000:.2f} ms for an fdatasync of 4 KiB (median)",
        "versions": ", ".join(f"{name} {number}" for name, number in _versions().items()),
    }


def _sync_seconds(directory: Path) -> float:
    path = directory / "sync"
    took = []
    with path.open("wb", buffering=0) as file:
        for _ in range(50):
            file.write(b"x" * 4096)
            began = perf_counter()
            os.fdatasync(file.fileno())
            took.append(perf_counter() - began)
    path.unlink()
    return percentile(took, 0.5)


def _versions() -> dict[str, str]:
    found = {"Python": platform.python_version(), "SQLite": sqlite3.sqlite_version}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    try:
        node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return found
    found["Node.js"] = node.stdout.strip().removeprefix("v")
    for name in NODE_PACKAGES:
        described = PEERS / "node" / "node_modules" / name / "package.json"
        if described.exists():
            found[name] = json.loads(described.read_text(encoding="utf-8"))["version"]
    return found
