"""Who is there, and who types, over REST."""

from typing import Any

import pytest
import trio

from adapters.runtime import attendance, presence_feed
from tests.patience import PATIENCE
from tests.server.calls import Scene
from tests.server.clients import Person, expect, register
from tests.server.servers import ServerHere


async def presence(viewer: Person, of: object = "me") -> Any:
    return expect(await viewer.ask("GET", f"/presence/{of}"), 200)


async def until(viewer: Person, of: Person, status: str) -> None:
    with trio.fail_after(PATIENCE):
        while (await presence(viewer, of.id))["status"] != status:  # noqa: ASYNC110 - over the network
            await trio.sleep(0.01)


async def test_who_is_there(scene: Scene, server: ServerHere, monkeypatch: pytest.MonkeyPatch) -> None:
    """People who share a chat see who has a socket or a heartbeat, and for a minute who had a socket."""
    monkeypatch.setattr(attendance, "GATHER_SECONDS", 0.01)
    alice, bob = scene.alice, scene.bob
    never = {"user_id": bob.id, "status": "offline", "last_seen": None}
    assert await presence(bob) == await presence(alice, bob.id) == never
    async with bob.socket():
        await until(alice, bob, "online")
        assert (await presence(bob))["status"] == "online"
    server.clock.advance(seconds=30)
    assert (await presence(alice, bob.id))["status"] == "online"
    server.clock.advance(seconds=31)
    await until(alice, bob, "offline")
    seen = (await presence(alice, bob.id))["last_seen"]
    expect(await bob.ask("POST", "/presence/heartbeat"), 204)
    now = await presence(alice, bob.id)
    assert now["status"] == "online"
    assert now["last_seen"] > seen
    server.clock.advance(minutes=5)
    assert (await presence(alice, bob.id))["status"] == "offline"
    carol = await register(server, scene.http, "Carol")
    for unknown in (bob.id, 999):
        expect(await carol.ask("GET", f"/presence/{unknown}"), 404, "user_not_found")


async def test_who_is_watched(scene: Scene, server: ServerHere, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket receives the presence of those whom it watches, at once and when it changes; no stranger's."""
    monkeypatch.setattr(attendance, "GATHER_SECONDS", 0.01)
    monkeypatch.setattr(presence_feed, "COMPARE_SECONDS", 0.01)
    alice, bob = scene.alice, scene.bob
    carol = await register(server, scene.http, "Carol")
    async with alice.full_socket() as (socket, _), carol.socket():
        await socket.ask("watch", user_ids=[carol.id, 999, bob.id])
        never = {"user_id": bob.id, "status": "offline", "last_seen": None}
        assert await socket.next_of("presence") == {"event": "presence", "data": never}
        async with bob.socket():
            there = (await socket.next_of("presence"))["data"]
            assert (there["user_id"], there["status"]) == (bob.id, "online")
        await carol.direct_chat_with(alice)
        await socket.next_of("chat.created")
        await socket.ask("watch", user_ids=[carol.id])
        assert (await socket.next_of("presence"))["data"]["user_id"] == carol.id


async def test_who_types(scene: Scene, server: ServerHere) -> None:
    """The others in the chat see it until it ends or is forgotten; strangers are refused."""
    alice, bob, chat = scene.alice, scene.bob, scene.chat
    carol = await register(server, scene.http, "Carol")
    own = {"chat_id": chat, "is_typing": True}

    async def typists(of: int = chat) -> object:
        return expect(await bob.ask("GET", f"/presence/typing/{of}"), 200)

    assert await typists() == []
    expect(await alice.ask("POST", "/presence/typing", json=own), 204)
    assert await typists() == [alice.id]
    assert await typists(await bob.direct_chat_with(carol)) == []
    assert expect(await alice.ask("GET", f"/presence/typing/{chat}"), 200) == []
    expect(await alice.ask("POST", "/presence/typing", json={**own, "is_typing": False}), 204)
    assert await typists() == []
    expect(await alice.ask("POST", "/presence/typing", json=own), 204)
    server.clock.advance(seconds=11)
    assert await typists() == []
    expect(await carol.ask("POST", "/presence/typing", json=own), 403, "not_a_participant")
    expect(await carol.ask("GET", f"/presence/typing/{chat}"), 403, "not_a_participant")
    expect(await carol.ask("GET", "/presence/typing/999"), 404, "chat_not_found")
