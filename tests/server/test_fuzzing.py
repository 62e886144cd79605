"""Random requests, generated from the API's description, get responses that fit the description."""

from functools import partial
from typing import Any

import hypothesis
import pytest
import schemathesis
import trio
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from adapters.http_api.endpoints import Endpoint
from adapters.http_api.openapi import describe
from adapters.http_api.routes import ENDPOINTS
from messaging_core.limits import Limits
from tests.server.clients import ORIGIN, Person
from tests.server.servers import ServerHere

SCHEMA = schemathesis.openapi.from_dict(describe(ENDPOINTS, Limits()))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
TAKING = [
    endpoint for endpoint in ENDPOINTS if endpoint.path_names or endpoint.other_names or endpoint.takes_key
]
EXAMPLES = 10
"""Requests of each kind for each endpoint: about a third of a second."""


@pytest.mark.parametrize("mode", schemathesis.GenerationMode, ids=lambda mode: mode.value)
@pytest.mark.parametrize("endpoint", TAKING, ids=lambda endpoint: endpoint.name)
async def test_responses_fit_the_description(
    server: ServerHere, alice: Person, chat: int, endpoint: Endpoint, mode: Any
) -> None:
    """Every response has a described status, type and body, and none is a 5xx."""
    await alice.send(chat)
    # Describe the API before Hypothesis changes the recursion limit: Python's parser fails if it changes.
    assert (await alice.http.get(f"{server.address}/openapi.json")).status_code == 200
    operation = SCHEMA[endpoint.path][endpoint.method]
    await trio.to_thread.run_sync(partial(ask, operation, mode, server.address, alice.access_token))


def ask(operation: Any, mode: Any, address: str, token: str) -> None:
    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(case=_strategy(operation, mode))
    def run(case: Any) -> None:
        headers = {"Authorization": f"Bearer {token}", "Origin": ORIGIN}
        response = case.call(base_url=address, headers=headers)
        case.validate_response(response, checks=CHECKS)
        assert response.headers["access-control-allow-origin"] == [ORIGIN]

    run()


def _strategy(operation: Any, mode: Any) -> Any:
    return operation.as_strategy(generation_mode=mode)
