"""One log line per request, and Hypercorn's log lines, through structlog; without queries and header
fields.
"""

import logging
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import structlog
from hypercorn.logging import Logger

log = structlog.get_logger("adapters.listener")

REQUEST_ID = "x-request-id"


class StructlogLogger(Logger):
    """Hypercorn's logger, through structlog.

    Hypercorn 0.18's access log writes the Referer, which can hold `?token=`, and copies each header field and
    the whole environment for each request; it is off, and the listener writes the keys of `log_request`.
    """

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
    """Log a finished request, through ASGI or not; `size` is the response's body in bytes.

    Of the response's header fields, whose names are in lower case, it logs only the request's id.
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


def decoded_fields(fields: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[str, str]]:
    """Header fields as `log_request` expects them."""
    for name, value in fields:
        yield name.decode("latin-1").lower(), value.decode("latin-1")
