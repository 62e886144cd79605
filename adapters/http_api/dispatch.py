"""Dispatch: turns a request and its endpoint's declaration into a response."""

from collections.abc import Callable, Hashable, Mapping
from contextlib import nullcontext
from contextvars import ContextVar
from typing import Any, assert_never

from attrs import AttrsInstance

from adapters.http_api.endpoints import (
    Auth,
    Cost,
    Endpoint,
    Handles,
    Limit,
    Per,
    Reads,
    ReadsInParts,
    Writes,
)
from adapters.http_api.exchange import JSON, REPLAYED, Headers, HttpRequest, HttpResponse, json_response
from adapters.http_api.parameters import check_names
from adapters.http_api.problems import UnsupportedContent, explained, refused
from adapters.http_api.wire import MalformedJson, canonical, decode, encode, from_strings, structure
from adapters.runtime import Messaging
from adapters.runtime.event_loop import places
from adapters.runtime.messaging import Read
from adapters.runtime.throttles import Permits, Throttles
from messaging_core import idempotency, operations
from messaging_core.commands import AddMembers, CreateGroup
from messaging_core.errors import Refused, TokenInvalid, TokenMissing, TooManyRequests
from messaging_core.idempotency import IdempotentRequest
from messaging_core.ids import UserId
from messaging_core.limits import Limits
from messaging_core.models import Actor, IdempotencyKey
from messaging_core.operations import Context, Executed, Query
from messaging_core.throttle import permits_for

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The current request's id, for its log lines."""


CHEAP_BODY = 1024
"""Bytes of the largest body that is parsed without a look at its sender's debts: some 10 us."""
MALFORMED_BYTES_PER_PERMIT = 16_384
"""Bytes of a malformed body that one permit covers; a mebibyte can take 100 ms to parse and to explain."""
LARGE_READS = 2
"""Large pages that are read at a time: each takes some 20 MB until it is encoded, and only then its size is
known. They share the event loop with all other requests, so more at a time would not finish earlier."""


OF_SENDERS = Limit("request_rate", Per.ADDRESS)
"""For malformed requests to endpoints that have no rate for each user or address; nothing else takes from
these buckets."""


