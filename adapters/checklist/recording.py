"""What went over the wire, kept so that the report can show it, and the secrets in it, which it must not."""

import re
from itertools import count

from attrs import define, field, frozen

SECRET_KEYS = frozenset({"access_token", "refresh_token", "token", "ticket"})
"""Keys of JSON objects whose values let somebody in."""
MASKED_HEADERS = frozenset({"cookie", "set-cookie"})
JWT = re.compile(r"eyJ[\w-]{8,}\.[\w-]+\.[\w-]*")
BODY_CHARACTERS = 2000
"""More of one body or frame is cut from the report: nobody reads it there."""


@define(eq=False)
class HttpExchange:
    """A request and what came back; `status` is None where nothing did, and `error` says why."""

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
    """One thing that happened on a socket: `opened`, `frame`, `closed`, `refused`, or `failed`."""

    at: float
    """Seconds since the check began."""
    kind: str
    told: str


@define(eq=False)
class SocketExchange:
    """A socket's handshake and everything that arrived on it."""

    started: float
    whose: str
    url: str
    request_headers: tuple[tuple[str, str], ...]
    lines: list[SocketLine] = field(factory=list)


Exchange = HttpExchange | SocketExchange


class Secrets:
    """The tokens and passwords that were seen, each of which is shown by a name of its own instead."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._numbers = count(1)

    def add(self, value: str, kind: str) -> None:
        """Mask `value` from now on; one that is known keeps its name."""
        if len(value) >= 6 and value not in self._names:
            self._names[value] = f"‹{kind} {next(self._numbers)}›"

    def add_from(self, body: object) -> None:
        """Mask every token in a JSON body, however deep."""
        if isinstance(body, dict):
            for key, value in body.items():
                if key in SECRET_KEYS and isinstance(value, str):
                    self.add(value, key)
                else:
                    self.add_from(value)
        elif isinstance(body, list):
            for value in body:
                self.add_from(value)

    def mask(self, told: str) -> str:
        """The same without secrets; a token that was never seen before is recognised by its form."""
        for value in sorted(self._names, key=len, reverse=True):
            told = told.replace(value, self._names[value])
        return JWT.sub("‹JWT›", told)

    def shown(self, told: str) -> str:
        """A body or frame as the report shows it: masked, and cut where it is long."""
        masked = self.mask(told)
        if len(masked) <= BODY_CHARACTERS:
            return masked
        return f"{masked[:BODY_CHARACTERS]}… (+{len(masked) - BODY_CHARACTERS})"

    def header(self, name: str, value: str) -> str:
        """A header's value as the report shows it."""
        return "‹…›" if name.lower() in MASKED_HEADERS else self.mask(value)
