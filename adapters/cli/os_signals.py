"""The operating system's signals to a server, to a supervisor and to its workers.

SIGTERM, SIGINT and SIGQUIT end the process in an orderly way. SIGHUP replaces workers, where there are any,
or means that the terminal of the process has closed. SIGUSR1 and SIGUSR2 have no meaning.
"""

import os
import signal
from collections.abc import Callable

import structlog
import trio

from adapters.cli.held_signals import WITHOUT_MEANING

log = structlog.get_logger("adapters.cli")

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


async def heed_signals(
    end: Callable[[int], None],
    renew: Callable[[], None],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Call `end` with the number of each ending signal, and `renew` at SIGHUP; log the meaningless
    signals.
    """
    nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    from_terminal = _has_terminal() and not nohup
    with trio.open_signal_receiver(*ENDING, signal.SIGHUP, *WITHOUT_MEANING) as signals:
        task_status.started()
        async for number in signals:
            if number in WITHOUT_MEANING:
                ignored(number, "it means nothing to this program")
            elif number != signal.SIGHUP or (from_terminal and not _has_terminal()):
                end(number)
            else:
                renew()


def ignored(number: int, reason: str) -> None:
    """Log a signal that has no effect."""
    log.warning("signal_ignored", signal=signal.Signals(number).name, reason=reason)


def _has_terminal() -> bool:
    """Whether the process has a controlling terminal that has not hung up."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
