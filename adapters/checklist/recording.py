"""Records the exchanges on the wire for the report, and masks the secrets in them."""

import re
from itertools import count

from attrs import define, field, frozen

SECRET_KEYS = frozenset({"access_token", "refresh_token", "token", "ticket"})
"""Keys of JSON objects whose values are credentials."""
MASKED_HEADERS = frozenset({"cookie", "set-cookie"})
JWT = re.compile(r"eyJ[\w-]{8,}\.[\w-]+\.[\w-]*")
BODY_CHARACTERS = 2000
"""The report shows this much of a body or a frame; a longer one would not be read."""


@define(eq=False)
class HttpExchange:
    """A request and its response; without a response, `status` is None and `error` says why."""

    started: float
    """Seconds since the check began."""
    method: str
    url: str
    request_headers: tuple[tuple[str, str], ...]
    request_body: str
    status: int | None = None
    reason: str = ""
    response_headers: tuple[tuple[str, str], ...] = ()
    response_body: str = ""
    error: str = ""
    seconds: float = 0.0


@frozen
class SocketLine:
    """One event on a socket: `opened`, `frame`, `closed`, `refused`, or `failed`."""

    at: float
    """Seconds since the check began."""
    kind: str
    text: str
    """The frame, the close code and reason, the status, or the error."""


@define(eq=False)
class SocketExchange:
    """A socket's handshake and everything that arrived on it."""

    started: float
    label: str
    """Which account and tab the socket stands for, such as `Bob #2`; empty for none."""
    url: str
    request_headers: tuple[tuple[str, str], ...]
    lines: list[SocketLine] = field(factory=list)


Exchange = HttpExchange | SocketExchange


class Secrets:
    """The tokens and passwords of this check; the report shows a numbered name instead of each."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._numbers = count(1)

    def add(self, value: str, kind: str) -> None:
        """Mask `value` from now on; a known value keeps its name."""
        if len(value) >= 6 and value not in self._names:
            self._names[value] = f"‹{kind} {next(self._numbers)}›"

    def add_from(self, body: object) -> None:
        """Mask every token in a JSON body, at any depth."""
        if isinstance(body, dict):
            for key, value in body.items():
                if key in SECRET_KEYS and isinstance(value, str):
                    self.add(value, key)
                else:
                    self.add_from(value)
        elif isinstance(body, list):
            for value in body:
                self.add_from(value)

    def mask(self, text: str) -> str:
        """The text without secrets; a JWT that was not added is recognised by its form."""
        for value in sorted(self._names, key=len, reverse=True):
            text = text.replace(value, self._names[value])
        return JWT.sub("‹JWT›", text)

    def excerpt(self, text: str) -> str:
        """A body or a frame for the report: masked, then cut to `BODY_CHARACTERS`."""
        masked = self.mask(text)
        if len(masked) <= BODY_CHARACTERS:
            return masked
        return f"{masked[:BODY_CHARACTERS]}… (+{len(masked) - BODY_CHARACTERS})"

    def header(self, name: str, value: str) -> str:
        """A header field's value for the report."""
        return "‹…›" if name.lower() in MASKED_HEADERS else self.mask(value)
