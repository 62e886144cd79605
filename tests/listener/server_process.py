"""A listener in a process of its own: `python -m tests.listener.server_process '{"message_bytes": 1000}'`.

Serves the echo application with these settings and prints its port; at SIGTERM it shuts down and prints its
counts.
"""

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
import trio
from attrs import asdict, define

from adapters.listener import ListenerConfig, ListenerCounts, serve
from tests.listener.harness import echo


@define
class ListenerProcess:
    """A listener's process, seen from outside."""

    process: subprocess.Popen[str]
    address: tuple[str, int]
    counts: dict[str, int]
    """Set at its end."""

    @property
    def rss_kib(self) -> int:
        """Its memory now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])


@contextmanager
def server(**numbers: Any) -> Iterator[ListenerProcess]:
    """Start a server; at the end of the block, SIGTERM must stop it."""
    command = [sys.executable, "-m", "tests.listener.server_process", json.dumps(numbers)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        served = ListenerProcess(process, ("127.0.0.1", int(process.stdout.readline())), {})
        try:
            yield served
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=30)
            served.counts = json.loads(output)
        finally:
            process.kill()


def raise_descriptor_limit() -> None:
    """As many descriptors as this process may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def main(numbers: dict[str, Any]) -> None:
    raise_descriptor_limit()
    structlog.configure(
        processors=[structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)],
        wrapper_class=structlog.make_filtering_bound_logger(40),  # faults go to stderr
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    counts, shutdown = ListenerCounts(), trio.Event()
    async with trio.open_nursery() as nursery:

        async def run(task_status: trio.TaskStatus[Any]) -> None:
            config = ListenerConfig(port=0, **numbers)
            await serve(echo, config, shutdown=shutdown, counts=counts, task_status=task_status)
            nursery.cancel_scope.cancel()

        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            ((_, port),) = await nursery.start(run)
            print(port, flush=True)  # noqa: T201 - how its parent learns the port
            async for _ in signals:
                shutdown.set()
    print(json.dumps(asdict(counts)))  # noqa: T201


if __name__ == "__main__":
    trio.run(main, json.loads(sys.argv[1]))
