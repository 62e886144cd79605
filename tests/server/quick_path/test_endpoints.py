"""Successful calls get equal responses on both ways."""

import json
from urllib.parse import urlencode

import pytest
from attrs import evolve

from adapters.http_api.endpoints import Auth, Endpoint
from adapters.http_api.routes import ENDPOINTS
from tests.server.calls import CALLS, Scene, path_of
from tests.server.clients import ORIGIN, log_in, new_key
from tests.server.quick_path.both_ways import ANOTHER_FORM, ID, ExactRequest, Fields, Line, bearer, get


def granted(scene: Scene, endpoint: Endpoint) -> ExactRequest:
    """The call in `CALLS`, in the form of its endpoint's declaration."""
    values = dict(CALLS[endpoint.name](scene))
    target = path_of(endpoint, values)
    if endpoint.method == "GET" and values:
        target += f"?{urlencode(values)}"
    fields: Fields = (ID,)
    if endpoint.auth is Auth.SESSION:
        fields += (bearer(scene.alice),)
    if endpoint.takes_key:
        fields += (("Idempotency-Key", new_key()),)
    request = ExactRequest(endpoint.method, target, fields)
    if endpoint.has_body:
        request = request.but(("Content-Type", "application/json"), body=json.dumps(values).encode())
    return request


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
async def test_every_endpoint_responds_equally(line: Line, scene: Scene, endpoint: Endpoint) -> None:
    """Every endpoint responds equally, also to a repeated key and to a page of another origin."""
    request = granted(scene, endpoint)
    if endpoint.name == "LogOut":
        await both_log_out(line, scene, request)
        return
    if endpoint.takes_key:
        first = await line.response(request)
        assert (first.status, first.value(b"idempotency-replayed")) == (endpoint.status, None)
    for origin in (None, ORIGIN):
        response = await line.both(request if origin is None else request.but(("Origin", origin)))
        assert response.status == endpoint.status
        assert (response.value(b"idempotency-replayed") == b"true") == endpoint.takes_key
        assert response.value(b"x-request-id") == b"r-1"
        assert (response.value(b"access-control-allow-origin") or b"").decode() == (origin or "")


async def both_log_out(line: Line, scene: Scene, request: ExactRequest) -> None:
    """Each way logs out a session of its own; afterwards neither token is valid on either way."""
    other = await log_in(scene.alice.server, scene.http, "Alice")
    fields = tuple(field for field in request.fields if field[0] != "Authorization")
    before = len(line.quick)
    plain = await line.response(evolve(request, fields=(*fields, bearer(scene.alice))))
    assert len(line.quick) == before + 1
    keyless = tuple(field for field in fields if field[0] != "Idempotency-Key")
    other_response = await line.response(evolve(request, fields=(*keyless, bearer(other))), ANOTHER_FORM)
    assert len(line.quick) == before + 1
    assert plain.status == 204
    for person in (scene.alice, other):
        assert (await line.both(get(person, "/users/me"))).status == 401
    assert plain == other_response
