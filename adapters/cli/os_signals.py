"""What the operating system's signals mean to a server, to a supervisor and to its workers.

SIGTERM, SIGINT and SIGQUIT end the process in an orderly way. SIGHUP replaces workers, where there are any,
or says that the terminal has gone that the process was started from. SIGUSR1 and SIGUSR2 mean nothing.
"""

import os
import signal
from collections.abc import Callable

import structlog
import trio

log = structlog.get_logger("adapters.cli")

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
MEANINGLESS = (signal.SIGUSR1, signal.SIGUSR2)


def hold_signals() -> None:
    """Let no signal that means nothing kill a process that starts, or ends; called before all else.

    A SIGHUP that is ignored already stays so: nohup(1) has seen to it.
    """
    for number in (signal.SIGHUP, *MEANINGLESS):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _do_nothing)


def _do_nothing(_: int, __: object) -> None:
    pass


async def heed_signals(
    end: Callable[[int], None],
    renew: Callable[[], None],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Call `end` with each signal that asks for the end, and `renew` at SIGHUP; log the meaningless ones."""
    nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    from_terminal = _has_terminal() and not nohup
    with trio.open_signal_receiver(*ENDING, signal.SIGHUP, *MEANINGLESS) as signals:
        task_status.started()
        async for number in signals:
            if number in MEANINGLESS:
                ignored(number, "it means nothing to this program")
            elif number != signal.SIGHUP or (from_terminal and not _has_terminal()):
                end(number)
            else:
                renew()


def ignored(number: int, reason: str) -> None:
    """Log that a signal was received and changes nothing."""
    log.warning("signal_ignored", signal=signal.Signals(number).name, reason=reason)


def _has_terminal() -> bool:
    """Whether the process has a controlling terminal, and that has not hung up."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
