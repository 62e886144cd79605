"""Groups over HTTP: their members, their history, and what each reader is shown."""

from typing import Any

import httpx
import pytest

from messaging_core.limits import Limits
from tests.server.clients import MESSAGE_KEYS, Person, browser, expect, new_key, register
from tests.server.servers import ServerHere, serving


@pytest.fixture
async def carol(server: ServerHere, http: httpx.AsyncClient, bob: Person) -> Person:
    return await register(server, http, "Carol")


async def group_of(owner: Person, *others: Person, **more: Any) -> int:
    body = {"title": "Trip", "member_ids": [other.id for other in others], **more}
    return int(expect(await owner.ask("POST", "/chats", body), 201)["id"])


async def history(reader: Person, chat: int) -> list[Any]:
    return list(expect(await reader.ask("GET", f"/messages?chat_id={chat}"), 200))


async def test_a_group_from_its_creation_to_its_end(alice: Person, bob: Person, carol: Person) -> None:
    """Renamed, joined, promoted, left and deleted: each state is in the chat and in its history."""
    chat = await group_of(alice, bob)
    path = f"/chats/{chat}"
    renamed = expect(await alice.ask("PATCH", path, {"title": "Journey"}), 200)
    assert (renamed["title"], renamed["my_role"], renamed["history"]) == ("Journey", "owner", "joined")
    assert renamed["sequence"] == 3
    assert renamed["last_message"]["content"] == "Alice renamed the group to “Journey”."

    added = expect(await alice.ask("POST", f"{path}/members", {"user_ids": [carol.id]}), 201)
    assert [(each["user"]["id"], each["role"]) for each in added["members"]] == [(carol.id, "member")]
    expect(await alice.ask("PATCH", f"{path}/members/{carol.id}", {"role": "admin"}), 200)
    expect(await carol.ask("DELETE", f"{path}/members/{bob.id}"), 204)
    expect(await bob.ask("GET", path), 403, "not_a_participant")
    expect(await alice.ask("DELETE", f"{path}/members/{alice.id}"), 204)

    assert [message["content"] for message in await history(carol, chat)] == [
        "Carol is now an owner of the group.",
        "Alice left.",
        "Carol removed Bob.",
        "Alice added Carol.",
    ]
    shown = expect(await carol.ask("GET", path), 200)
    assert (shown["my_role"], shown["participants_count"]) == ("owner", 1)
    expect(await carol.ask("DELETE", path), 204)
    expect(await carol.ask("GET", path), 404, "chat_not_found")


@pytest.mark.parametrize("rule", ["all", "joined"])
async def test_what_a_new_member_reads(alice: Person, bob: Person, carol: Person, rule: str) -> None:
    """`history` says what people who join read, in the history and as the last message alike."""
    chat = await group_of(alice, bob, history=rule)
    before = await alice.send(chat, "before")
    expect(await alice.ask("POST", f"/chats/{chat}/members", {"user_id": carol.id}), 201)
    contents = [message["content"] for message in await history(carol, chat)]
    assert contents == ["Alice added Carol.", *(["before"] if rule == "all" else [])]
    expect(await alice.ask("DELETE", f"/messages/{before['id']}"), 204)
    seen = [message["payload"] for message in await history(carol, chat)]
    assert ({"deleted": True} in seen) == (rule == "all")


async def test_last_messages_in_lists(alice: Person, bob: Person, carol: Person) -> None:
    """A list, a page and a single chat show the same last message, as the reader may read it."""
    chat = await group_of(alice, bob)
    sent = await alice.send(chat)
    for path in ("/chats", "/chats?limit=1"):
        body = expect(await bob.ask("GET", path), 200)
        (listed,) = body if isinstance(body, list) else body["chats"]
        assert listed["last_message"] == sent
        assert (listed["sequence"], listed["my_role"]) == (2, "member")
        assert listed == expect(await bob.ask("GET", f"/chats/{chat}"), 200)
    edited = expect(await alice.ask("PATCH", f"/messages/{sent['id']}", {"content": "changed"}), 200)
    assert (sent["revision"], edited["revision"]) == (2, 3)
    (listed,) = expect(await bob.ask("GET", "/chats"), 200)
    assert (listed["last_message"], listed["sequence"]) == (edited, 3)


