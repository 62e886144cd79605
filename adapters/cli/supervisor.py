"""`--workers`: several processes that serve one address, and the one that sees to it that they do.

It decides nothing but who runs. A worker is any command that takes the sockets which `worker.Supervised`
names, says on its channel that it serves, drains at SIGTERM, and ends when the channel does.
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
"""Seconds that a worker has served when its death counts as the first one again."""
PAUSES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds before a worker is started again, by its deaths in a row."""
FIRST_WORD = 65_536
"""Bytes, at most, of what a worker says when it serves."""


@frozen(kw_only=True)
class Plan:
    """What to run."""

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
        """As a shell would have it."""
        code = self.process.returncode or 0
        return code if code >= 0 else 128 - code


@define(eq=False)
class _Slot:
    """The place of one worker after another."""

    number: int
    sockets: Sockets = ()
    worker: _Worker = field(init=False)
    """Who serves here, or served last."""
    deaths: int = 0
    """In a row, none of which was long after the one before."""
    lock: trio.Lock = field(factory=trio.Lock)
    """Held by who starts a worker here."""

    def close(self) -> None:
        """Let nobody wait in a queue that nobody serves: what comes goes to the others."""
        for one in self.sockets:
            one.close()
        self.sockets = ()


async def supervise(plan: Plan, address: SharedAddress, serves: Callable[[bytes], None]) -> int:
    """Run workers until SIGTERM, SIGINT or SIGQUIT, and until all of them have drained; the exit status.

    The first is started alone: where it cannot start, its status is the answer, and its own words are all
    that is said. When all serve, `serves` is called with what the first one said. From then on one that ends
    is started again, at once, or later if it does so again and again. At SIGHUP each is replaced in turn: the
    next one serves before it is told to drain. A second signal that ends it kills.

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
        """All processes, those that drain included."""
        self._running = trio.CancelScope()
        """Of everything that starts workers."""
        self._renewal = trio.Event()
        self._told_to_end = False
        self.status = 0

    def renew(self) -> None:
        """Replace all workers, one after another."""
        self._renewal.set()

    def end(self, number: int) -> None:
        """Have all workers drain, or, the second time, kill them; for a signal of this number."""
        if not self._told_to_end:
            self._told_to_end = True
            self._running.cancel()
        else:
            self.status = 128 + number
            self._kill()

    async def run(self, serves: Callable[[bytes], None]) -> None:
        """Everything from the first start to the last end."""
        async with trio.open_nursery() as self._processes:
            with self._running:
                await self._start_all(serves)
                await self._keep_all()
            await self._end()

    # --- starting ------------------------------------------------------------------------------------------

    async def _start_all(self, serves: Callable[[bytes], None]) -> None:
        first, *others = self._slots
        told = await self._start_or_end(first)
        async with trio.open_nursery() as starting:
            for slot in others:
                starting.start_soon(self._start_or_end, slot)
        serves(told)

    async def _start_or_end(self, slot: _Slot) -> bytes:
        """Have the first worker in this slot, or end everything: what keeps it will keep the next one too."""
        slot.worker, told = await self._start(slot)
        if not told:
            self.status = self.status or slot.worker.status or 1
            self._running.cancel()
            await trio.lowlevel.checkpoint()
        return told

    async def _start(self, slot: _Slot) -> tuple[_Worker, bytes]:
        """A new worker on the slot's sockets, and what it said when it served, or nothing: it has ended."""
        await trio.lowlevel.checkpoint()
        slot.sockets = slot.sockets or self._address.listen()
        ours, theirs = socket.socketpair()
        channel = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        with theirs, trio.CancelScope(shield=True):
            process = await self._open(slot, theirs)
        worker = _Worker(slot.number, process, channel)
        self._workers.add(worker)
        self._processes.start_soon(self._see_to_its_end, worker)
        log.info("worker_started", worker=slot.number, pid=process.pid)
        told = await _line(channel)
        if told:
            worker.serves_since = trio.current_time()
            log.info("worker_serves", worker=slot.number, pid=process.pid)
        else:
            await self._await_end(worker)  # it is about to, or has nobody to talk to
        return worker, told

    async def _open(self, slot: _Slot, channel: socket.socket) -> trio.Process:
        listen = tuple(one.fileno() for one in slot.sockets)
        given = Supervised(slot.number, listen, channel.fileno())
        return await trio.lowlevel.open_process(
            self._plan.command,
            env={**os.environ, VARIABLE: given.written()},
            pass_fds=(*listen, channel.fileno()),
            process_group=0,  # Ctrl-C on a terminal is for the supervisor alone
        )

    # --- keeping -------------------------------------------------------------------------------------------

    async def _keep_all(self) -> None:
        async with trio.open_nursery() as keepers:
            for slot in self._slots:
                keepers.start_soon(self._keep, slot)
            keepers.start_soon(self._renew)

    async def _keep(self, slot: _Slot) -> None:
        """Have somebody serve in this slot, whatever happens to who does."""
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
                dead, told = await self._start(slot)
            except OSError as error:
                log.warning("worker_not_started", worker=slot.number, error=str(error))
            else:
                if told:
                    return dead

    async def _renew(self) -> None:
        """Replace all, one after another, whenever it is asked for; the first that cannot be ends it."""
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
                new, told = await self._start(slot)
            except OSError as error:
                log.warning("worker_not_started", worker=slot.number, error=str(error))
                return False
            if not told:
                return False
            slot.worker = new
        old.process.terminate()
        await self._await_end(old)
        return True

    # --- ending --------------------------------------------------------------------------------------------

    async def _end(self) -> None:
        # Before they are told: when a worker closes its socket too, what comes is refused, and nobody waits.
        for slot in self._slots:
            slot.close()
        self._address.close()
        async with trio.open_nursery() as ending:
            for worker in tuple(self._workers):
                worker.process.terminate()
                ending.start_soon(self._await_end, worker)

    async def _await_end(self, worker: _Worker) -> None:
        """See a worker's end, which it knows of; it has the plan's patience for it."""
        with trio.move_on_after(self._plan.patience):
            await worker.ended.wait()
            return
        log.warning("worker_killed", worker=worker.number, pid=worker.process.pid)
        worker.process.kill()
        await worker.ended.wait()

    def _kill(self) -> None:
        for worker in self._workers:
            worker.process.kill()

    async def _see_to_its_end(self, worker: _Worker) -> None:
        await worker.process.wait()
        log.info("worker_ended", worker=worker.number, pid=worker.process.pid, status=worker.status)
        if self._told_to_end and worker.status and worker.serves_since < inf:
            self.status = self.status or 1  # it has not come to its end as it should
        self._workers.discard(worker)
        worker.ended.set()


async def _line(channel: trio.SocketStream) -> bytes:
    """The first line that comes; nothing if the channel ends before it does."""
    line = b""
    while not line.endswith(b"\n"):
        try:
            piece = await channel.receive_some(FIRST_WORD)
        except trio.BrokenResourceError:
            return b""
        line += piece
        if not piece or len(line) > FIRST_WORD:
            return b""
    return line
