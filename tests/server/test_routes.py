"""Each endpoint's declaration and its behaviour agree."""

import re
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import attrs
import httpx
import pytest
from jsonschema import Draft202012Validator
from msgspec import Struct

from adapters.http_api.endpoints import Auth, Endpoint
from adapters.http_api.problem_json import ProblemJson
from adapters.http_api.problems import status_of
from adapters.http_api.routes import ENDPOINTS
from adapters.http_api.views import View
from messaging_core import errors
from messaging_core.errors import Refused
from messaging_core.frames import PlainFrame
from tests.patience import PATIENCE
from tests.server.calls import CALLS, OTHERS_CHAT, Scene, call
from tests.server.clients import expect, register
from tests.server.servers import ServerHere

BY_NAME = {endpoint.name: endpoint for endpoint in ENDPOINTS}

each_endpoint = pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)


@pytest.fixture(params=[True, False], ids=["quick path", "framework"])
def quick_path(request: pytest.FixtureRequest) -> bool:
    """The declarations hold on both ways: through the framework and on the quick path."""
    return bool(request.param)


@pytest.fixture
async def description(server: ServerHere, http: httpx.AsyncClient) -> Any:
    async with httpx.AsyncClient(verify=False, timeout=PATIENCE) as stranger:  # noqa: S501
        return (await stranger.get(f"{server.address}/openapi.json")).json()


def refusals(of: type[Refused] = Refused) -> Iterator[type[Refused]]:
    for class_ in of.__subclasses__():
        yield class_
        yield from refusals(class_)


# --- declarations ---


def rendered_classes(type_: Any) -> Iterator[type]:
    """The classes that JSON of this type is rendered from."""
    if isinstance(type_, type) and (attrs.has(type_) or issubclass(type_, Struct)):
        yield type_
        for part in get_type_hints(type_).values():
            yield from rendered_classes(part)
    for part in get_args(type_):
        yield from rendered_classes(part)


@each_endpoint
def test_responses_are_views(endpoint: Endpoint) -> None:
    """No response renders a model of the domain, whose new fields would appear on the wire."""
    for rendered in (endpoint.response, ProblemJson):
        assert all(issubclass(class_, View) for class_ in rendered_classes(rendered))


def test_frames_have_no_slots() -> None:
    """A frame has its fields in the declared order, in which slots would not be."""
    for class_ in rendered_classes(PlainFrame):
        assert "__slots__" not in vars(class_)


async def test_a_hidden_email_is_described(description: Any) -> None:
    """The description says that an e-mail may be null, and that its key is present."""
    schema = description["components"]["schemas"]["UserView"]
    assert schema["properties"]["email"]["type"] == ["string", "null"]
    assert "email" in schema["required"]


def test_endpoints_are_distinct() -> None:
    """A method on a path, and an operation's name, belong to one endpoint."""
    assert len({(endpoint.method, endpoint.path) for endpoint in ENDPOINTS}) == len(ENDPOINTS)
    assert len(BY_NAME) == len(ENDPOINTS)


def test_every_endpoint_has_a_call() -> None:
    """Every endpoint has an entry in `CALLS`, so that the tests below cover it."""
    assert set(CALLS) == set(BY_NAME)


@pytest.mark.parametrize("refusal", sorted(refusals(), key=str))
def test_every_refusal_has_a_status_and_a_code(refusal: type[Refused]) -> None:
    """Each refusal of a decision has a status, and a code that no other class has."""
    assert 400 <= status_of(refusal) < 500
    assert re.fullmatch(r"[a-z0-9_]+", refusal.code)
    if not refusal.__subclasses__():
        assert [other for other in refusals() if other.code == refusal.code] == [refusal]
        assert refusal.sentence.endswith(".")


# --- behaviour ---


