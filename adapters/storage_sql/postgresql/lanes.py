"""A bounded number of threads, each with a connection of its own, for what cannot be done on the event loop.

Work is claimed atomically: a caller who is cancelled while it waits has it never done; once a thread has it,
the caller gets its outcome, whatever happens.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from time import monotonic, sleep
from typing import Any, Generic, Protocol, TypeVar

import trio
from attrs import define, field
from outcome import Error, Outcome, capture

from messaging_core.ports import StorageUnavailable

log = logging.getLogger(__name__)

MAX_WAITING = 10_000
"""Calls that wait in a lane; beyond it, callers are told at once."""
GIVE_WAY_EVERY = 0.002
"""Seconds between two times at which a busy event loop gives way to the threads."""
GIVE_WAY_FOR = 0.00005
"""Seconds for which it then stands still, and for as long again until the system wakes it."""


class Tool(Protocol):
    """What a thread works with, made where it is used."""

    def cut(self) -> None:
        """Have whatever waits for the peer fail at once; called on another thread."""

    def close(self) -> None: ...


ToolT = TypeVar("ToolT", bound=Tool)
Work = Callable[[ToolT, "Call[ToolT]"], Outcome[Any] | None]
"""Gives the outcome, or None where it is told later, by `Lane.tell`."""


@define(eq=False)
class Call(Generic[ToolT]):
    """One caller, and what is to be done for it."""

    work: Work[ToolT]
    task: trio.lowlevel.Task | None
    """None once nobody waits for it any more."""
    asked_at: float = field(factory=monotonic)
    began_at: float = 0.0


class Lane(Generic[ToolT]):
    """Does calls in the order of arrival, as many at a time as it has tools; made and called on the loop."""

    def __init__(self, name: str, tools: list[ToolT], *, max_waiting: int = MAX_WAITING) -> None:
        self.loop = trio.lowlevel.current_trio_token()
        self._max_waiting = max_waiting
        self._lock = threading.Lock()
        self._waiting: dict[Call[ToolT], None] = {}
        self._threads = [_Thread(f"{name} {number}", tool, self) for number, tool in enumerate(tools, 1)]
        # The one that was busy last is asked first: its connection is open, and others need not be.
        self._idle = self._threads[::-1]
        self._closed = False
        self.under_way = 0
        self.rest = trio.lowlevel.ParkingLot()

    # Ctrl-C in between would leave a call behind whose caller waits for something else by then.
    @trio.lowlevel.enable_ki_protection
    async def call(self, work: Work[ToolT], *, may_abandon: bool = False) -> Any:
        """The outcome of `work`; `may_abandon` says that a cancelled caller need not wait for it."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._closed:
            raise StorageUnavailable("The storage is closed")
        call = Call(work, trio.lowlevel.current_task())
        with self._lock:
            if len(self._waiting) >= self._max_waiting:
                raise StorageUnavailable(f"{len(self._waiting)} transactions wait already")
            if self._idle:
                self._idle.pop().take(call)
            else:
                self._waiting[call] = None
        self.under_way += 1

        def cancel(_: object) -> trio.lowlevel.Abort:
            with self._lock:
                claimed = call not in self._waiting
                self._waiting.pop(call, None)
            if claimed and not may_abandon:
                return trio.lowlevel.Abort.FAILED
            call.task = None
            if not claimed:
                self._ended()
            return trio.lowlevel.Abort.SUCCEEDED

        return await trio.lowlevel.wait_task_rescheduled(cancel)

    def tell(self, call: Call[ToolT], outcome: Outcome[Any]) -> None:
        """End a call; on the loop, once for each."""
        if call.task is not None:
            task, call.task = call.task, None
            trio.lowlevel.reschedule(task, outcome)
        self._ended()

    def tell_soon(self, call: Call[ToolT], outcome: Outcome[Any]) -> None:
        """The same, from a thread."""
        with suppress(trio.RunFinishedError):
            self.loop.run_sync_soon(self.tell, call, outcome)

    def look(self, *, time: float) -> None:
        """End what has waited for its turn for so many seconds, and cut off what has taken so long."""
        now = monotonic()
        with self._lock:
            late = [call for call in self._waiting if now - call.asked_at > time]
            for call in late:
                del self._waiting[call]
        for call in late:
            self.tell(call, Error(StorageUnavailable(f"No connection was free for {time:g} s")))
        for thread in self._threads:
            call_ = thread.call
            if call_ is not None and now - call_.began_at > time:
                thread.tool.cut()

    async def close(self) -> None:
        """Refuse what is new, wait for what is under way, and end the threads; safe to repeat."""
        self._closed = True
        while self.under_way:
            await self.rest.park()
        for thread in self._threads:
            thread.take(None)
        for thread in self._threads:
            await trio.to_thread.run_sync(thread.join)

    def _ended(self) -> None:
        self.under_way -= 1
        if not self.under_way:
            self.rest.unpark_all()

    # --- on the threads ------------------------------------------------------------------------------------

    def next_for(self, thread: "_Thread[ToolT]") -> Call[ToolT] | None:
        """What waits longest, which nobody else gets; or None, and the thread is idle from now on."""
        with self._lock:
            thread.call = None
            for call in self._waiting:
                del self._waiting[call]
                return call
            self._idle.append(thread)
        return None


class GivingWay(trio.abc.Instrument):
    """Has a busy event loop stand still for a moment now and then, while there are calls under way.

    Such a loop gives up the interpreter's lock for moments only, too short for a thread to take it: for
    seconds on end. A thread needs it once after each look at its peer.
    """

    def __init__(self, *lanes: Lane[Any]) -> None:
        self._lanes = lanes
        self._again_at = 0.0

    def before_io_wait(self, timeout: float) -> None:
        if timeout == 0 and any(lane.under_way for lane in self._lanes) and monotonic() >= self._again_at:
            sleep(GIVE_WAY_FOR)
            self._again_at = monotonic() + GIVE_WAY_EVERY


class _Thread(Generic[ToolT]):
    def __init__(self, name: str, tool: ToolT, lane: Lane[ToolT]) -> None:
        self.tool = tool
        self.call: Call[ToolT] | None = None
        self._lane = lane
        self._given: SimpleQueue[Call[ToolT] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"storage {name}", daemon=True)
        self._thread.start()

    def take(self, call: Call[ToolT] | None) -> None:
        """Do a call while idle, or end."""
        self._given.put(call)

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        while (call := self._given.get()) is not None:
            following: Call[ToolT] | None = call
            while following is not None:
                self._do(following)
                following = self._lane.next_for(self)
        self.tool.close()

    def _do(self, call: Call[ToolT]) -> None:
        call.began_at = monotonic()
        self.call = call
        outcome = capture(call.work, self.tool, call)
        if isinstance(outcome, Error):
            self._lane.tell_soon(call, outcome)
        elif outcome.value is not None:
            self._lane.tell_soon(call, outcome.value)