class Dispatcher:
    """Responds to requests for declared endpoints; `throttles` is None when rate limits are off."""

    def __init__(self, messaging: Messaging, throttles: Throttles | None) -> None:
        self._messaging = messaging
        self._throttles = throttles
        self._large_reads = places(LARGE_READS)

    async def respond(
        self, endpoint: Endpoint, request: HttpRequest, path_values: Mapping[str, str], *, request_id: str
    ) -> HttpResponse:
        """The response; a refusal is a problem document, and so is an internal error, which is logged.

        The order is: the token, the shape of the request, the rates, the Idempotency-Key, the decision. So a
        401 comes before every other check, and nothing before the decision uses up a key.
        """
        before = REQUEST_ID.set(request_id)
        try:
            return await self._granted(endpoint, request, path_values, request_id)
        except Exception as error:  # noqa: BLE001 - an unknown one is logged, and becomes a 500
            return explained(error, request, request_id=request_id)
        finally:
            REQUEST_ID.reset(before)

    async def refusal(self, endpoint: Endpoint, head: HttpRequest, *, request_id: str) -> HttpResponse | None:
        """The response to a request whose token is refused, before its body is read; None for all others.

        Reading the body of an unauthenticated sender would let strangers use memory.
        """
        if endpoint.auth is not Auth.SESSION:
            return None
        before = REQUEST_ID.set(request_id)
        try:
            await self._messaging.authenticate(bearer_token(head.headers.get("authorization")))
        except Exception as error:  # noqa: BLE001 - as above
            return explained(error, head, request_id=request_id)
        finally:
            REQUEST_ID.reset(before)
        return None

    async def carry_out(
        self,
        endpoint: Endpoint,
        request: HttpRequest,
        path_values: Mapping[str, str],
        actor: Actor,
        *,
        request_id: str,
        committed: Callable[[HttpResponse], None],
    ) -> HttpResponse:
        """The response to a request of a known caller, the client of a socket, as `respond` for all others.

        Of a write with an Idempotency-Key, `committed` is called with it before its events are delivered; it
        must not fail.
        """
        before = REQUEST_ID.set(request_id)
        try:
            return await self._performed(
                endpoint, request, path_values, actor, request_id=request_id, committed=committed
            )
        except Exception as error:  # noqa: BLE001 - as above
            return explained(error, request, request_id=request_id)
        finally:
            REQUEST_ID.reset(before)

    async def _granted(
        self, endpoint: Endpoint, request: HttpRequest, path_values: Mapping[str, str], request_id: str
    ) -> HttpResponse:
        actor = None
        if endpoint.auth is Auth.SESSION:
            actor = await self._messaging.authenticate(bearer_token(request.headers.get("authorization")))
        return await self._performed(endpoint, request, path_values, actor, request_id=request_id)

    async def _performed(
        self,
        endpoint: Endpoint,
        request: HttpRequest,
        path_values: Mapping[str, str],
        actor: Actor | None,
        *,
        request_id: str,
        committed: Callable[[HttpResponse], None] | None = None,
    ) -> HttpResponse:
        messaging = self._messaging
        limits = messaging.limits
        command = self._parse(endpoint, request, path_values, actor)
        self._throttle(endpoint.limits, actor, command, request)
        if isinstance(endpoint.does, Handles):
            return await endpoint.does.function(command, request, messaging)
        privacy = messaging.privacy_at(request.headers.get("host"))
        context = Context(_known(actor), messaging.now(), limits, privacy, messaging.typists)
        if endpoint.stranger_limits and self._throttles is not None:
            # Before the look-up, so that a stranger and an unknown id cost the same.
            knows = await messaging.read(operations.knows(command.user_id, context))
            self._throttle(() if knows else endpoint.stranger_limits, actor, command, request)
        does, is_large = _by_size(endpoint.does, command, limits)
        match does:
            case Writes(operation, show, again):

                def note(executed: Executed) -> None:
                    if committed is not None:
                        committed(self._response_to(show, executed, request_id))

                try:
                    executed = await messaging.execute_once(
                        operation(command, context),
                        _idempotent(request, command, context),
                        status=endpoint.status,
                        context=context,
                        committed=None if committed is None else note,
                        again=None if again is None else again(command, context),
                    )
                except Refused:
                    self._return_permits(endpoint, context.actor)
                    raise
                self._settle(endpoint, executed, context.actor)
                response = self._response_to(show, executed, request_id)
            case Reads(query, show):
                result = await messaging.read(query(command, context))
                response = json_response(endpoint.status, encode(show(result)))
            case ReadsInParts(function):
                read = self._reading(endpoint, context.actor)
                async with self._large_reads if is_large else nullcontext():
                    response = json_response(endpoint.status, await function(command, context, read))
            case _:
                assert_never(does)
        if len(response.body) > limits.response_bytes_per_permit:
            self._charge(endpoint, Cost.RESPONSE, len(response.body), context.actor)
        return response

    def _settle(self, endpoint: Endpoint, executed: Executed, actor: Actor) -> None:
        """Charge the deliveries of a write, and return the permits that a replay took."""
        if executed.people_reached > self._messaging.limits.deliveries_per_permit:
            self._charge(endpoint, Cost.DELIVERIES, executed.people_reached, actor)
        if executed.replayed:
            self._return_permits(endpoint, actor)

    @staticmethod
    def _response_to(
        show: Callable[[Any], object] | None, executed: Executed, request_id: str
    ) -> HttpResponse:
        """The response to a write."""
        headers: Headers = ()
        if executed.replayed:
            headers = (REPLAYED,)
            if isinstance(executed.result, Refused):
                return refused(executed.result, request_id=request_id, headers=headers)
        body = b"" if show is None else encode(show(executed.result))
        return json_response(executed.status, body, headers)

    def _reading(self, endpoint: Endpoint, actor: Actor) -> Read:
        """A function that reads the parts of a response; beyond the first it refuses a user in debt.

        So of one user's concurrent requests at most one response is read beyond what the permits cover.
        """
        throttles, read = self._throttles, self._messaging.read
        if throttles is None:
            return read
        parts: list[Any] = []

        async def read_part(query: Query[Any]) -> Any:
            if parts:
                permits = self._charged(endpoint, Cost.RESPONSE, 0, actor)
                try:
                    throttles.refuse_debt(*permits)
                except TooManyRequests:
                    # Discarded parts cost as much as sent ones.
                    self._charge(endpoint, Cost.RESPONSE, len(encode(parts)), actor)
                    throttles.refuse_debt(*permits)
            part = await read(query)
            parts.append(part)
            return part

        return read_part

    def _parse(
        self, endpoint: Endpoint, request: HttpRequest, path_values: Mapping[str, str], actor: Actor | None
    ) -> Any:
        """The request's command; a malformed request is charged by the bytes that had to be parsed.

        A large body is not parsed while its sender is in debt. Raises `TooManyRequests`, too.
        """
        limits = self._messaging.limits
        if self._throttles is None:
            return _command(endpoint, request, path_values, limits)
        if len(request.body) > CHEAP_BODY:
            self._throttles.refuse_debt(*self._malformed(endpoint, request, actor))
        try:
            return _command(endpoint, request, path_values, limits)
        except (Refused, MalformedJson, UnsupportedContent):
            self._throttles.charge(*self._malformed(endpoint, request, actor))
            raise

    def _malformed(self, endpoint: Endpoint, request: HttpRequest, actor: Actor | None) -> list[Permits]:
        """The permits of a malformed request, of the endpoint's fastest rate whose key needs no command.

        Where there is none, as where tokens are refreshed, the sender's address pays.
        """
        limits = self._messaging.limits
        found = [limit for limit in endpoint.limits if limit.per in (Per.USER, Per.ADDRESS)]
        limit = max(found or [OF_SENDERS], key=lambda each: float(getattr(limits, each.rate).per_second))
        cost = 1 + len(request.body) // MALFORMED_BYTES_PER_PERMIT
        return [(limit.rate, self._key(limit, actor, None, request), getattr(limits, limit.rate), cost)]

    def _throttle(
        self, applied: tuple[Limit, ...], actor: Actor | None, command: Any, request: HttpRequest
    ) -> None:
        """Take a permit, or the cost that is known in advance, from each of these limits, or from none.

        Raises `TooManyRequests`.
        """
        if self._throttles is not None:
            limits = self._messaging.limits
            permits: list[Permits] = []
            for limit in applied:
                if limit.per is Per.EMAIL_AND_ADDRESS:
                    self._throttles.check(*permits)  # parsing an e-mail takes longer than a refusal
                key = actor.user_id if actor and limit.per is Per.USER else None
                permits.append(
                    (
                        limit.rate,
                        key or self._key(limit, actor, command, request),
                        getattr(limits, limit.rate),
                        _known_cost(command, limits) if Cost.MEMBERS in limit.costs else 1,
                    )
                )
            self._throttles.take(*permits)

    def admits_message(self, user_id: UserId, size: int) -> bool:
        """Whether a user's sockets may send a message; they have the rate of requests for themselves."""
        if self._throttles is not None:
            permits = 1 + size // MALFORMED_BYTES_PER_PERMIT
            try:
                rate = self._messaging.limits.request_rate
                self._throttles.take(("socket_messages", user_id, rate, permits))
            except TooManyRequests:
                return False
        return True

    def charge_resumption(self, user_id: UserId, size: int) -> float:
        """Charge the bytes of a resumption as those of a response; the seconds until the debt is repaid."""
        if self._throttles is None:
            return 0.0
        limits = self._messaging.limits
        permits = permits_for(size, limits.response_bytes_per_permit)
        owed = ("request_rate", user_id, limits.request_rate, permits)
        self._throttles.charge(owed)
        try:
            self._throttles.refuse_debt(owed)
        except TooManyRequests as debt:
            return debt.retry_after
        return 0.0

    def _charge(self, endpoint: Endpoint, cost: Cost, units: int, actor: Actor) -> None:
        """Charge the cost of finished work beyond the permit that it took in advance."""
        if self._throttles is not None:
            more = permits_for(units, getattr(self._messaging.limits, cost.value)) - 1
            self._throttles.charge(*self._charged(endpoint, cost, more, actor))

    def _return_permits(self, endpoint: Endpoint, actor: Actor) -> None:
        """Return the permits for creations, because the request has created nothing."""
        if self._throttles is not None:
            limits = self._messaging.limits
            rates = [limit.rate for limit in endpoint.limits if limit.for_creations]
            self._throttles.charge(*[(rate, actor.user_id, getattr(limits, rate), -1) for rate in rates])

    def _charged(self, endpoint: Endpoint, cost: Cost, permits: int, actor: Actor) -> list[Permits]:
        limits = self._messaging.limits
        rates = [limit.rate for limit in endpoint.limits if cost in limit.costs]
        return [(rate, actor.user_id, getattr(limits, rate), permits) for rate in rates]

    def _key(self, limit: Limit, actor: Actor | None, command: Any, request: HttpRequest) -> Hashable:
        """The key of the bucket that a limit applies to."""
        match limit.per:
            case Per.USER:
                return _known(actor).user_id
            case Per.ADDRESS:
                return request.network
            case Per.EMAIL_AND_ADDRESS:
                return self._messaging.log_in_key(command), request.network
            case Per.SESSION:
                return self._messaging.session_of(command)
            case _:
                assert_never(limit.per)


