"""The error table: each refusal's HTTP status, and the response to it."""

import math
from http import HTTPStatus

import structlog

from adapters.http_api.exchange import Headers, HttpRequest, HttpResponse
from adapters.http_api.parameters import UnknownParameter
from adapters.http_api.problem_json import problem
from adapters.http_api.wire import MalformedJson
from messaging_core import errors
from messaging_core.errors import Refused
from messaging_core.ports import OutcomeUnknown, PasswordHasherBusy, StorageUnavailable

log = structlog.get_logger(__name__)

BUSY = "busy"

STATUS: dict[type[Refused], int] = {
    errors.Invalid: 422,
    errors.EmailTaken: 409,
    errors.InvalidCredentials: 401,
    errors.Unauthenticated: 401,
    errors.UserNotFound: 404,
    errors.ChatNotFound: 404,
    errors.MessageNotFound: 404,
    errors.ChatTooLarge: 409,
    errors.NotAParticipant: 403,
    errors.NotTheAuthor: 403,
    errors.MessageAlreadyDeleted: 409,
    errors.DirectChatWithSelf: 400,
    errors.AlreadyAMember: 409,
    errors.MemberNotFound: 404,
    errors.InsufficientRole: 403,
    errors.LastOwner: 409,
    errors.NotAGroup: 409,
    errors.TooManyChats: 409,
    errors.IdempotencyKeyInvalid: 400,
    errors.IdempotencyKeyReused: 422,
    errors.TooManyRequests: 429,
    UnknownParameter: 422,
}

FAULT = ("internal_error", "The server failed to handle this request, and logged it with this request_id.")
"""The code and detail for an exception that is no refusal."""

UNCHANGED = "Nothing was changed: the storage is unreachable or has no room at the moment. Try again."
OUTCOME_UNKNOWN = (
    "The connection to the storage was lost before it confirmed, so the request may have been carried out. "
    "Repeat it with the same Idempotency-Key; without a key, look at the state first."
)

_BEARER_REFUSALS = (errors.TokenInvalid, errors.TokenExpired, errors.SessionRevoked)


OUTSIDE = {
    404: ("not_found", "There is nothing at this path. An id in a path is a whole number."),
    405: ("method_not_allowed", "This path does not allow this method; see the header Allow."),
}
"""The code and detail of a refusal that no endpoint has made, by its status."""


def without_endpoint(
    status: int, detail: str | None, *, request_id: str, headers: Headers = ()
) -> HttpResponse:
    """The response to a request that reaches no endpoint; `detail` is for a status without one here."""
    other = FAULT if status >= 500 else ("bad_request", detail or "The request cannot be handled.")
    return problem(status, *OUTSIDE.get(status, other), request_id=request_id, headers=headers)


def body_too_large(most: int, *, request_id: str) -> HttpResponse:
    """The response to a body of more than `most` bytes; the server does not read the rest."""
    detail = f"The body is larger than {most} bytes, the limit for this request."
    close = (("connection", "close"),)
    return problem(413, "body_too_large", detail, request_id=request_id, headers=close)


def too_much_unsent(*, request_id: str) -> HttpResponse:
    """The response to a GET whose large response exceeds the memory for unsent responses."""
    detail = "Too many large responses are waiting for slow readers. Try again, or request smaller pages."
    return unavailable(detail, code=BUSY, request_id=request_id, retry_after=5)


def status_of(refusal: type[Refused]) -> int:
    """The status of a refusal: that of its nearest base class in the table."""
    return next(STATUS[cls] for cls in refusal.__mro__ if cls in STATUS)


def refused(refusal: Refused, *, request_id: str, headers: Headers = ()) -> HttpResponse:
    """A refusal as a response, with the headers that its status requires."""
    status = status_of(type(refusal))
    added = [*headers]
    if status == HTTPStatus.UNAUTHORIZED:
        reason = f' error="invalid_token", error_description="{refusal.detail}"'
        added.append(("www-authenticate", "Bearer" + reason * isinstance(refusal, _BEARER_REFUSALS)))
    if isinstance(refusal, errors.TooManyRequests):
        added.append(("retry-after", str(math.ceil(refusal.retry_after))))
    return problem(
        status,
        refusal.code,
        refusal.detail,
        request_id=request_id,
        errors=refusal.errors,
        headers=tuple(added),
    )


def unavailable(detail: str, *, code: str, request_id: str, retry_after: int) -> HttpResponse:
    return problem(503, code, detail, request_id=request_id, headers=(("retry-after", str(retry_after)),))


class Unavailable(Exception):
    """The server cannot do this now; the client may repeat the request after `retry_after` seconds."""

    def __init__(self, detail: str, *, code: str, retry_after: int) -> None:
        super().__init__(detail)
        self.code = code
        self.retry_after = retry_after


class UnsupportedContent(Exception):
    """The body's Content-Type is not JSON, or it has a Content-Encoding; `headers` name what is accepted."""

    def __init__(self, detail: str, *headers: tuple[str, str]) -> None:
        self.headers = headers
        super().__init__(detail)


def explained(error: Exception, request: HttpRequest, *, request_id: str) -> HttpResponse:
    """The response to a request that ended with this error; one that is no refusal is logged."""
    match error:
        case Refused():
            return refused(error, request_id=request_id)
        case MalformedJson():
            return problem(400, "malformed_json", str(error), request_id=request_id)
        case UnsupportedContent():
            code = "unsupported_media_type"
            return problem(415, code, str(error), request_id=request_id, headers=error.headers)
        case StorageUnavailable():
            log.warning("The storage is unavailable", error=str(error))
            detail = OUTCOME_UNKNOWN if isinstance(error, OutcomeUnknown) else UNCHANGED
            return unavailable(detail, code="storage_unavailable", request_id=request_id, retry_after=2)
        case PasswordHasherBusy():
            detail = "Too many people are logging in at the moment. Try again."
            return unavailable(detail, code=BUSY, request_id=request_id, retry_after=2)
        case Unavailable():
            retry_after = error.retry_after
            return unavailable(str(error), code=error.code, request_id=request_id, retry_after=retry_after)
        case _:
            log.error("A request failed", method=request.method, path=request.path, exc_info=error)
            return problem(500, *FAULT, request_id=request_id)
