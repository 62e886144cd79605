"""Reading over HTTP, without a network."""

from random import Random
from typing import Any

import pytest

from adapters.storage_memory import MemoryStorage
from messaging_core.ids import SessionId, UserId
from messaging_core.limits import Limits
from messaging_core.models import Actor
from messaging_core.operations import Context, read_marks
from messaging_core.privacy import Privacy
from tests.bus.world import NOW
from tests.runtime.devices import Account, Place, processes, register


async def a_chat(place: Place, *people: Account) -> int:
    body = {"title": "A group", "member_ids": [each.user_id for each in people[1:]]}
    chat_id: int = (await call(place, "POST", "/chats", body, account=people[0]))["id"]
    return chat_id


async def call(place: Place, method: str, path: str, body: object = None, *, account: Account) -> Any:
    status, response = await place.request(method, path, body, account=account)
    assert status in (200, 201), response
    return response


async def test_reading_up_to_a_message_and_all() -> None:
    """The response names what was newly read of others, newest first; nothing, where nothing is newly read.

    The chat then shows the mark to its reader, and to the others how far anybody else has read.
    """
    storage = MemoryStorage()
    async with processes([storage], Random(0)) as (place,):
        alice, bob = await register(place, "alice"), await register(place, "bob")
        chat = await a_chat(place, alice, bob)
        ids = []
        for author in (alice, bob, alice, alice):
            message = {"chat_id": chat, "type": "text", "content": "Hello"}
            ids.append((await call(place, "POST", "/messages", message, account=author))["id"])
        path = f"/chats/{chat}"
        names = ("unread_count", "read_up_to", "others_read_up_to")

        async def marks(account: Account) -> tuple[Any, ...]:
            (listed,) = await call(place, "GET", "/chats", account=account)
            shown = await call(place, "GET", path, account=account)
            assert listed == shown
            return tuple(shown[name] for name in names)

        assert await marks(bob) == (2, ids[1], ids[3])
        for body, newly_read, shown in (
            ({"message_id": ids[0]}, [], (2, ids[1], ids[3])),
            ({"message_id": ids[2]}, [ids[2]], (1, ids[2], ids[3])),
            (None, [ids[3]], (0, ids[3], ids[3])),
            ({}, [], (0, ids[3], ids[3])),
            ({"message_id": ids[3] + 1000}, [], (0, ids[3], ids[3])),
        ):
            assert await call(place, "POST", f"{path}/read", body, account=bob) == {"message_ids": newly_read}
            assert await marks(bob) == shown
        assert await call(place, "GET", f"{path}/reads", account=bob) == [
            {"user_id": alice.user_id, "read_up_to": ids[3]},
            {"user_id": bob.user_id, "read_up_to": ids[3]},
        ]


async def test_a_large_chat_shows_nobody_the_marks_of_others() -> None:
    """With 101 people `/reads` is refused, and what others have read is null; one's own mark is shown."""
    async with processes([MemoryStorage()], Random(0)) as (place,):
        people = [await register(place, f"person{number}") for number in range(101)]
        chat = await a_chat(place, *people)
        message = {"chat_id": chat, "type": "text", "content": "Hello"}
        sent = (await call(place, "POST", "/messages", message, account=people[0]))["id"]
        shown = await call(place, "GET", f"/chats/{chat}", account=people[1])
        assert (shown["unread_count"], shown["read_up_to"], shown["others_read_up_to"]) == (1, None, None)
        await call(place, "POST", f"/chats/{chat}/read", account=people[1])
        shown = await call(place, "GET", f"/chats/{chat}", account=people[1])
        assert (shown["unread_count"], shown["read_up_to"], shown["others_read_up_to"]) == (0, sent, None)
        status, refusal = await place.request("GET", f"/chats/{chat}/reads", account=people[1])
        assert (status, refusal["code"]) == (409, "chat_too_large")


@pytest.mark.parametrize(("shown_members", "sizes"), [(100, [1, 2, 3, 1]), (4, [3, 3, 1])])
async def test_the_marks_of_all_chats_are_read_in_slices(
    monkeypatch: pytest.MonkeyPatch, shown_members: int, sizes: list[int]
) -> None:
    """Each chat is in one of them, whether its people or the chats before it fill a slice.

    Of a chat that is too large to show the marks of others, none is read, so it does not fill a slice.
    """
    monkeypatch.setattr(read_marks, "CHATS_AT_ONCE", 3)
    monkeypatch.setattr(read_marks, "MARKS_AT_ONCE", 4)
    storage = MemoryStorage()
    async with processes([storage], Random(0)) as (place,):
        people = [await register(place, f"person{number}") for number in range(5)]
        chats = [await a_chat(place, *people[:count]) for count in (5, 2, 2, 2, 1, 1, 1)]
        context = Context(
            Actor(UserId(1), SessionId(1)), NOW, Limits(read_marks_members=shown_members), Privacy()
        )
        slices: list[list[int]] = []
        after = None
        while not slices or after is not None:
            some = await storage.read(read_marks.own_chat_marks(after, context))
            slices.append([*some.marks])
            after = some.after
        assert [chat for each in slices for chat in each] == chats
        assert [len(each) for each in slices] == sizes
