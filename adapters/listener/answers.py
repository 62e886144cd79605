"""The listener's own answers to requests that cannot or must not reach the application."""

from http import HTTPStatus

from adapters.http_api.problem_json import PROBLEM_JSON, problem

Headers = list[tuple[bytes, bytes]]

NOT_WELL_FORMED = "The request is not well-formed HTTP/1.1."


class RefusedRequest(Exception):
    """The listener answers this request itself, then closes the connection."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        code: str = "bad_request",
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail
        self.code = code
        self.headers = headers


def closing_answer(refused: RefusedRequest) -> tuple[Headers, bytes]:
    """Header fields and body (problem+json, RFC 9457) of a refusal, after which the connection closes."""
    body = problem(refused.status, refused.code, refused.detail, request_id=None).body
    headers = [
        (b"content-type", PROBLEM_JSON.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
        *refused.headers,
    ]
    return headers, body


def closing_answer_bytes(refused: RefusedRequest, *more: tuple[bytes, bytes]) -> bytes:
    """The same as bytes, with `more` header fields, for a request that no parser has read."""
    headers, body = closing_answer(refused)
    headers += more
    line = f"HTTP/1.1 {refused.status} {HTTPStatus(refused.status).phrase}".encode()
    return b"\r\n".join([line, *(name + b": " + value for name, value in headers), b"", body])
