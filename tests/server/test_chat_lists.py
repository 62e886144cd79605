"""Lists of chats over HTTP: arrays and pages, the shown participants, and the number of chats of a user."""

from typing import Any

import pytest

from messaging_core.limits import Limits, Rate
from tests.server.clients import Person, browser, expect, is_chat, new_key, register
from tests.server.servers import serving

FEW = Limits(chats_listed=3, chats_page=2, chats_page_max=4, participants_shown=11, participants_listed=10)


async def make_group(owner: Person, title: str, *others: Person) -> Any:
    body = {"title": title, "member_ids": [other.id for other in others]}
    return expect(await owner.ask("POST", "/chats", body, key=new_key()), 201)


def people_of(chat: Any) -> list[int]:
    is_chat(chat)
    return [user["id"] for user in chat["participants"]]


async def test_arrays_and_pages() -> None:
    """Without a limit, an array has the first chats; pages together have all, without repetition."""
    async with serving(FEW) as server, browser(server) as http:
        alice, bob = await register(server, http, "Alice"), await register(server, http, "Bob")
        ids = [(await make_group(alice, f"Group {n}", bob))["id"] for n in range(5)]
        whole = expect(await bob.ask("GET", "/chats"), 200)
        assert [chat["id"] for chat in whole] == ids[:1:-1]
        assert [people_of(chat) for chat in whole] == [[alice.id, bob.id]] * 3
        first = expect(await bob.ask("GET", "/chats?limit=2"), 200)
        assert list(first) == ["chats", "next_cursor"]
        assert first["chats"] == whole[:2]
        await alice.send(ids[0])  # moves this chat from below to the top
        second = expect(await bob.ask("GET", f"/chats?cursor={first['next_cursor']}"), 200)
        assert [chat["id"] for chat in second["chats"]] == [ids[2], ids[1]]
        assert second["next_cursor"] is None
        front = expect(await bob.ask("GET", "/chats?limit=1"), 200)
        assert [chat["id"] for chat in front["chats"]] == [ids[0]]
        every = expect(await bob.ask("GET", "/chats?limit=4"), 200)
        rest = expect(await bob.ask("GET", f"/chats?limit=4&cursor={every['next_cursor']}"), 200)
        assert [chat["id"] for page in (every, rest) for chat in page["chats"]] == [ids[0], *ids[:0:-1]]


@pytest.mark.parametrize(
    ("query", "field"),
    [("limit=0", "limit"), ("limit=5", "limit"), ("limit=x", "limit"), ("cursor=", "cursor")]
    + [(f"cursor={text}", "cursor") for text in ("x", "MS4yLjM%3D", "1.2.3", "%00", "%ff", "_" * 5000)],
)
async def test_an_invalid_page(query: str, field: str) -> None:
    """A limit over the bound or an invalid cursor is a 422 with the field's name."""
    async with serving(FEW) as server, browser(server) as http:
        alice = await register(server, http, "Alice")
        body = expect(await alice.ask("GET", f"/chats?{query}"), 422, "validation_failed")
        assert [error["field"] for error in body["errors"]] == [field]


async def test_shown_participants_of_many() -> None:
    """A list shows 10 of 12 participants: the reader, the owner, the first to join; a chat alone shows 11."""
    async with serving(FEW) as server, browser(server) as http:
        people = [await register(server, http, f"P{number}") for number in range(12)]
        owner, *others = people
        created = await make_group(owner, "Many", *others)
        last = people[-1]
        assert people_of(created) == [person.id for person in people[:11]]
        [listed] = expect(await last.ask("GET", "/chats"), 200)
        assert people_of(listed) == [last.id, *(person.id for person in people[:9])]
        page = expect(await last.ask("GET", "/chats?limit=1"), 200)
        assert page["chats"] == [listed]
        single = expect(await last.ask("GET", f"/chats/{created['id']}"), 200)
        assert people_of(single) == [last.id, *(person.id for person in people[:10])]
        assert {chat["participants_count"] for chat in (created, listed, single)} == {12}


async def test_a_long_list_is_one_response() -> None:
    """A list that is read and rendered in parts is one array, or one page."""
    async with serving() as server, browser(server) as http:
        people = [await register(server, http, f"P{number}") for number in range(101)]
        ids = [(await make_group(people[0], f"Group {n}", *people[1:]))["id"] for n in range(12)]
        whole = expect(await people[-1].ask("GET", "/chats"), 200)
        assert [chat["id"] for chat in whole] == ids[::-1]
        assert {len(people_of(chat)) for chat in whole} == {100}
        page = expect(await people[-1].ask("GET", "/chats?limit=200"), 200)
        assert page == {"chats": whole, "next_cursor": None}


async def test_a_user_creates_a_bounded_number_of_chats() -> None:
    """Beyond the bound a new chat is a 409; existing direct chats open, and others can still create chats.

    No response or refusal shows others the number, and nobody can use up another user's.
    """
    async with serving(Limits(chats_per_user=2)) as server, browser(server) as http:
        alice, bob, carol = [await register(server, http, name) for name in ("Alice", "Bob", "Carol")]
        for number in range(2):
            await make_group(bob, f"Strangers {number}", alice)
        direct = await alice.direct_chat_with(bob)
        await make_group(alice, "Mine", bob)
        before = server.state()
        for path, body in (
            ("/chats", {"title": "One more", "member_ids": [bob.id]}),
            ("/chats/direct", {"user_id": carol.id}),
        ):
            refused = expect(await alice.ask("POST", path, body, key=new_key()), 409, "too_many_chats")
            assert "You have created 2 chats" in refused["detail"]
        assert server.state() == before
        assert await alice.direct_chat_with(bob) == direct
        opened = await carol.direct_chat_with(alice)
        added = await make_group(carol, "Come in", alice, bob)
        assert people_of(added) == [carol.id, alice.id, bob.id]
        await alice.send(opened)
        shown = expect(await alice.ask("GET", "/chats"), 200)
        assert {chat["id"] for chat in shown} >= {opened, added["id"], direct}


async def test_only_created_groups_use_their_permits() -> None:
    """A refused group and a replay return the permit of the hour's groups."""
    limits = Limits(group_rate=Rate(0.001, 2))
    async with serving(limits, rate_limits=True) as server, browser(server) as http:
        alice, bob = await register(server, http, "Alice"), await register(server, http, "Bob")
        body = {"title": "Once", "is_group": True, "member_ids": [bob.id]}
        for number in range(4):
            created = await alice.ask("POST", "/chats", body, key="once")
            expect(created, 201)
            assert ("Idempotency-Replayed" in created.headers) == (number > 0)
            unknown = await alice.ask("POST", "/chats", {**body, "member_ids": [999_999]})
            expect(unknown, 422, "validation_failed")
        expect(await alice.ask("POST", "/chats", body), 201)
        expect(await alice.ask("POST", "/chats", body), 429, "too_many_requests")


async def test_groups_are_limited_per_hour() -> None:
    """A user may create 20 groups at once, then one every three minutes; direct chats do not count."""
    async with serving(rate_limits=True) as server, browser(server) as http:
        alice, bob = await register(server, http, "Alice"), await register(server, http, "Bob")
        for number in range(20):
            await make_group(alice, f"Group {number}", bob)
        response = await alice.ask("POST", "/chats", {"title": "One more", "member_ids": [bob.id]})
        expect(response, 429, "too_many_requests")
        assert 170 <= int(response.headers["Retry-After"]) <= 180
        await alice.direct_chat_with(bob)
        await make_group(bob, "Bob's", alice)
