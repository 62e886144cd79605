"""The error table: each refusal's HTTP status, and its answer as `application/problem+json` (RFC 9457)."""

import math
from http import HTTPStatus

from attrs import frozen

from adapters.quart_app.endpoints import HttpAnswer
from adapters.quart_app.parameters import UnknownParameter
from adapters.quart_app.wire import encode
from messaging_core import errors
from messaging_core.errors import FieldError, Refused

PROBLEM_JSON = "application/problem+json"
BUSY = "busy"

STATUS: dict[type[Refused], int] = {
    errors.Invalid: 422,
    errors.EmailTaken: 409,
    errors.InvalidCredentials: 401,
    errors.Unauthenticated: 401,
    errors.UserNotFound: 404,
    errors.ChatNotFound: 404,
    errors.MessageNotFound: 404,
    errors.NotAParticipant: 403,
    errors.NotTheAuthor: 403,
    errors.MessageAlreadyDeleted: 409,
    errors.DirectChatWithSelf: 400,
    errors.TooManyChats: 409,
    errors.IdempotencyKeyInvalid: 400,
    errors.IdempotencyKeyReused: 422,
    errors.TooManyRequests: 429,
    UnknownParameter: 422,
}

FAULT = ("internal_error", "The server failed to handle this request, and logged it with this request_id.")
"""The code and detail for an exception that is no refusal."""

_BEARER_REFUSALS = (errors.TokenInvalid, errors.TokenExpired, errors.SessionRevoked)


@frozen(slots=False)
class Problem:
    """The body of every error; `detail` is for a person.

    `request_id` is null where the listener answers instead of the application.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str | None
    errors: tuple[FieldError, ...]


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    request_id: str,
    errors: tuple[FieldError, ...] = (),
    headers: tuple[tuple[str, str], ...] = (),
) -> HttpAnswer:
    body = Problem("about:blank", HTTPStatus(status).phrase, status, detail, code, request_id, errors)
    return HttpAnswer(status, encode(body), PROBLEM_JSON, headers)


def body_too_large(most: int, *, request_id: str) -> HttpAnswer:
    """The answer to a body of more than `most` bytes; the server does not read the rest."""
    detail = f"The body is larger than {most} bytes, the limit for this request."
    close = (("Connection", "close"),)
    return problem(413, "body_too_large", detail, request_id=request_id, headers=close)


def too_much_unsent(*, request_id: str) -> HttpAnswer:
    """The answer to a GET whose large answer exceeds the memory for unsent answers."""
    detail = "Too many large answers are waiting for slow readers. Try again, or request smaller pages."
    return unavailable(detail, code=BUSY, request_id=request_id, retry_after=5)


def status_of(refusal: type[Refused]) -> int:
    """The status of a refusal: that of its nearest base class in the table."""
    return next(STATUS[cls] for cls in refusal.__mro__ if cls in STATUS)


def refused(refusal: Refused, *, request_id: str, headers: tuple[tuple[str, str], ...] = ()) -> HttpAnswer:
    """A refusal as an answer, with the headers that its status requires."""
    status = status_of(type(refusal))
    added = [*headers]
    if status == HTTPStatus.UNAUTHORIZED:
        reason = f' error="invalid_token", error_description="{refusal.detail}"'
        added.append(("WWW-Authenticate", "Bearer" + reason * isinstance(refusal, _BEARER_REFUSALS)))
    if isinstance(refusal, errors.TooManyRequests):
        added.append(("Retry-After", str(math.ceil(refusal.retry_after))))
    return problem(
        status,
        refusal.code,
        refusal.detail,
        request_id=request_id,
        errors=refusal.errors,
        headers=tuple(added),
    )


def unavailable(detail: str, *, code: str, request_id: str, retry_after: int) -> HttpAnswer:
    return problem(503, code, detail, request_id=request_id, headers=(("Retry-After", str(retry_after)),))
