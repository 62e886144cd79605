"""Endpoint declarations: routing, limits, documentation and tests are derived from them."""

from collections.abc import Awaitable, Callable
from enum import Enum
from functools import cached_property
from typing import Any

from attrs import AttrsInstance, fields, frozen

from adapters.http_api.exchange import HttpRequest, HttpResponse
from adapters.http_api.views import View
from adapters.http_api.wire import integer_fields
from adapters.runtime.messaging import Messaging, Read
from messaging_core.errors import Refused
from messaging_core.limits import Limits
from messaging_core.operations import Context, Operation, Query

API = "/api/v1"


class Auth(Enum):
    NONE = "none"
    SESSION = "session"
    """A valid access token, of a session that has not ended."""


class Per(Enum):
    """Which bucket a request takes its permit from."""

    USER = "user"
    ADDRESS = "address"
    """An IPv4 address, or the /64 of an IPv6 address."""
    EMAIL_AND_ADDRESS = "e-mail and address"
    SESSION = "session"
    """The refresh token's session: a whole office may share an address, and a refusal logs people out."""


class Cost(Enum):
    """The unit of a request's cost; the value names the bound in `Limits` of units that one permit covers."""

    MEMBERS = "members_per_permit"
    """People named in a command who become members: known in advance, so the bucket can refuse too many."""
    DELIVERIES = "deliveries_per_permit"
    """Deliveries of the event: charged after the commit."""
    RESPONSE = "response_bytes_per_permit"
    """Bytes of the response's body: charged after encoding."""


@frozen
class Limit:
    """A rate in `Limits` by its name, the bucket that it applies to, and the costs beyond one permit."""

    rate: str
    per: Per
    costs: tuple[Cost, ...] = ()
    for_creations: bool = False
    """Whether a request that is refused by the decision, or a replay, returns its permit; only with
    `Per.USER`."""


STRANGER_LIMITS = (Limit("stranger_rate", Per.USER), Limit("stranger_address_rate", Per.ADDRESS))
"""For endpoints that show a person by id, so that people cannot be collected by enumerating ids."""


@frozen
class Reads:
    """A query, and the function that shows its result on the wire."""

    query: Callable[[Any, Context], Query[Any]]
    show: Callable[[Any], View | list[Any]]


@frozen
class ReadsInParts:
    """Several queries, with other requests in between; `function` returns the response's body.

    Commands for which `is_large` is true, with responses of megabytes, run few at a time. Other commands run
    `small` where it is given: one query costs less.
    """

    function: Callable[[Any, Context, Read], Awaitable[bytes]]
    is_large: Callable[[Any, Limits], bool] = lambda _, __: False
    small: Reads | None = None


@frozen
class Writes:
    """An operation, carried out once per Idempotency-Key, and the function that shows its result on the wire.

    Without `show` the response has no body. `again` reads what a replay shows, if a stored response's
    resource alone does not say it: see `operations.once_only`.
    """

    operation: Callable[[Any, Context], Operation[Any]]
    show: Callable[[Any], View] | None = None
    again: Callable[[Any, Context], Query[Any]] | None = None


@frozen
class Handles:
    """Work of more than one transaction, such as a log-in; the function handles Idempotency-Key itself."""

    function: Callable[[Any, HttpRequest, Messaging], Awaitable[HttpResponse]]
    takes_key: bool = False


@frozen(kw_only=True)
class Endpoint:
    """One method on one path.

    `command` is built from the path and from the query of a GET or the JSON body of a POST, PUT or PATCH; a
    value in the path wins. An integer in a path consists of digits only, so `/messages/search` matches no
    message. `response` is the type of the response's JSON, None for no body.
    """

    method: str
    path: str
    summary: str
    command: type[AttrsInstance]
    does: Reads | ReadsInParts | Writes | Handles
    status: int = 200
    response: Any
    refusals: tuple[type[Refused], ...] = ()
    unavailable: tuple[str, ...] = ("storage_unavailable",)
    """The codes of a 503, after which a client retries."""
    needs_body: bool = True
    """Whether a body that no field of it is required in must be sent all the same."""
    auth: Auth = Auth.SESSION
    limits: tuple[Limit, ...] = (Limit("request_rate", Per.USER, (Cost.RESPONSE,)),)
    """A request takes a permit from each, or as many as it costs; a refused request takes none."""
    stranger_limits: tuple[Limit, ...] = ()
    """For a command with a `user_id`: if the caller shares no chat with that person, or the person does not
    exist, the request also takes a permit from each of these."""

    @property
    def name(self) -> str:
        """The endpoint's name in routing and in the API's description: its command's name."""
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
        """The names of the path's variables that are integers."""
        return integer_fields(self.command).intersection(self.path_names)

    @cached_property
    def parameters(self) -> frozenset[str]:
        """The names of its query parameters."""
        return frozenset(self.other_names if self.method == "GET" else ())

    @cached_property
    def has_body(self) -> bool:
        return self.method in {"POST", "PUT", "PATCH"} and bool(self.other_names)

    @cached_property
    def other_names(self) -> tuple[str, ...]:
        """The fields that are not in the path: they are in the body, or in the query of a GET."""
        return tuple(a.name for a in fields(self.command) if a.name not in self.path_names)
