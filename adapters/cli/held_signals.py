"""Keeps signals from killing a server before it can heed them; imports nothing that takes time."""

import os
import signal

WITHOUT_MEANING = (signal.SIGUSR1, signal.SIGUSR2)


def hold_signals() -> None:
    """Keep SIGHUP and signals without a meaning from killing a process that starts or ends.

    An ignored SIGHUP stays ignored: nohup(1) set that.
    """
    for number in (signal.SIGHUP, *WITHOUT_MEANING):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _do_nothing)


def end_without_traces() -> None:
    """Have Ctrl-C and SIGQUIT end a process that starts without a traceback and without a core dump."""
    for number in (signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


def _do_nothing(_: int, __: object) -> None:
    pass


def _end(number: int, _: object) -> None:
    os._exit(128 + number)
