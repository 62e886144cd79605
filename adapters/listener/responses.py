"""The listener's own responses to requests that cannot or must not reach the application."""

from http import HTTPStatus

from adapters.http_api.problem_json import PROBLEM_JSON, problem
from adapters.listener.refused_request import Headers, RefusedRequest


def closing_response(refused: RefusedRequest) -> tuple[Headers, bytes]:
    """Header fields and body (problem+json, RFC 9457) of a refusal, after which the connection closes."""
    body = problem(refused.status, refused.code, refused.detail, request_id=None).body
    headers = [
        (b"content-type", PROBLEM_JSON.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
        *refused.headers,
    ]
    return headers, body


def closing_response_bytes(refused: RefusedRequest, *more: tuple[bytes, bytes]) -> bytes:
    """The same as bytes, with `more` header fields, for a request that no parser has read."""
    headers, body = closing_response(refused)
    headers += more
    line = f"HTTP/1.1 {refused.status} {HTTPStatus(refused.status).phrase}".encode()
    return b"\r\n".join([line, *(name + b": " + value for name, value in headers), b"", body])
