"""A successful call of every endpoint, by the name of its command."""

from collections.abc import Callable, Mapping
from typing import Any

import httpx
from attrs import frozen

from adapters.http_api.endpoints import Auth, Endpoint
from tests.server.clients import PASSWORD, Person, expect, new_key


@frozen
class Scene:
    """Two people, their chat, a message of Alice's in it, and two groups of hers, with Bob and without."""

    alice: Person
    bob: Person
    chat: int
    message: int
    group: int
    alone: int

    @property
    def http(self) -> httpx.AsyncClient:
        return self.alice.http


OTHERS_CHAT = 4
"""The id of the first chat that is created beside the scene."""


async def scene_of(alice: Person, bob: Person, chat: int) -> Scene:
    """The scene around a direct chat of the two; it takes three requests of Alice's."""
    message = (await alice.send(chat))["id"]
    groups = [
        expect(await alice.ask("POST", "/chats", {"title": "Trip", "member_ids": member_ids}), 201)["id"]
        for member_ids in ([bob.id], [])
    ]
    return Scene(alice, bob, chat, message, *groups)


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
    "CreateGroup": lambda scene: {
        "title": "Trip",
        "member_ids": [scene.bob.id],
        "is_group": True,
        "history": "all",
    },
    "UpdateGroup": lambda scene: {
        "chat_id": scene.group,
        "title": f"Trip {new_key()}",
        "avatar_url": "https://files.example/trip.png",
        "history": "all",
    },
    "DeleteGroup": lambda scene: {"chat_id": scene.group},
    "ListMembers": lambda scene: {"chat_id": scene.group, "limit": 1, "cursor": "MS4x"},
    "AddMembers": lambda scene: {"chat_id": scene.alone, "user_id": scene.bob.id},
    "ChangeRole": lambda scene: {"chat_id": scene.group, "user_id": scene.bob.id, "role": "admin"},
    "RemoveMember": lambda scene: {"chat_id": scene.group, "user_id": scene.bob.id},
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
    "SendHeartbeat": lambda _: {},
    "GetOwnPresence": lambda _: {},
    "GetPresence": lambda scene: {"user_id": scene.bob.id},
    "MarkRead": lambda scene: {"chat_id": scene.chat, "message_id": scene.message},
    "ListReads": lambda scene: {"chat_id": scene.chat},
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
