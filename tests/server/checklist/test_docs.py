"""D: the documentation."""

import json
import re
from typing import Any
from urllib.parse import urljoin

import httpx
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from adapters.http_api.examples import CUSTOM
from adapters.http_api.openapi import describe
from adapters.http_api.routes import ENDPOINTS
from messaging_core.events import EVENTS
from messaging_core.limits import Limits
from tests.frames import description
from tests.patience import PATIENCE
from tests.server.clients import Person, shows_cors
from tests.server.servers import ServerHere, serving

DESCRIPTION = describe(ENDPOINTS, Limits())


async def test_d_the_page_and_its_files(server: ServerHere, stranger: httpx.AsyncClient) -> None:
    """D: `/docs` opens, and this server serves every file that it refers to."""
    page = await stranger.get("/docs")
    assert page.status_code == 200
    assert page.headers["Content-Type"].startswith("text/html")
    named = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(named) >= 3
    for name in named:
        asset = await stranger.get(urljoin(str(page.url), name))
        assert asset.status_code == 200, name
        assert asset.content
        kinds = {"css": "text/css", "js": "text/javascript", "png": "image/png"}
        assert asset.headers["Content-Type"].startswith(kinds[name.rpartition(".")[2]])
    script = (await stranger.get("/docs/start.js")).text
    assert '"/openapi.json"' in script
    assert (await stranger.get("/docs/%2e%2e/index.html")).status_code == 404


async def test_d_the_description_is_valid(server: ServerHere, stranger: httpx.AsyncClient) -> None:
    """D: `/openapi.json` is valid OpenAPI 3.1, and every reference in it resolves."""
    response = await stranger.get("/openapi.json")
    assert response.headers["Content-Type"] == "application/json"
    shows_cors(response)
    description = response.json()
    validate(description)
    assert description["openapi"].startswith("3.1")


async def test_d_the_socket_is_described(server: ServerHere, stranger: httpx.AsyncClient) -> None:
    """D: `/asyncapi.json` has every event, and the page `/docs/socket` shows each, without a script.

    The page and its files are this server's, its links lead somewhere, and `/docs` links it.
    """
    response = await stranger.get("/asyncapi.json")
    assert response.headers["Content-Type"] == "application/json"
    shows_cors(response)
    assert response.json() == description()
    page = await stranger.get("/docs/socket")
    assert page.headers["Content-Type"].startswith("text/html")
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self'")
    assert "<script" not in page.text
    for kind in EVENTS:
        assert f"<code>{kind.name or CUSTOM}</code>" in page.text
    targets = set(re.findall(r'(?:src|href)="([^"]+)"', page.text))
    anchors = re.findall(r'id="([^"]+)"', page.text)
    assert len(anchors) == len(set(anchors))
    assert {target[1:] for target in targets if target.startswith("#")} <= set(anchors)
    others = {target for target in targets if not target.startswith("#")}
    assert others == {"/docs", "/asyncapi.json", "/docs/socket.css", "/docs/favicon-32x32.png"}
    for target in others:
        assert (await stranger.get(target)).status_code == 200
    assert "(/docs/socket)" in DESCRIPTION["info"]["description"]


def schemas_of(operation: str, path: str) -> dict[str, Any]:
    body = DESCRIPTION["paths"][path][operation]["requestBody"]
    schemas: dict[str, Any] = body["content"]["application/json"]["schema"]["properties"]
    return schemas


def test_d_bodies_have_examples() -> None:
    """D: each bounded text in a body has an example within its bounds."""
    tried = 0
    for path, operations in DESCRIPTION["paths"].items():
        for operation in operations.keys() & {"post", "patch"}:
            if "requestBody" not in operations[operation]:
                continue
            for schema in schemas_of(operation, path).values():
                if "maxLength" in schema:
                    (example,) = schema["examples"]
                    Draft202012Validator(schema).validate(example)
                    tried += 1
    assert tried == 11


def test_d_system_messages_cannot_be_sent() -> None:
    """D: the type `system` is in the schema of received messages, and not in that of sent ones."""
    sent = schemas_of("post", "/api/v1/messages")["type"]["enum"]
    received = DESCRIPTION["components"]["schemas"]["Message"]["properties"]["type"]["enum"]
    assert set(received) - set(sent) == {"system"}


async def test_d_the_listeners_own_refusals_are_described(
    server: ServerHere, stranger: httpx.AsyncClient
) -> None:
    """D: a problem for a request that was not read has the request_id null, as the schema allows."""
    response = await stranger.get("/health", headers={"X-Long": "x" * 20_000})
    assert (response.status_code, response.json()["request_id"]) == (431, None)
    schema = {"$ref": "#/components/schemas/Problem", "components": DESCRIPTION["components"]}
    Draft202012Validator(schema).validate(response.json())


def test_d_what_is_not_ready_is_described() -> None:
    """D: /ready may respond 503 with three codes, calls with storage with one, /health never.

    Calls that hash a password may also respond `busy`.
    """
    responses_of = {path: DESCRIPTION["paths"][path]["get"]["responses"] for path in ("/ready", "/health")}
    assert (
        responses_of["/ready"]["503"]["description"] == "`draining`, `bus_unavailable`, `storage_unavailable`"
    )
    assert "503" not in responses_of["/health"]
    for name, codes in (("refresh", 1), ("login", 2), ("register", 2)):
        responses = DESCRIPTION["paths"][f"/api/v1/auth/{name}"]["post"]["responses"]
        assert responses["503"]["description"] == ", ".join(["`storage_unavailable`", "`busy`"][:codes])


async def test_d_the_page_describes_what_a_socket_receives(
    server: ServerHere, alice: Person, chat: int
) -> None:
    """D: the introduction lists the keys of a message in an event, in their order."""
    async with alice.socket() as socket:
        await alice.send(chat)
        event = json.loads(await socket.text())
    introduction = DESCRIPTION["info"]["description"]
    (keys,) = re.findall(r"message's keys: (.*?)\. A refused", introduction, re.DOTALL)
    assert re.findall(r"`(\w+)`", keys) == list(event["data"])


async def test_d_the_documentation_can_be_turned_off() -> None:
    """D: with `docs` off, the page and the description are 404."""
    async with (
        serving(docs=False) as server,
        httpx.AsyncClient(base_url=server.address, verify=False, timeout=PATIENCE) as client,  # noqa: S501
    ):
        for path in ("/docs", "/openapi.json", "/docs/start.js", "/asyncapi.json", "/docs/socket"):
            assert (await client.get(path)).status_code == 404
