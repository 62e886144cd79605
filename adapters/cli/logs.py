"""Logs of the server and its libraries on stderr: readable on a terminal, elsewhere a JSON object a line."""

import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from adapters.cli.streams import LossyFile, make_stderr_lossy
from adapters.http_api.dispatch import REQUEST_ID


def configure_logs(level: str, style: str, worker: int | None = None) -> None:
    """Set up logging for the process; `style` is `console`, `json`, or `auto`: is stderr a terminal.

    With several workers, each line names its `worker`. A line that cannot be written is lost, without an
    error; after the next written line, another one reports the number of lost lines.
    """
    make_stderr_lossy()
    on_terminal = sys.stderr.isatty()
    console = style == "console" or (style == "auto" and on_terminal)
    render: list[Processor] = (
        # Plain tracebacks: the ones with local variables would print a request's headers, and its token.
        [structlog.dev.ConsoleRenderer(colors=on_terminal, exception_formatter=structlog.dev.plain_traceback)]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
    )
    about_all: list[Processor] = [
        *([] if worker is None else [_adding("worker", worker)]),
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if console else "iso", utc=not console),
    ]
    shared = [_add_request_id, *about_all]
    least = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    # Libraries log from warnings on, whatever the server's own level.
    logging.basicConfig(handlers=[handler], level=max(least, logging.WARNING), force=True)
    file = getattr(sys.stderr, "buffer", None)
    if isinstance(file, LossyFile):
        file.loss_report = _loss_report([*about_all, *render])


def _loss_report(processors: Sequence[Processor]) -> Callable[[int], bytes]:
    def report(lost: int) -> bytes:
        event: Any = {"event": "Lines of the log could not be written", "lost": lost}
        for process in processors:
            event = process(None, "warning", event)
        return f"{event}\n".encode()

    return report


def _add_request_id(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    request_id = REQUEST_ID.get()
    if request_id is not None:
        event.setdefault("request_id", request_id)
    return event


def _adding(name: str, value: object) -> Processor:
    def add(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event.setdefault(name, value)
        return event

    return add
