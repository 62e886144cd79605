"""The id of a request, in its response and in its log lines."""

import re
import secrets
from itertools import count

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PROCESS = secrets.token_hex(4)
_requests = count(1)


def request_id(header: str | None) -> str:
    """The caller's X-Request-ID, where it is safe in a log line; otherwise a new id."""
    if header is not None and _REQUEST_ID.fullmatch(header):
        return header
    return f"{_PROCESS}{next(_requests):08x}"
