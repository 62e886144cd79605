"""One line per request, and Hypercorn's own log lines, through structlog; never a query, never a header."""

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
    """A response as the log tells it."""

    bytes: int
    """Of its body."""


class StructlogLogger(Logger):
    """Hypercorn's logger, in structlog.

    Hypercorn 0.18's access log writes the Referer, which can hold `?token=`, and copies every header and the
    whole environment for each request; this one writes what is named here and nothing else.
    """

    def __init__(self, config: Config) -> None:  # noqa: ARG002 - Hypercorn gives it; its own would open files
        self.access_logger = None
        self.error_logger = None

    async def access(self, request: WWWScope, response: ResponseSummary | None, request_time: float) -> None:
        """Log a request that ended; `response` is None when the peer left before there was one."""
        client = request["client"]
        answered = cast("LoggedResponse", response or {})
        log_request(
            request["method"] if request["type"] == "http" else "WEBSOCKET",
            request["raw_path"].decode("latin-1"),
            None if response is None else int(response["status"]),
            size=answered.get("bytes", 0),
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
    """Log a request that ended, whichever way it took; `size` is in bytes, of the answer's body.

    Of the answer's header fields, their names in lower case, it tells the request's id.
    """
    if not log.is_enabled_for(logging.INFO):
        return
    ids = [value for name, value in fields if name == REQUEST_ID]
    told = {"request_id": ids[0]} if ids else {}
    log.info(
        "request",
        method=method,
        path=path,
        status=status,
        bytes=size,
        ms=round(seconds * 1000, 1),
        client=client,
        **told,
    )


def _fields(response: ResponseSummary | None) -> Iterator[tuple[str, str]]:
    for name, value in [] if response is None else response.get("headers", []):
        yield name.decode("latin-1").lower(), value.decode("latin-1")
