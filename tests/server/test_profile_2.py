"""Profile 2 over a real port, directly and through ASGI: what a client's author relies on."""

import pytest

from tests.server.clients import (
    MESSAGE_KEYS,
    Person,
    browser,
    expect,
    new_key,
    open_socket,
    register,
)
from tests.server.servers import ServerHere, serving


@pytest.fixture(params=[True, False], ids=["direct", "ASGI"])
def quick_path(request: pytest.FixtureRequest) -> bool:
    """Both ways of a socket, for all tests here."""
    return bool(request.param)


async def test_a_day_of_a_client(server: ServerHere, alice: Person, bob: Person) -> None:
    """`hello`, a chat, messages of both ways, a replay, a refusal, and coming back to what was missed."""
    async with alice.full_socket() as (socket, hello), bob.full_socket() as (bobs, _):
        assert list(hello) == ["user", "session_id", "log", "server_time", "limits"]
        assert hello["user"] == alice.user
        assert hello["limits"]["message_characters"] == 4000
        chat = await alice.direct_chat_with(bob)
        for each in (socket, bobs):
            made = await each.next_of("chat.created")
            assert list(made) == ["event", "chat_id", "sequence", "data"]
            assert (made["chat_id"], made["sequence"]) == (chat, 1)
            assert made["data"] == expect(await alice.ask("GET", f"/chats/{chat}"), 200)
        sent = await alice.send(chat, "Hello")
        for each in (socket, bobs):
            frame = await each.next_of("message.created")
            assert (frame["chat_id"], frame["sequence"], frame["data"]) == (chat, 2, sent)
        key = new_key()
        body = {"chat_id": chat, "type": "text", "content": "By the socket"}
        await socket.ask("message.send", **body, client_ref=key)
        ack = await socket.next_of("ack")
        assert (list(ack["data"]), ack["data"]["client_ref"]) == (["client_ref", "message"], key)
        assert (await socket.next_of("message.created"))["data"] == ack["data"]["message"]
        assert (await bobs.next_of("message.created"))["sequence"] == 3
        again = await alice.ask("POST", "/messages", body, key=key)
        assert (again.json(), again.headers["Idempotency-Replayed"]) == (ack["data"]["message"], "true")
        await socket.ask("message.send", **body, client_ref=key)
        assert await socket.next_of("ack") == ack
        await socket.ask("message.send", chat_id=chat, type="text", content=" ", client_ref=key[::-1])
        error = (await socket.next_of("error"))["data"]
        assert list(error) == ["client_ref", "problem", "retry_after"]
        assert (error["client_ref"], error["retry_after"]) == (key[::-1], None)
        assert (error["problem"]["status"], error["problem"]["code"]) == (422, "validation_failed")
        await socket.ask("nobody.knows", this=1)
        await socket.ask("ping")
        assert await socket.next_of("keepalive") == {"event": "keepalive", "data": {}}
    missed = await bob.send(chat, "While you were away")
    async with alice.full_socket("&resume=1") as (socket, hello_again):
        assert hello_again["log"] == hello["log"]
        await socket.ask("resume", log=hello["log"], chats={str(chat): 3})
        assert (await socket.next_of("message.created"))["data"] == missed
        resumed = await socket.next_of("resumed")
        shown = expect(await alice.ask("GET", f"/chats/{chat}"), 200)
        names = ("id", "sequence", "unread_count", "read_up_to", "others_read_up_to")
        assert resumed["data"] == {"chats": [{name: shown[name] for name in names}], "users": []}
        assert (shown["sequence"], shown["others_read_up_to"]) == (4, missed["id"])
        live = await bob.send(chat, "And now")
        assert (await socket.next_of("message.created"))["data"] == live


async def test_a_deletion_and_an_edit_have_names_of_their_own(alice: Person, chat: int) -> None:
    """Unlike in profile 1, and each shows the whole message."""
    async with alice.full_socket() as (socket, _):
        message = await alice.send(chat)
        await socket.next_of("message.created")
        edited = await alice.ask("PATCH", f"/messages/{message['id']}", {"content": "Changed"})
        assert (await socket.next_of("message.updated"))["data"] == expect(edited, 200)
        expect(await alice.ask("DELETE", f"/messages/{message['id']}"), 204)
        deleted = await socket.next_of("message.deleted")
        assert (deleted["data"]["content"], deleted["data"]["deleted_at"]) != (message["content"], None)


