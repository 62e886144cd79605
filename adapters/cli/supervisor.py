"""`--workers`: a supervisor of several processes that serve one address.

It only decides which processes run. A worker is any command that listens on the sockets in
`worker.Supervised`, reports on its channel that it serves, drains at SIGTERM, and ends when the channel
closes.
"""

import os
import socket
from collections.abc import Callable
from math import inf

import structlog
import trio
from attrs import define, field, frozen

from adapters.cli.address import SharedAddress, Sockets
from adapters.cli.os_signals import heed_signals
from adapters.cli.worker import VARIABLE, Supervised

log = structlog.get_logger("adapters.cli")

STEADY = 10.0
"""Seconds of service after which a worker's death no longer counts as repeated."""
PAUSES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds of back-off before a worker is started again, by its consecutive deaths."""
REPORT_BYTES = 65_536
"""The largest report of a worker that it serves."""


@frozen(kw_only=True)
class Plan:
    """The workers to run."""

    command: tuple[str, ...]
    """A worker's command line."""
    workers: int
    patience: float
    """Seconds from a worker's SIGTERM to its SIGKILL."""


@define(eq=False)
class _Worker:
    """A process."""

    number: int
    process: trio.Process
    channel: trio.SocketStream
    serves_since: float = inf
    ended: trio.Event = field(factory=trio.Event)

    @property
    def status(self) -> int:
        """The exit status in a shell's notation: 128 plus the number of a signal."""
        code = self.process.returncode or 0
        return code if code >= 0 else 128 - code


@define(eq=False)
class _Slot:
    """A slot for one worker at a time, and for its successors."""

    number: int
    sockets: Sockets = ()
    worker: _Worker = field(init=False)
    """The current worker, or the last one."""
    deaths: int = 0
    """Consecutive deaths, each within `STEADY` seconds of service."""
    lock: trio.Lock = field(factory=trio.Lock)
    """Held while a worker is started in this slot."""

    def close(self) -> None:
        """Close the listening sockets, so that new connections go to other workers, not to a dead queue."""
        for one in self.sockets:
            one.close()
        self.sockets = ()


async def supervise(plan: Plan, address: SharedAddress, serves: Callable[[bytes], None]) -> int:
    """Run workers until SIGTERM, SIGINT or SIGQUIT, and until all of them have drained; the exit status.

    The first worker starts alone: if it cannot start, its status is returned, and only it prints an error.
    When all serve, `serves` is called with the first worker's report. From then on a worker that ends is
    started again, at once, or after a back-off if it ends repeatedly. SIGHUP replaces the workers in turn: a
    successor serves before its predecessor receives SIGTERM. A second ending signal kills all workers.

    Raises `OSError` where a process cannot be started at all.
    """
    supervisor = _Supervisor(plan, address)
    async with trio.open_nursery() as nursery:
        await nursery.start(heed_signals, supervisor.end, supervisor.renew)
        await supervisor.run(serves)
        nursery.cancel_scope.cancel()
    return supervisor.status