async def test_a_list_has_room_for_some_last_messages() -> None:
    """Beyond its room the chats of a list show no last message; each shows it by itself."""
    async with serving(Limits(last_messages_characters=1000)) as server, browser(server) as http:
        alice, bob = await register(server, http, "Alice"), await register(server, http, "Bob")
        chats = [await group_of(alice, bob) for _ in range(4)]
        for chat in chats:
            await alice.send(chat, "x" * 200)
        listed = expect(await bob.ask("GET", "/chats"), 200)
        assert [each["last_message"] is None for each in listed] == [False, False, True, True]
        assert expect(await bob.ask("GET", f"/chats/{chats[0]}"), 200)["last_message"] is not None


async def test_a_changed_name_changes_no_message(server: ServerHere, alice: Person, bob: Person) -> None:
    """Sockets, pages and last messages show one sentence, which is not stored; its author is null."""
    chat = await group_of(alice, bob)
    async with alice.socket() as socket:
        expect(await bob.ask("DELETE", f"/chats/{chat}/members/{bob.id}"), 204)
        frame = await socket.frame()
    (message,) = await history(alice, chat)
    assert list(frame["data"]) == MESSAGE_KEYS
    assert frame["data"] == {key: message[key] for key in MESSAGE_KEYS}
    assert (message["type"], message["author_id"], message["content"]) == ("system", None, "Bob left.")
    assert message["payload"] == {"event": "member.left", "actor_id": bob.id, "user_ids": [bob.id]}
    stored = await server.messaging.read(lambda reader: reader.message(message["id"]))
    assert stored is not None
    assert stored.content is None


async def test_pages_of_members(alice: Person, bob: Person, carol: Person) -> None:
    """The pages hold each member once; a direct chat has members, too."""
    chat = await group_of(alice, bob)
    expect(await alice.ask("POST", f"/chats/{chat}/members", {"user_id": carol.id}), 201)
    found: list[tuple[int, str]] = []
    path: str | None = f"/chats/{chat}/members?limit=2"
    while path:
        page = expect(await bob.ask("GET", path), 200)
        found += [(each["user"]["id"], each["role"]) for each in page["members"]]
        cursor = page["next_cursor"]
        path = None if cursor is None else f"/chats/{chat}/members?limit=2&cursor={cursor}"
    assert found == [(alice.id, "owner"), (bob.id, "member"), (carol.id, "member")]
    direct = await alice.direct_chat_with(bob)
    assert len(expect(await bob.ask("GET", f"/chats/{direct}/members"), 200)["members"]) == 2


async def test_replays_show_members_as_they_are_now(alice: Person, bob: Person, carol: Person) -> None:
    """A repeated request adds and changes nothing, and shows the people who are members still."""
    chat = await group_of(alice)
    path, add, role = f"/chats/{chat}/members", new_key(), new_key()
    body = {"user_ids": [bob.id, carol.id]}
    added = expect(await alice.ask("POST", path, body, key=add), 201)
    assert [each["user"]["id"] for each in added["members"]] == body["user_ids"]
    promoted = expect(await alice.ask("PATCH", f"{path}/{bob.id}", {"role": "admin"}, key=role), 200)
    for key, method, where, sent, expected in (
        (add, "POST", path, body, {"members": [promoted, added["members"][1]]}),
        (role, "PATCH", f"{path}/{bob.id}", {"role": "admin"}, promoted),
    ):
        again = await alice.ask(method, where, sent, key=key)
        assert again.headers["Idempotency-Replayed"] == "true"
        assert again.json() == expected
    expect(await bob.ask("DELETE", f"{path}/{bob.id}"), 204)
    assert expect(await alice.ask("POST", path, body, key=add), 201)["members"] == added["members"][1:]
    gone = await alice.ask("PATCH", f"{path}/{bob.id}", {"role": "admin"}, key=role)
    expect(gone, 404, "member_not_found")
    assert gone.headers["Idempotency-Replayed"] == "true"
    assert len(await history(alice, chat)) == 2


async def test_avatars_of_groups(alice: Person) -> None:
    """A group's avatar is on an allowed host, as a person's; null removes it."""
    chat = await group_of(alice)
    url = "https://files.example/trip.png"
    assert expect(await alice.ask("PATCH", f"/chats/{chat}", {"avatar_url": url}), 200)["avatar_url"] == url
    removed = expect(await alice.ask("PATCH", f"/chats/{chat}", {"avatar_url": None}), 200)
    assert removed["avatar_url"] is None
    expect(await alice.ask("PATCH", f"/chats/{chat}", {"title": None}), 422, "validation_failed")
