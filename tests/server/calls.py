"""A successful call of every endpoint, by the name of its command."""

from collections.abc import Callable, Mapping
from typing import Any

import httpx
from attrs import frozen

from adapters.http_api.endpoints import Auth, Endpoint
from tests.server.clients import PASSWORD, Person, new_key


@frozen
class Scene:
    """Two people, their chat, and a message of Alice's in it."""

    alice: Person
    bob: Person
    chat: int
    message: int

    @property
    def http(self) -> httpx.AsyncClient:
        return self.alice.http


Values = Mapping[str, Any]

CALLS: dict[str, Callable[[Scene], Values]] = {
    "RegisterUser": lambda _: {
        "email": f"{new_key()}@test.com",
        "password": PASSWORD,
        "display_name": "Carol",
        "avatar_url": "https://files.example/carol.png",
    },
    "LogIn": lambda scene: {"email": scene.alice.user["email"], "password": PASSWORD},
    "RefreshTokens": lambda scene: {"refresh_token": scene.bob.refresh_token},
    "LogOut": lambda _: {},
    "GetOwnUser": lambda _: {},
    "FindUserByTag": lambda scene: {"tag": scene.bob.user["tag"]},
    "GetUser": lambda scene: {"user_id": scene.bob.id},
    "ListChats": lambda _: {"limit": 10, "cursor": "MS4yLjM"},
    "CreateGroup": lambda scene: {"title": "Trip", "member_ids": [scene.bob.id], "is_group": True},
    "GetChat": lambda scene: {"chat_id": scene.chat},
    "OpenDirectChat": lambda scene: {"user_id": scene.bob.id},
    "ListMessages": lambda scene: {"chat_id": scene.chat, "limit": 10, "before_id": 1000},
    "SendMessage": lambda scene: {
        "chat_id": scene.chat,
        "type": "text",
        "content": "Hello!",
        "payload": {"a": [1]},
        "reply_to_id": scene.message,
    },
    "EditMessage": lambda scene: {"message_id": scene.message, "content": "Edited", "payload": None},
    "DeleteMessage": lambda scene: {"message_id": scene.message},
    "ReportTyping": lambda scene: {"chat_id": scene.chat, "is_typing": True},
    "ListTypists": lambda scene: {"chat_id": scene.chat},
    "CheckHealth": lambda _: {},
    "CheckReadiness": lambda _: {},
}
"""The values of each endpoint, with every optional field; tests fail for an endpoint without an entry."""


def path_of(endpoint: Endpoint, values: dict[str, Any]) -> str:
    """The endpoint's path, with the values of its parameters, which are removed from `values`."""
    path = endpoint.path
    for name in endpoint.path_names:
        path = path.replace(f"{{{name}}}", str(values.pop(name)))
    return path


async def call(
    scene: Scene, endpoint: Endpoint, values: Values | None = None, *, signed_in: bool = True
) -> httpx.Response:
    """Send `values`, by default those of `CALLS`, in the path and in the query or body."""
    rest = {**(CALLS[endpoint.name](scene) if values is None else values)}
    path = path_of(endpoint, rest)
    sent: dict[str, Any] = {}
    if endpoint.has_body:
        sent["json"] = rest
    elif endpoint.method == "GET":
        sent["params"] = rest
    if signed_in and endpoint.auth is Auth.SESSION:
        sent["headers"] = {"Authorization": f"Bearer {scene.alice.access_token}"}
    return await scene.http.request(endpoint.method, f"{scene.alice.server.address}{path}", **sent)
