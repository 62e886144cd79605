"""What an endpoint is: one declaration from which it is served, limited, documented and tested."""

import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from functools import cached_property
from itertools import count
from typing import Any
from urllib.parse import parse_qsl

from attrs import AttrsInstance, fields, frozen

from adapters.quart_app.wire import integer_fields
from adapters.runtime.messaging import Messaging, Read
from messaging_core.addresses import network_of
from messaging_core.errors import Refused
from messaging_core.idempotency import parse_key
from messaging_core.limits import Limits
from messaging_core.operations import Context, Operation, Query

API = "/api/v1"
JSON = "application/json"
REPLAYED = ("Idempotency-Replayed", "true")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PROCESS = secrets.token_hex(4)
_requests = count(1)


def request_id(told: str | None) -> str:
    """The caller's id for the request, where it can stand in a log line; otherwise one of ours."""
    return told if told is not None and _REQUEST_ID.fullmatch(told) else f"{_PROCESS}{next(_requests):08x}"


@frozen
class HttpRequest:
    """A request as every way into the server hands it over; names of headers are in lower case."""

    method: str
    path: str
    path_values: Mapping[str, str]
    query_string: bytes
    headers: Mapping[str, str]
    body: bytes
    address: str
    request_id: str

    @property
    def query(self) -> Mapping[str, str]:
        """The query's values by name; of a name that comes several times the last, as FastAPI has it."""
        text = self.query_string.decode("latin-1")
        if "%" in text or "+" in text:
            return dict(parse_qsl(text, keep_blank_values=True))
        # The same where nothing is escaped, in a fifth of the time.
        pairs = [pair.partition("=") for pair in text.split("&") if pair]
        return {name: value for name, _, value in pairs}

    @property
    def host(self) -> str | None:
        """The host, and the port where one is given, to which the request is addressed."""
        return self.headers.get("host")

    @property
    def idempotency_key(self) -> str | None:
        """The key that was sent, or None; raises `IdempotencyKeyInvalid`."""
        header = self.headers.get("idempotency-key")
        return None if header is None else parse_key(header)

    @property
    def network(self) -> str:
        """The network by which limits count the address."""
        return network_of(self.address)


@frozen
class HttpAnswer:
    status: int
    body: bytes = b""
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()

    def fields(self, request_id: str) -> tuple[tuple[str, str], ...]:
        """All of its header fields but those that a server adds; names in lower case."""
        kind = (("content-type", self.content_type),) if self.body else ()
        return (
            *kind,
            *((name.lower(), value) for name, value in self.headers),
            ("x-request-id", request_id),
        )


class Auth(Enum):
    NONE = "none"
    SESSION = "session"
    """A valid access token, of a session that has not ended."""


class Per(Enum):
    """Whose bucket a request takes its permit from."""

    USER = "user"
    ADDRESS = "address"
    """An IPv4 address, or the /64 of an IPv6 address."""
    EMAIL_AND_ADDRESS = "e-mail and address"
    SESSION = "session"
    """Of the refresh token: an address may be a whole office's, and a refusal logs people out."""


class Cost(Enum):
    """What a request costs by; the value names the number in `Limits` of what one permit covers."""

    MEMBERS = "members_per_permit"
    """Those whom a new group's command names: known before, so that too many for the bucket are refused."""
    DELIVERIES = "deliveries_per_permit"
    """People of the chat whom an event is delivered to: charged when it is committed."""
    ANSWER = "answer_bytes_per_permit"
    """Bytes of the answer's body: charged when it is encoded."""


@frozen
class Limit:
    """A rate in `Limits` by its name, whose it is, and what costs more than a permit."""

    rate: str
    per: Per
    costs: tuple[Cost, ...] = ()


STRANGER_LIMITS = (Limit("stranger_rate", Per.USER), Limit("stranger_address_rate", Per.ADDRESS))
"""For what shows a person by their id, so that nobody collects people by counting ids up."""


def _whole(_command: object, result: object) -> object:
    return result


@frozen
class Reads:
    """A query; `show` picks what is shown of its result."""

    query: Callable[[Any, Context], Query[Any]]
    show: Callable[[Any, Any], object] = _whole


@frozen
class ReadsInParts:
    """Several queries, between which others have their turn; `function` gives the body of the answer.

    Of commands whose answers are megabytes, only few are carried out at a time. Others are answered by
    `small`, where it is given: one query costs less.
    """

    function: Callable[[Any, Context, Read], Awaitable[bytes]]
    is_large: Callable[[Any, Limits], bool] = lambda _, __: False
    small: Reads | None = None


@frozen
class Writes:
    """An operation, carried out once per Idempotency-Key."""

    operation: Callable[[Any, Context], Operation[Any]]


@frozen
class Handles:
    """Anything that is more than one transaction, such as a log-in; it sees to its own repetitions."""

    function: Callable[[Any, HttpRequest, Messaging], Awaitable[HttpAnswer]]
    takes_key: bool = False


@frozen(kw_only=True)
class Endpoint:
    """One method on one path.

    `command` is built from the path, the query of a GET, the JSON body of a POST, PUT or PATCH; a field named
    in the path is taken from there. In a path, a whole number is digits and nothing else, so that
    `/messages/search` is no message. `answers` is the type of the answer's JSON, None for no body.
    """

    method: str
    path: str
    summary: str
    command: type[AttrsInstance]
    does: Reads | ReadsInParts | Writes | Handles
    status: int = 200
    answers: Any
    refusals: tuple[type[Refused], ...] = ()
    unavailable: tuple[str, ...] = ("storage_unavailable",)
    """The codes of a 503, which asks to come again."""
    auth: Auth = Auth.SESSION
    limits: tuple[Limit, ...] = (Limit("request_rate", Per.USER, (Cost.ANSWER,)),)
    """A request takes a permit of each, or what it costs; one that is refused takes none."""
    stranger_limits: tuple[Limit, ...] = ()
    """Of a command with a `user_id`: where the caller shares no chat with that person, or there is nobody of
    that id, it takes a permit of each of these too."""

    @property
    def name(self) -> str:
        """The endpoint's name in routing and in the API's description: that of its command."""
        return self.command.__name__

    @cached_property
    def takes_key(self) -> bool:
        """Whether an Idempotency-Key has an effect."""
        return isinstance(self.does, Writes) or (isinstance(self.does, Handles) and self.does.takes_key)

    @cached_property
    def path_names(self) -> tuple[str, ...]:
        return tuple(part[1:-1] for part in self.path.split("/") if part.startswith("{"))

    @cached_property
    def path_digits(self) -> frozenset[str]:
        """The names in the path whose values are digits."""
        return integer_fields(self.command).intersection(self.path_names)

    @cached_property
    def parameters(self) -> frozenset[str]:
        """The names that its query may hold."""
        return frozenset(self.other_names if self.method == "GET" else ())

    @cached_property
    def has_body(self) -> bool:
        return self.method in {"POST", "PUT", "PATCH"} and bool(self.other_names)

    @cached_property
    def other_names(self) -> tuple[str, ...]:
        """Fields that are not in the path: they come from the body, or from the query of a GET."""
        return tuple(a.name for a in fields(self.command) if a.name not in self.path_names)