class _Supervisor:
    def __init__(self, plan: Plan, address: SharedAddress) -> None:
        self._plan = plan
        self._address = address
        self._slots = [_Slot(number) for number in range(1, plan.workers + 1)]
        self._workers: set[_Worker] = set()
        """All processes, including those that drain."""
        self._running = trio.CancelScope()
        """The scope of all tasks that start workers."""
        self._renewal = trio.Event()
        self._is_ending = False
        self.status = 0

    def renew(self) -> None:
        """Replace all workers, one after another."""
        self._renewal.set()

    def end(self, number: int) -> None:
        """Drain all workers, or, at the second call, kill them; `number` is the signal's."""
        if not self._is_ending:
            self._is_ending = True
            self._running.cancel()
        else:
            self.status = 128 + number
            self._kill()

    async def run(self, serves: Callable[[bytes], None]) -> None:
        """Run from the first worker's start to the last worker's end."""
        async with trio.open_nursery() as self._processes:
            with self._running:
                await self._start_all(serves)
                await self._keep_all()
            await self._end()

    # --- starting ------------------------------------------------------------------------------------------

    async def _start_all(self, serves: Callable[[bytes], None]) -> None:
        first, *others = self._slots
        report = await self._start_or_end(first)
        async with trio.open_nursery() as starting:
            for slot in others:
                starting.start_soon(self._start_or_end, slot)
        serves(report)

    async def _start_or_end(self, slot: _Slot) -> bytes:
        """Start the slot's first worker; if it fails, end everything: the next one would fail, too."""
        slot.worker, report = await self._start(slot)
        if not report:
            self.status = self.status or slot.worker.status or 1
            self._running.cancel()
            await trio.lowlevel.checkpoint()
        return report

    async def _start(self, slot: _Slot) -> tuple[_Worker, bytes]:
        """A new worker on the slot's sockets, and its report that it serves; empty if it ended before."""
        await trio.lowlevel.checkpoint()
        slot.sockets = slot.sockets or self._address.listen()
        ours, theirs = socket.socketpair()
        channel = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        with theirs, trio.CancelScope(shield=True):
            process = await self._open(slot, theirs)
        worker = _Worker(slot.number, process, channel)
        self._workers.add(worker)
        self._processes.start_soon(self._reap, worker)
        log.info("worker_started", worker=slot.number, pid=process.pid)
        report = await _first_line(channel)
        if report:
            worker.serves_since = trio.current_time()
            log.info("worker_serves", worker=slot.number, pid=process.pid)
        else:
            await self._await_end(worker)  # it is about to end, or has lost its channel
        return worker, report

    async def _open(self, slot: _Slot, channel: socket.socket) -> trio.Process:
        listen = tuple(one.fileno() for one in slot.sockets)
        given = Supervised(slot.number, listen, channel.fileno())
        return await trio.lowlevel.open_process(
            self._plan.command,
            env={**os.environ, VARIABLE: given.written()},
            pass_fds=(*listen, channel.fileno()),
            process_group=0,  # so that Ctrl-C on a terminal signals the supervisor only
        )

    # --- keeping -------------------------------------------------------------------------------------------

    async def _keep_all(self) -> None:
        async with trio.open_nursery() as keepers:
            for slot in self._slots:
                keepers.start_soon(self._keep, slot)
            keepers.start_soon(self._renew)

    async def _keep(self, slot: _Slot) -> None:
        """Start a new worker in this slot whenever the current one ends."""
        while True:
            worker = slot.worker
            await worker.ended.wait()
            async with slot.lock:
                if slot.worker is worker:  # and has not been replaced
                    slot.worker = await self._start_again(slot, worker)

    async def _start_again(self, slot: _Slot, dead: _Worker) -> _Worker:
        while True:
            if trio.current_time() - dead.serves_since > STEADY:
                slot.deaths = 0
            pause = PAUSES[min(slot.deaths, len(PAUSES) - 1)]
            slot.deaths += 1
            log.error(
                "worker_died", worker=slot.number, pid=dead.process.pid, status=dead.status, again_in=pause
            )
            if pause:
                slot.close()
                await trio.sleep(pause)
            try:
                dead, report = await self._start(slot)
            except OSError as error:
                log.warning("worker_not_started", worker=slot.number, error=str(error))
            else:
                if report:
                    return dead

    async def _renew(self) -> None:
        """Replace all workers in turn at each renewal; stop at the first that cannot be replaced."""
        while True:
            await self._renewal.wait()
            self._renewal = trio.Event()
            log.info("workers_are_replaced")
            for slot in self._slots:
                if not await self._replace(slot):
                    log.error("worker_not_replaced", worker=slot.number)
                    break
            else:
                log.info("workers_have_been_replaced")

    async def _replace(self, slot: _Slot) -> bool:
        async with slot.lock:
            old = slot.worker
            try:
                new, report = await self._start(slot)
            except OSError as error:
                log.warning("worker_not_started", worker=slot.number, error=str(error))
                return False
            if not report:
                return False
            slot.worker = new
        old.process.terminate()
        await self._await_end(old)
        return True

    # --- ending --------------------------------------------------------------------------------------------

    async def _end(self) -> None:
        # Before SIGTERM: once a worker closes its copy too, new connections are refused and do not wait.
        for slot in self._slots:
            slot.close()
        self._address.close()
        async with trio.open_nursery() as ending:
            for worker in tuple(self._workers):
                worker.process.terminate()
                ending.start_soon(self._await_end, worker)

    async def _await_end(self, worker: _Worker) -> None:
        """Wait for the end of a worker that is ending; kill it after the plan's `patience`."""
        with trio.move_on_after(self._plan.patience):
            await worker.ended.wait()
            return
        log.warning("worker_killed", worker=worker.number, pid=worker.process.pid)
        worker.process.kill()
        await worker.ended.wait()

    def _kill(self) -> None:
        for worker in self._workers:
            worker.process.kill()

    async def _reap(self, worker: _Worker) -> None:
        await worker.process.wait()
        log.info("worker_ended", worker=worker.number, pid=worker.process.pid, status=worker.status)
        if self._is_ending and worker.status and worker.serves_since < inf:
            self.status = self.status or 1  # it failed while it drained
        self._workers.discard(worker)
        worker.ended.set()


async def _first_line(channel: trio.SocketStream) -> bytes:
    """The first line from the channel; empty if the channel closes before its end."""
    line = b""
    while not line.endswith(b"\n"):
        try:
            piece = await channel.receive_some(REPORT_BYTES)
        except trio.BrokenResourceError:
            return b""
        line += piece
        if not piece or len(line) > REPORT_BYTES:
            return b""
    return line
