"""Where an exception stops."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

import trio


@contextmanager
def boundary(report: Callable[[Exception], None]) -> Generator[None]:
    """Report what fails inside and go on; a cancellation, and what ends the process, pass through."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - that is what a boundary is
        report(error)
    except BaseExceptionGroup as group:
        cancelled, others = group.split(trio.Cancelled)
        if others is not None:
            failed, fatal = others.split(Exception)
            if fatal is not None or failed is None:
                raise
            report(ExceptionGroup(failed.message, failed.exceptions))
        if cancelled is not None:
            raise cancelled from None