async def test_what_happens_to_a_group_is_shown_to_each_member(alice: Person, bob: Person) -> None:
    """Its changes, who joins, has another role and leaves, with the system messages between, and its end."""
    body = {"title": "Trip", "member_ids": [], "is_group": True}
    group = expect(await alice.ask("POST", "/chats", body), 201)["id"]
    path = f"/chats/{group}"
    async with alice.full_socket() as (socket, _), bob.full_socket() as (bobs, _):
        expect(await alice.ask("POST", f"{path}/members", {"user_id": bob.id}), 201)
        own, others = await bobs.next_of("member.added"), await socket.next_of("member.added")
        assert others["data"] == {**own["data"], "chat": None}
        assert (own["data"]["user"]["id"], own["data"]["participants_count"]) == (bob.id, 2)
        assert own["data"]["chat"]["my_role"] == own["data"]["role"] == "member"
        for each in (socket, bobs):
            assert (await each.next_of("message.created"))["data"]["type"] == "system"
        expect(await alice.ask("PATCH", path, {"title": "Journey"}), 200)
        expect(await alice.ask("PATCH", f"{path}/members/{bob.id}", {"role": "admin"}), 200)
        for each in (socket, bobs):
            changed = await each.next_of("chat.updated")
            assert list(changed["data"]) == ["id", "title", "avatar_url", "history"]
            assert changed["data"]["title"] == "Journey"
            await each.next_of("message.created")
            assert (await each.next_of("member.updated"))["data"]["role"] == "admin"
        expect(await bob.ask("DELETE", f"{path}/members/{bob.id}"), 204)
        removed = await bobs.next_of("member.removed")
        assert (await socket.next_of("member.removed")) == removed
        assert list(removed["data"]) == ["chat_id", "user", "role", "joined_at", "participants_count"]
        await socket.next_of("message.created")
        expect(await alice.ask("DELETE", path), 204)
        assert (await socket.next_of("chat.deleted"))["data"] == {"id": group, "deleted_by": alice.id}
        await bobs.ask("ping")
        await bobs.next_of("keepalive")


async def test_a_client_that_cannot_resume_starts_over(alice: Person, chat: int) -> None:
    """Of another log, or with a number above the server's: the server says so, and goes on live."""
    async with alice.full_socket() as (_, hello):
        pass
    for log, number, reason in (("other", 1, "other_log"), (hello["log"], 99, "unknown_number")):
        async with alice.full_socket("&resume=1") as (socket, _):
            await socket.ask("resume", log=log, chats={str(chat): number})
            frame = await socket.next_of("resync_required")
            assert frame["data"]["reason"] == reason
            assert frame["data"]["retry_after"] >= 0
            await alice.send(chat)
            await socket.next_of("message.created")


async def test_what_is_wrong_with_a_resume_is_said_by_the_close(alice: Person) -> None:
    """A message that is none, and one beyond 256 KiB; up to there it is read."""
    async with alice.full_socket("&resume=1") as (socket, _):
        await socket.ask("ping")
        assert await socket.closed() == (4510, "resume_expected")
    async with alice.full_socket("&resume=1") as (socket, _):
        await socket.ask("resume", log="x" * 262_144, chats={})
        assert await socket.closed() == (1009, "message_too_big")
    async with alice.full_socket("&resume=1") as (socket, hello):
        await socket.ask("resume", log=hello["log"], chats={}, padding="x" * 262_000)
        await socket.next_of("resumed")
        await socket.ask("message.send", content="x" * 65_536)
        assert await socket.closed() == (1009, "message_too_big")


async def test_a_restart_says_when_to_come_back(server: ServerHere, alice: Person) -> None:
    """The reason of a 1012 has the seconds; in profile 1 it stays as it is."""
    async with alice.full_socket() as (socket, _), alice.socket() as plain:
        server.messaging.hub.drain()
        assert await socket.closed() == (1012, "restarting; retry_after=1")
        assert await plain.closed() == (1012, "restarting")


async def test_the_profile_of_a_socket_that_names_none_is_a_setting() -> None:
    """`socket_profile=2`; a socket may still ask for profile 1."""
    async with serving(socket_profile="2") as server, browser(server) as http:
        alice, bob = await register(server, http, "Alice"), await register(server, http, "Bob")
        chat = await alice.direct_chat_with(bob)
        async with (
            open_socket(server, f"?token={alice.access_token}", profile="2") as socket,
            open_socket(server, f"?token={bob.access_token}&profile=1") as plain,
        ):
            await socket.next_of("hello")
            await alice.send(chat)
            assert list(await plain.message()) == MESSAGE_KEYS