def bearer_token(authorization: str | None) -> str:
    """The token of an Authorization header (RFC 6750); raises `TokenMissing`, `TokenInvalid`."""
    if authorization is None:
        raise TokenMissing
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise TokenInvalid("The Authorization header must be 'Bearer <access_token>'.")
    return token.strip()


def _command(endpoint: Endpoint, request: HttpRequest, path_values: Mapping[str, str], limits: Limits) -> Any:
    values: dict[str, object] = {}
    query: Mapping[str, str] = {}
    if request.query:
        query = request.parameters
        check_names(query, endpoint.parameters)
    if endpoint.has_body and (request.body or endpoint.needs_body):
        _check_content_type(request.headers.get("content-type", JSON))
        if "content-encoding" in request.headers:
            _check_content_encoding(request.headers["content-encoding"])
        body = decode(request.body)
        if not isinstance(body, dict):
            return structure(body, endpoint.command, limits)
        values = body
    elif endpoint.method == "GET":
        values = from_strings(query, endpoint.command)
    if path_values:
        values = {**values, **from_strings(path_values, endpoint.command)}
    return structure(values, endpoint.command, limits)


def _check_content_type(content_type: str) -> None:
    if content_type != JSON:
        kind = content_type.partition(";")[0].strip().lower()
        if kind != JSON and not kind.endswith("+json"):
            raise UnsupportedContent(f"Send the body as {JSON}, not as {kind[:100]}.")


