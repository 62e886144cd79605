"""C3 and C4: who receives a message, and the frame that contains it."""

import json
import re

import httpx
import pytest
import trio

from tests.server.clients import MESSAGE_KEYS, Person, expect, log_in, register
from tests.server.servers import ServerHere


async def test_c3_every_socket_of_every_participant_receives_it(
    alice: Person, bob: Person, chat: int
) -> None:
    """C3: two tabs of each participant, the author included, receive a message within 2 s."""
    async with alice.socket() as a1, alice.socket() as a2, bob.socket() as b1, bob.socket() as b2:
        for author in (alice, bob):
            sent = await author.send(chat, f"from {author.user['tag']}")
            frames = [await socket.text() for socket in (a1, a2, b1, b2)]
            assert len(set(frames)) == 1
            assert json.loads(frames[0])["data"]["id"] == sent["id"]


async def test_c3_a_second_login_receives_it_too(
    server: ServerHere, http: httpx.AsyncClient, alice: Person, bob: Person, chat: int
) -> None:
    """C3: two sessions of a user both receive it, and a closed socket disturbs nothing."""
    phone = await log_in(server, http, "Bob")
    async with bob.socket() as laptop, phone.socket() as pocket:
        async with bob.socket():
            pass
        sent = await alice.send(chat)
        assert (await laptop.message())["id"] == sent["id"]
        assert (await pocket.message())["id"] == sent["id"]


async def test_c3_only_the_group_receives_it(
    server: ServerHere, http: httpx.AsyncClient, alice: Person, bob: Person, chat: int
) -> None:
    """C3: all members of a group receive its messages, and others do not."""
    carol = await register(server, http, "Carol")
    body = {"title": "Trip", "member_ids": [bob.id, carol.id]}
    group = expect(await alice.ask("POST", "/chats", body), 201)["id"]
    async with alice.socket() as a, bob.socket() as b, carol.socket() as c:
        private = await alice.send(chat, "for Bob alone")
        shared = await carol.send(group, "for all")
        assert [(await a.message())["id"], (await b.message())["id"]] == [private["id"]] * 2
        for socket in (a, b, c):
            assert (await socket.message())["id"] == shared["id"]


async def test_c3_events_of_a_chat_arrive_in_order(alice: Person, bob: Person, chat: int) -> None:
    """Part 4: on every socket, the events of a chat arrive in the order of their commits and ids."""
    async with alice.socket() as a, bob.socket() as b:
        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon((alice, bob)[number % 2].send, chat, str(number))
        received = [[(await socket.message())["id"] for _ in range(50)] for socket in (a, b)]
        assert received[0] == received[1] == sorted(received[0])


async def test_c4_the_frame_has_exactly_these_keys(alice: Person, bob: Person, chat: int) -> None:
    """C4: `{"event", "data"}`, and in `data` the seven keys of a message, in the checklist's order."""
    async with bob.socket() as socket:
        sent = await alice.send(chat, "Hello World!")
        frame = await socket.frame()
    assert list(frame) == ["event", "data"]
    assert frame["event"] == "message.created"
    assert list(frame["data"]) == MESSAGE_KEYS
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", frame["data"]["ts"])
    assert frame["data"] == {
        "id": sent["id"],
        "chat_id": chat,
        "author_id": alice.id,
        "type": "text",
        "content": "Hello World!",
        "payload": None,
        "ts": sent["ts"],
    }


async def test_c4_an_edit_and_a_deletion_are_updates(alice: Person, bob: Person, chat: int) -> None:
    """C4: `message.updated` has the whole message; a deleted one has no content, and `payload` says so."""
    async with bob.socket() as socket:
        sent = await alice.send(chat)
        assert (await socket.frame())["event"] == "message.created"
        expect(await alice.ask("PATCH", f"/messages/{sent['id']}", {"content": "Bye!"}), 200)
        edited = await socket.frame()
        expect(await alice.ask("DELETE", f"/messages/{sent['id']}"), 204)
        deleted = await socket.frame()
    for frame, changes in (
        (edited, {"content": "Bye!"}),
        (deleted, {"content": None, "payload": {"deleted": True}}),
    ):
        assert list(frame) == ["event", "data"]
        assert frame["event"] == "message.updated"
        assert list(frame["data"]) == MESSAGE_KEYS
        assert frame["data"] == {**{key: sent[key] for key in MESSAGE_KEYS}, **changes}


async def test_c4_nothing_else_is_sent(
    server: ServerHere, http: httpx.AsyncClient, alice: Person, bob: Person, chat: int
) -> None:
    """C4: sockets receive no greeting, and nothing about chats, users, sessions, refusals or replays.

    Frames are sent in order, so any other frame would precede the message that ends the test.
    """
    async with alice.socket() as a, bob.socket() as b:
        for nonsense in ("hello", "{}", '{"event":"ping"}', b"\x00\xff", "", b"", "x" * 60_000):
            await a.connection.send_message(nonsense)
        carol = await register(server, http, "Carol")
        await alice.direct_chat_with(carol)
        await alice.direct_chat_with(bob)
        expect(await alice.ask("POST", "/chats", {"title": "Trip", "member_ids": [bob.id]}), 201)
        expect(await alice.ask("POST", "/messages", {"chat_id": chat, "type": "text"}), 422)
        expect(await http.post("/auth/refresh", json={"refresh_token": bob.refresh_token}), 200)
        other = await log_in(server, http, "Bob")
        expect(await other.ask("POST", "/auth/logout"), 204)
        expect(await alice.ask("GET", f"/messages?chat_id={chat}"), 200)
        sent = await alice.send(chat, "the first thing that anybody hears", key="k")
        assert await alice.send(chat, "the first thing that anybody hears", key="k") == sent
        expect(await alice.ask("DELETE", f"/messages/{sent['id']}"), 204)
        expect(await alice.ask("DELETE", f"/messages/{sent['id']}"), 204)
        last = await alice.send(chat, "the last")
        for socket in (a, b):
            frames = [await socket.frame() for _ in range(3)]
            assert [frame["event"] for frame in frames] == [
                "message.created",
                "message.updated",
                "message.created",
            ]
            assert [frame["data"]["id"] for frame in frames] == [sent["id"], sent["id"], last["id"]]


@pytest.mark.parametrize("kind", ["text", "voice", "image", "video", "file"])
async def test_c4_every_type_of_message(alice: Person, bob: Person, chat: int, kind: str) -> None:
    """C4: `payload` may be any JSON object and `content` any text; both arrive unchanged."""
    payload = {
        "url": "https://files.example/ж.ogg",
        "тег": [1, -2.5, 1e300, None, True, {"deep": {}}],
        "": 2**63 - 1,
    }
    content = "Привет 👋🏽\n\t\u200dконец \\ \" ' </script> \u2028"
    body = {"chat_id": chat, "type": kind, "content": content, "payload": payload}
    async with bob.socket() as socket:
        sent = expect(await alice.ask("POST", "/messages", body), 201)
        frame = await socket.frame()
    for message in (sent, frame["data"]):
        assert message["type"] == kind
        assert message["content"] == content
        assert message["payload"] == payload


async def test_c4_rest_has_the_same_keys(alice: Person, bob: Person, chat: int) -> None:
    """C4: a message of the REST API begins with the seven keys of the frame, and has more."""
    async with bob.socket() as socket:
        sent = await alice.send(chat)
        event_data = await socket.message()
    (read,) = expect(await bob.ask("GET", f"/messages?chat_id={chat}"), 200)
    for message in (sent, read):
        assert list(message)[:7] == MESSAGE_KEYS
        assert {key: message[key] for key in MESSAGE_KEYS} == event_data
