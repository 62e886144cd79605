"""Stops exceptions that belong to one connection or one task."""

from collections.abc import Callable
from types import TracebackType
from typing import Literal

import trio


class Boundary:
    """Reports an `Exception` raised inside and suppresses it; cancellations and fatal errors pass through.

    It is a class because a `contextmanager` takes 500 bytes a connection while its block lasts.
    """

    __slots__ = ("_report",)

    def __init__(self, report: Callable[[Exception], None]) -> None:
        self._report = report

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if isinstance(error, Exception):
            self._report(error)
            return True
        if isinstance(error, BaseExceptionGroup):
            return self._split(error)
        return False

    def _split(self, group: BaseExceptionGroup[BaseException]) -> Literal[False]:
        """Report the `Exception`s of a group, which may hold cancellations and fatal errors too."""
        cancelled, others = group.split(trio.Cancelled)
        if others is not None:
            failed, fatal = others.split(Exception)
            if failed is not None:
                self._report(ExceptionGroup(failed.message, failed.exceptions))
            if fatal is None and cancelled is not None:
                raise cancelled from None
        return False