@each_endpoint
async def test_a_call_gets_the_declared_response(scene: Scene, description: Any, endpoint: Endpoint) -> None:
    """A successful call has the declared status, and a body that fits its schema in the description."""
    response = await call(scene, endpoint)
    body = expect(response, endpoint.status)
    described = description["paths"][endpoint.path][endpoint.method.lower()]
    assert described["operationId"] == endpoint.name
    described_response = described["responses"][str(endpoint.status)]
    assert ("content" in described_response) == (body is not None)
    if body is not None:
        assert response.headers["Content-Type"] == "application/json"
        validate(body, described_response["content"]["application/json"]["schema"], description)


@pytest.mark.parametrize("name", ["ListMessages", "ListChats"])
async def test_arrays_are_described_too(scene: Scene, description: Any, name: str) -> None:
    """`GET /messages` and `GET /chats` without paging return an array, which the description has."""
    endpoint = BY_NAME[name]
    response = await call(scene, endpoint, {"chat_id": scene.chat} if name == "ListMessages" else {})
    body = expect(response, 200)
    assert isinstance(body, list)
    assert body
    schema = description["paths"][endpoint.path]["get"]["responses"]["200"]["content"]
    validate(body, schema["application/json"]["schema"], description)


def validate(body: Any, schema: Any, description: Any) -> None:
    whole = {**schema, "components": description["components"]}
    Draft202012Validator(whole, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(body)


async def test_the_description_has_every_route(description: Any) -> None:
    """The description has exactly the endpoints, each with its security and its parameters."""
    described = {
        (method.upper(), path) for path, methods in description["paths"].items() for method in methods
    }
    assert described == {(endpoint.method, endpoint.path) for endpoint in ENDPOINTS}
    for endpoint in ENDPOINTS:
        operation = description["paths"][endpoint.path][endpoint.method.lower()]
        assert ("security" in operation) == (endpoint.auth is Auth.SESSION)
        assert ("requestBody" in operation) == endpoint.has_body
        named = {parameter["name"] for parameter in operation["parameters"]}
        assert set(endpoint.path_names) <= named
        assert ("Idempotency-Key" in named) == endpoint.takes_key


@each_endpoint
async def test_tokens_are_required_as_declared(scene: Scene, endpoint: Endpoint) -> None:
    """Without a token, endpoints that need a session are a 401, and all others succeed."""
    response = await call(scene, endpoint, signed_in=False)
    if endpoint.auth is Auth.SESSION:
        expect(response, 401, "token_missing")
    else:
        expect(response, endpoint.status)


GROUP_CALLS: dict[str, dict[str, Any]] = {
    "UpdateGroup": {"title": "Journey"},
    "DeleteGroup": {},
    "AddMembers": {"user_id": 3},
    "ChangeRole": {"user_id": 2, "role": "admin"},
    "RemoveMember": {"user_id": 2},
}
"""Changes of a group, each with the values besides its chat."""

REFUSED: dict[str, tuple[str, dict[str, Any], type[Refused]]] = {
    "unknown chat": ("GetChat", {"chat_id": 999}, errors.ChatNotFound),
    "chat of others": ("GetChat", {"chat_id": OTHERS_CHAT}, errors.NotAParticipant),
    "unknown user": ("GetUser", {"user_id": 999}, errors.UserNotFound),
    "unknown tag": ("FindUserByTag", {"tag": "nobody"}, errors.UserNotFound),
    "history of an unknown chat": ("ListMessages", {"chat_id": 999}, errors.ChatNotFound),
    "history of others": ("ListMessages", {"chat_id": OTHERS_CHAT}, errors.NotAParticipant),
    "into an unknown chat": (
        "SendMessage",
        {"chat_id": 999, "type": "text", "content": "x"},
        errors.ChatNotFound,
    ),
    "into others' chat": (
        "SendMessage",
        {"chat_id": OTHERS_CHAT, "type": "text", "content": "x"},
        errors.NotAParticipant,
    ),
    "as the system": ("SendMessage", {"chat_id": 1, "type": "system", "content": "x"}, errors.Invalid),
    "no substance": ("SendMessage", {"chat_id": 1, "type": "text"}, errors.Invalid),
    "nothing but nulls": (
        "SendMessage",
        {"chat_id": 1, "type": "text", "content": None, "payload": None},
        errors.Invalid,
    ),
    "reply to nothing": (
        "SendMessage",
        {"chat_id": 1, "type": "text", "content": "x", "reply_to_id": 999},
        errors.Invalid,
    ),
    "reply into another chat": (
        "SendMessage",
        {"chat_id": 1, "type": "text", "content": "x", "reply_to_id": 4},
        errors.Invalid,
    ),
    "edit of nothing": ("EditMessage", {"message_id": 999, "content": "x"}, errors.MessageNotFound),
    "edit of another's": ("EditMessage", {"message_id": 2, "content": "x"}, errors.NotTheAuthor),
    "edit in another's chat": ("EditMessage", {"message_id": 4, "content": "x"}, errors.NotAParticipant),
    "edit of a deleted one": ("EditMessage", {"message_id": 3, "content": "x"}, errors.MessageAlreadyDeleted),
    "edit into nothing": ("EditMessage", {"message_id": 1, "content": None}, errors.Invalid),
    "edit that says nothing": ("EditMessage", {"message_id": 1}, errors.Invalid),
    "deletion of nothing": ("DeleteMessage", {"message_id": 999}, errors.MessageNotFound),
    "deletion of another's": ("DeleteMessage", {"message_id": 2}, errors.NotTheAuthor),
    "deletion in another's chat": ("DeleteMessage", {"message_id": 4}, errors.NotAParticipant),
    "with oneself": ("OpenDirectChat", {"user_id": 1}, errors.DirectChatWithSelf),
    "with nobody": ("OpenDirectChat", {"user_id": 999}, errors.UserNotFound),
    "group of nobody": ("CreateGroup", {"title": "T", "member_ids": [2, 999]}, errors.Invalid),
    "group that is none": (
        "CreateGroup",
        {"title": "T", "member_ids": [2], "is_group": False},
        errors.Invalid,
    ),
    "presence of nobody": ("GetPresence", {"user_id": 999}, errors.UserNotFound),
    "presence of a stranger": ("GetPresence", {"user_id": 3}, errors.UserNotFound),
    "reading nowhere": ("MarkRead", {"chat_id": 999}, errors.ChatNotFound),
    "reading of others": ("MarkRead", {"chat_id": OTHERS_CHAT}, errors.NotAParticipant),
    "reads of nothing": ("ListReads", {"chat_id": 999}, errors.ChatNotFound),
    "reads of others": ("ListReads", {"chat_id": OTHERS_CHAT}, errors.NotAParticipant),
    "typing nowhere": ("ReportTyping", {"chat_id": 999, "is_typing": True}, errors.ChatNotFound),
    "typing in others' chat": (
        "ReportTyping",
        {"chat_id": OTHERS_CHAT, "is_typing": True},
        errors.NotAParticipant,
    ),
    "typists of nothing": ("ListTypists", {"chat_id": 999}, errors.ChatNotFound),
    "typists of others' chat": ("ListTypists", {"chat_id": OTHERS_CHAT}, errors.NotAParticipant),
    "members of an unknown chat": ("ListMembers", {"chat_id": 999}, errors.ChatNotFound),
    "members of others": ("ListMembers", {"chat_id": OTHERS_CHAT}, errors.NotAParticipant),
    "the last owner's step": (
        "ChangeRole",
        {"chat_id": 2, "user_id": 1, "role": "member"},
        errors.LastOwner,
    ),
    "somebody twice": ("AddMembers", {"chat_id": 2, "user_ids": [2]}, errors.AlreadyAMember),
    "nobody to add": ("AddMembers", {"chat_id": 2, "user_ids": [999]}, errors.Invalid),
    "nothing to change": ("UpdateGroup", {"chat_id": 2}, errors.Invalid),
    **{
        f"{name} {where}": (name, {**values, "chat_id": chat_id}, refusal)
        for name, values in GROUP_CALLS.items()
        for where, chat_id, refusal in (
            ("in an unknown chat", 999, errors.ChatNotFound),
            ("in others' chat", OTHERS_CHAT, errors.NotAParticipant),
            ("in a direct chat", 1, errors.NotAGroup),
            ("as a mere member", 5, errors.InsufficientRole),
        )
    },
    **{
        f"{name} of no member": (
            name,
            {**GROUP_CALLS[name], "chat_id": 2, "user_id": 3},
            errors.MemberNotFound,
        )
        for name in ("ChangeRole", "RemoveMember")
    },
    "e-mail taken": (
        "RegisterUser",
        {"email": "bob@test.com", "password": "password123", "display_name": "Bob"},
        errors.EmailTaken,
    ),
}


@pytest.fixture
async def neighbours(server: ServerHere, scene: Scene) -> Scene:
    """The scene, with messages 2 (Bob's) and 3 (deleted), and, in a chat of two others, message 4.

    Chat 5 is a group of Bob's in which Alice is a member.
    """
    await scene.bob.send(scene.chat)
    deleted = await scene.alice.send(scene.chat)
    expect(await scene.alice.ask("DELETE", f"/messages/{deleted['id']}"), 204)
    carol = await register(server, scene.http, "Carol")
    other = await carol.direct_chat_with(scene.bob)
    await carol.send(other)
    await scene.bob.ask("POST", "/chats", {"title": "Bob's", "member_ids": [scene.alice.id]})
    return scene


@pytest.mark.parametrize("name", REFUSED)
async def test_refusals_are_declared_and_change_nothing(
    server: ServerHere, neighbours: Scene, description: Any, name: str
) -> None:
    """Each refusal has its code and status, is in the description, and changes nothing."""
    called, values, refusal = REFUSED[name]
    endpoint = BY_NAME[called]
    before = server.state()
    response = await call(neighbours, endpoint, values)
    body = expect(response, status_of(refusal), refusal.code)
    assert server.state() == before
    described = description["paths"][endpoint.path][endpoint.method.lower()]["responses"]
    described_response = described[str(response.status_code)]
    assert f"`{refusal.code}`" in described_response["description"]
    validate(body, described_response["content"]["application/problem+json"]["schema"], description)
    if refusal is errors.Invalid:
        assert body["errors"]


async def test_every_declared_refusal_is_tested() -> None:
    """Each refusal that an endpoint declares is in a test, here or in other modules."""
    met = {(called, refusal) for called, _, refusal in REFUSED.values()}
    elsewhere = {
        ("LogIn", errors.InvalidCredentials),
        ("CreateGroup", errors.TooManyChats),
        ("OpenDirectChat", errors.TooManyChats),
        ("ListReads", errors.ChatTooLarge),
        *(("RefreshTokens", r) for r in BY_NAME["RefreshTokens"].refusals),
        *((name, errors.IdempotencyKeyReused) for name, endpoint in BY_NAME.items() if endpoint.takes_key),
    }
    declared = {(name, refusal) for name, endpoint in BY_NAME.items() for refusal in endpoint.refusals}
    assert declared <= met | elsewhere


async def test_head_works_wherever_get_does(scene: Scene) -> None:
    """HEAD has the status and headers of GET, and no body."""
    for path in ("/users/me", "/chats", f"/chats/{scene.chat}"):
        got, headed = await scene.alice.ask("GET", path), await scene.alice.ask("HEAD", path)
        assert headed.status_code == got.status_code == 200
        assert headed.content == b""
        assert headed.headers["Content-Type"] == got.headers["Content-Type"]
        assert headed.headers["Content-Length"] == got.headers["Content-Length"]


async def test_405_names_the_allowed_methods(scene: Scene) -> None:
    """405 has Allow (RFC 9110 15.5.6) with exactly the methods of the path."""
    for path in {endpoint.path for endpoint in ENDPOINTS}:
        methods = {endpoint.method for endpoint in ENDPOINTS if endpoint.path == path}
        filled = re.sub(r"\{\w+\}", "1", path)
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - methods:
            response = await scene.http.request(method, f"{scene.alice.server.address}{filled}")
            expect(response, 405, "method_not_allowed")
            head = {"HEAD"} if "GET" in methods else set[str]()
            assert set(response.headers["Allow"].split(", ")) == {*methods, *head, "OPTIONS"}