IDENTITY = "identity"


def _check_content_encoding(codings: str) -> None:
    if codings != IDENTITY:
        named = [name for each in codings.split(",") if (name := each.strip()).lower() not in ("", IDENTITY)]
        if named:
            detail = f"Send the body without Content-Encoding, not with {', '.join(named)[:100]}."
            raise UnsupportedContent(detail, ("accept-encoding", IDENTITY))  # RFC 9110, 12.5.3


def _by_size(
    does: Reads | ReadsInParts | Writes, command: object, limits: Limits
) -> tuple[Reads | ReadsInParts | Writes, bool]:
    """The way to carry out this command, and whether its response may be large."""
    if isinstance(does, ReadsInParts):
        is_large = does.is_large(command, limits)
        return does if is_large else does.small or does, is_large
    return does, False


def _known_cost(command: CreateGroup | AddMembers, limits: Limits) -> int:
    match command:
        case CreateGroup():
            named = len(command.member_ids)
        case AddMembers():
            named = len(command.user_ids or ())
        case _:
            assert_never(command)
    return permits_for(named, limits.members_per_permit)


def _known(actor: Actor | None) -> Actor:
    if actor is None:
        raise TypeError("an endpoint that reads, writes or is limited per user must declare Auth.SESSION")
    return actor


def _idempotent(request: HttpRequest, command: AttrsInstance, context: Context) -> IdempotentRequest | None:
    key = request.idempotency_key
    if key is None:
        return None
    named = IdempotencyKey(context.actor.user_id, request.method, request.path, key)
    return IdempotentRequest(named, idempotency.fingerprint(canonical(command)), request.body)
