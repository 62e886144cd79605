"""What the listener answers by itself, when a request cannot or must not reach the application."""

import json
from http import HTTPStatus

Headers = list[tuple[bytes, bytes]]

NOT_WELL_FORMED = "The request is not well-formed HTTP/1.1."


class RefusedRequest(Exception):
    """A request that the listener answers itself, and whose connection it closes after that."""

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
    """Headers and body (problem+json, RFC 9457) of a refusal; the connection does not outlive it."""
    body = json.dumps(
        {
            "type": "about:blank",
            "title": HTTPStatus(refused.status).phrase,
            "status": refused.status,
            "detail": refused.detail,
            "code": refused.code,
            "request_id": None,
            "errors": [],
        },
        separators=(",", ":"),
    ).encode()
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
        *refused.headers,
    ]
    return headers, body


def closing_answer_bytes(refused: RefusedRequest, *more: tuple[bytes, bytes]) -> bytes:
    """The same as it goes over the wire, with more headers, where no parser has read the request."""
    headers, body = closing_answer(refused)
    headers += more
    line = f"HTTP/1.1 {refused.status} {HTTPStatus(refused.status).phrase}".encode()
    return b"\r\n".join([line, *(name + b": " + value for name, value in headers), b"", body])
