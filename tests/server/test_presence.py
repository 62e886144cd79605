"""Who types, over REST."""

from tests.server.calls import Scene
from tests.server.clients import expect, register
from tests.server.servers import ServerHere


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
