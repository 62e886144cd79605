"""The API's description (OpenAPI 3.1), built from the endpoints and the classes that validate."""

from collections.abc import Iterable
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from adapters.http_api.endpoints import API, Auth, Endpoint, Reads, ReadsInParts
from adapters.http_api.exchange import JSON
from adapters.http_api.parameters import UnknownParameter
from adapters.http_api.problem_json import PROBLEM_JSON, ProblemJson
from adapters.http_api.problems import BUSY, status_of
from adapters.http_api.schema import Schema, Schemas
from messaging_core.errors import (
    IdempotencyKeyInvalid,
    Invalid,
    Refused,
    SessionRevoked,
    TokenExpired,
    TokenInvalid,
    TokenMissing,
    TooManyRequests,
)
from messaging_core.idempotency import KEY_MAX_CHARACTERS
from messaging_core.limits import Limits

AUTHENTICATION = (TokenMissing, TokenInvalid, TokenExpired, SessionRevoked)


def describe(endpoints: Iterable[Endpoint], limits: Limits) -> dict[str, Any]:
    """The whole document; every schema that it refers to is in it."""
    schemas = Schemas(limits)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "messaging-core",
            "version": version("messaging-core"),
            "description": INTRODUCTION,
        },
        "servers": [{"url": "/"}],
        "externalDocs": {"url": "/docs/socket", "description": "The WebSocket: events and commands"},
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.components.items())),
            "securitySchemes": {"access_token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


INTRODUCTION = """Direct chats, groups and messages, live over a WebSocket.

Register or log in, press **Authorize**, paste the `access_token`, and try the calls out.

Live events come on the socket `/ws?token=<access_token>` as `{"event": …, "data": …}`, where `event` is
`message.created` or `message.updated` and `data` has seven of the message's keys: `id`, `chat_id`,
`author_id`, `type`, `content`, `payload` and `ts`. A refused token closes it with code 1008.

[The page of the socket](/docs/socket) describes it whole, with profile 2: all events, and catching up after a
reconnect. The same for programs is [`/asyncapi.json`](/asyncapi.json).
"""


def _operation(endpoint: Endpoint, schemas: Schemas) -> dict[str, Any]:
    refusals = _refusals(endpoint)
    response: dict[str, Any] = {"description": HTTPStatus(endpoint.status).phrase}
    if endpoint.response is not None:
        response["content"] = {JSON: {"schema": schemas.of(endpoint.response)}}
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "tags": [endpoint.path.removeprefix(f"{API}/").strip("/").split("/")[0]],
        "parameters": _parameters(endpoint, schemas),
        "responses": {
            str(endpoint.status): response,
            **{str(status): _problem(found, schemas) for status, found in sorted(refusals.items())},
        },
    }
    if endpoint.has_body:
        operation["requestBody"] = {
            "required": endpoint.needs_body,
            "content": {
                JSON: {
                    "schema": {
                        "type": "object",
                        "properties": schemas.properties(endpoint.command, endpoint.other_names),
                        "required": schemas.required(endpoint.command, endpoint.other_names),
                    }
                }
            },
        }
    if endpoint.auth is Auth.SESSION:
        operation["security"] = [{"access_token": []}]
    return operation


def _parameters(endpoint: Endpoint, schemas: Schemas) -> list[Schema]:
    path = schemas.properties(endpoint.command, endpoint.path_names)
    found = [
        {"name": name, "in": "path", "required": True, "schema": schema} for name, schema in path.items()
    ]
    if endpoint.method == "GET":
        required = schemas.required(endpoint.command, endpoint.other_names)
        query = schemas.properties(endpoint.command, endpoint.other_names)
        found += [
            {"name": name, "in": "query", "required": name in required, "schema": schema}
            for name, schema in query.items()
        ]
    if endpoint.takes_key:
        key = {"type": "string", "minLength": 1, "maxLength": KEY_MAX_CHARACTERS}
        purpose = "Repeat a request with the same key and body: it is carried out only once."
        found.append({"name": "Idempotency-Key", "in": "header", "schema": key, "description": purpose})
    return found


def _refusals(endpoint: Endpoint) -> dict[int, list[str]]:
    """The codes of each status: the declared refusals, and those that follow from the declaration."""
    refusals: list[type[Refused]] = list(endpoint.refusals)
    if endpoint.auth is Auth.SESSION:
        refusals += AUTHENTICATION
    if endpoint.path_names or endpoint.other_names:
        refusals.append(Invalid)
    refusals.append(UnknownParameter)
    if endpoint.takes_key:
        refusals.append(IdempotencyKeyInvalid)
    if endpoint.limits:
        refusals.append(TooManyRequests)
    codes: dict[int, list[str]] = {}
    for refusal in refusals:
        codes.setdefault(status_of(refusal), []).append(refusal.code)
    if endpoint.has_body:
        codes.setdefault(400, []).append("malformed_json")
        codes.setdefault(413, []).append("body_too_large")
        codes.setdefault(415, []).append("unsupported_media_type")
    if endpoint.unavailable:
        codes[HTTPStatus.SERVICE_UNAVAILABLE.value] = list(endpoint.unavailable)
        if isinstance(endpoint.does, (Reads, ReadsInParts)):
            codes[HTTPStatus.SERVICE_UNAVAILABLE.value].append(BUSY)
    return codes


def _problem(codes: list[str], schemas: Schemas) -> dict[str, Any]:
    listed = ", ".join(f"`{code}`" for code in dict.fromkeys(codes))
    return {"description": listed, "content": {PROBLEM_JSON: {"schema": schemas.of(ProblemJson)}}}
