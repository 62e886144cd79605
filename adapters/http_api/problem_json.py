"""The body of every error: `application/problem+json` (RFC 9457), the application's and the listener's."""

from http import HTTPStatus

from adapters.http_api.exchange import Headers, HttpResponse, json_response
from adapters.http_api.views import View
from adapters.http_api.wire import encode
from messaging_core.errors import FieldError

PROBLEM_JSON = "application/problem+json"


class FieldErrorJson(View, frozen=True, gc=False):
    """One error in one field; `field` is a dotted path such as `member_ids.2`."""

    field: str
    code: str
    message: str


class ProblemJson(View, frozen=True, gc=False):
    """The body of every error; `detail` is for a person.

    `request_id` is null where the listener responds instead of the application.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str | None
    errors: list[FieldErrorJson]


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    request_id: str | None,
    errors: tuple[FieldError, ...] = (),
    headers: Headers = (),
) -> HttpResponse:
    fields = [FieldErrorJson(each.field, each.code, each.message) for each in errors]
    body = ProblemJson("about:blank", HTTPStatus(status).phrase, status, detail, code, request_id, fields)
    return json_response(status, encode(body), headers, content_type=PROBLEM_JSON)
