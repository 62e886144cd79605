"""One log line per request, and Hypercorn's log lines, through structlog; without queries and header
fields.
"""

import logging
import sys
from collections.abc import Iterable, Iterator
from typing import Any, cast

import structlog
from hypercorn.config import Config
from hypercorn.logging import Logger
from hypercorn.typing import ResponseSummary, WWWScope

log = structlog.get_logger("adapters.listener")

REQUEST_ID = "x-request-id"


class LoggedResponse(ResponseSummary, total=False):
    """A response, as far as the log shows it."""

    bytes: int
    """Of its body."""


class StructlogLogger(Logger):
    """Hypercorn's logger, through structlog.

    Hypercorn 0.18's access log writes the Referer, which can hold `?token=`, and copies each header field and
    the whole environment for each request; this one writes only the keys of `log_request`.
    """

    def __init__(self, config: Config) -> None:  # noqa: ARG002 - Hypercorn's signature; its own logger would open files
        self.access_logger = None
        self.error_logger = None

    async def access(self, request: WWWScope, response: ResponseSummary | None, request_time: float) -> None:
        """Log a finished request; `response` is None if the peer disconnected before there was one."""
        client = request["client"]
        logged = cast("LoggedResponse", response or {})
        log_request(
            request["method"] if request["type"] == "http" else "WEBSOCKET",
            request["raw_path"].decode("latin-1"),
            None if response is None else int(response["status"]),
            size=logged.get("bytes", 0),
            seconds=request_time,
            client=None if client is None else client[0],
            fields=_fields(response),
        )

    async def critical(self, message: str, *args: Any, **kwargs: Any) -> None:
        log.critical(message, *args, **kwargs)

    async def error(self, message: str, *args: Any, **kwargs: Any) -> None:
        log.error(message, *args, **kwargs)

    async def warning(self, message: str, *args: Any, **kwargs: Any) -> None:
        log.warning(message, *args, **kwargs)

    async def info(self, message: str, *args: Any, **kwargs: Any) -> None:
        log.info(message, *args, **kwargs)

    async def debug(self, message: str, *args: Any, **kwargs: Any) -> None:
        log.debug(message, *args, **kwargs)

    async def exception(self, message: str, *args: Any, **kwargs: Any) -> None:
        log.error(message, *args, exc_info=sys.exc_info(), **kwargs)

    async def log(self, level: int, message: str, *args: Any, **kwargs: Any) -> None:
        log.log(level, message, *args, **kwargs)


def log_request(
    method: str,
    path: str,
    status: int | None,
    *,
    size: int,
    seconds: float,
    client: str | None,
    fields: Iterable[tuple[str, str]],
) -> None:
    """Log a finished request, through ASGI or not; `size` is the answer's body in bytes.

    Of the answer's header fields, whose names are in lower case, it logs only the request's id.
    """
    if not log.is_enabled_for(logging.INFO):
        return
    ids = [value for name, value in fields if name == REQUEST_ID]
    request_id = {"request_id": ids[0]} if ids else {}
    log.info(
        "request",
        method=method,
        path=path,
        status=status,
        bytes=size,
        ms=round(seconds * 1000, 1),
        client=client,
        **request_id,
    )


def _fields(response: ResponseSummary | None) -> Iterator[tuple[str, str]]:
    for name, value in [] if response is None else response.get("headers", []):
        yield name.decode("latin-1").lower(), value.decode("latin-1")
