"""Ids can be counted up, so looking at users without a shared chat has a stricter limit."""

from collections.abc import AsyncIterator, Sequence

import httpx
import pytest

from adapters.http_api.endpoints import STRANGER_LIMITS, Cost, Per
from adapters.http_api.routes import ENDPOINTS
from messaging_core.ids import MAX_ID
from messaging_core.limits import Limits, Rate
from tests.server.clients import Person, browser, expect, new_key, register
from tests.server.servers import ServerHere, serving

FEW, MANY = 3, 1000
SLOW, FREE = Rate(0.01, FEW), Rate(0.01, MANY)
BY_USER = Limits(stranger_rate=SLOW, stranger_address_rate=FREE)
BY_ADDRESS = Limits(stranger_rate=FREE, stranger_address_rate=SLOW)
NAMES = ("Alice", "Bob", "Carol", "Dave", "Erin", "Frank")


async def town(server: ServerHere, http: httpx.AsyncClient) -> list[Person]:
    """Six users; the second has created a chat with the first."""
    people = [await register(server, http, name) for name in NAMES]
    await people[1].direct_chat_with(people[0])
    return people


@pytest.fixture
async def by_user() -> AsyncIterator[list[Person]]:
    async with serving(BY_USER, rate_limits=True) as server, browser(server) as http:
        yield await town(server, http)


async def statuses(person: Person, ids: Sequence[int], method: str = "GET") -> list[int]:
    return [(await person.ask(method, f"/users/{user_id}")).status_code for user_id in ids]


async def test_only_strangers_are_limited(by_user: list[Person]) -> None:
    """Beyond the burst a stranger is a 429 with Retry-After; users of shared chats are not limited."""
    alice, bob, *strangers = by_user
    known = [alice.id, bob.id] * 5
    assert await statuses(alice, known) == [200] * len(known)
    assert await statuses(alice, [person.id for person in strangers]) == [200] * FEW + [429]
    response = await alice.ask("GET", f"/users/{strangers[0].id}")
    expect(response, 429, "too_many_requests")
    assert 1 <= int(response.headers["Retry-After"]) <= 100
    assert await statuses(alice, [strangers[0].id], "HEAD") == [429]
    assert await statuses(alice, known) == [200] * len(known)
    expect(await alice.ask("GET", "/chats"), 200)


async def test_an_unknown_user_costs_as_much_as_a_stranger(by_user: list[Person]) -> None:
    """An unknown id costs the same permits, and without permits it gets the same refusal."""
    alice, _, carol, *_ = by_user
    nobody = len(by_user) + 1
    assert await statuses(alice, [nobody, carol.id, MAX_ID]) == [404, 200, 404]
    refusals = [await alice.ask("GET", f"/users/{user_id}") for user_id in (nobody, carol.id, MAX_ID)]
    bodies = [{**expect(response, 429), "request_id": "", "detail": ""} for response in refusals]
    assert all(body == bodies[0] for body in bodies)
    assert len({tuple(name.lower() for name in response.headers) for response in refusals}) == 1


async def test_a_direct_chat_with_a_stranger_is_limited(by_user: list[Person]) -> None:
    """Opening a chat shows the user too, so it costs the same permits, unless the chat exists."""
    alice, bob, *strangers = by_user

    async def opened(other: int) -> int:
        response = await alice.ask("POST", "/chats/direct", {"user_id": other}, key=new_key())
        return response.status_code

    assert await statuses(alice, [strangers[0].id]) == [200]
    found = [await opened(user_id) for user_id in (strangers[0].id, MAX_ID, strangers[1].id, MAX_ID)]
    assert found == [200, 404, 429, 429]
    # They share a chat now.
    assert [await opened(user_id) for user_id in (bob.id, strangers[0].id)] == [200, 200]
    assert await statuses(alice, [strangers[0].id, strangers[1].id]) == [200, 429]


@pytest.mark.parametrize(
    ("limits", "shared"),
    [
        (Limits(group_people_rate=SLOW, group_people_address_rate=FREE), False),
        (Limits(group_people_rate=FREE, group_people_address_rate=SLOW), True),
    ],
)
async def test_groups_are_limited_too(limits: Limits, shared: bool) -> None:
    """Members of new groups cost permits, ten users each, whether they exist or not."""
    async with serving(limits, rate_limits=True) as server, browser(server) as http:
        people = [await register(server, http, name) for name in NAMES]
        alice, bob, *_ = people

        async def created(person: Person, member_ids: list[int]) -> int:
            body = {"title": "Walk", "member_ids": member_ids}
            return (await person.ask("POST", "/chats", body, key=new_key())).status_code

        everybody = [person.id for person in people] * 2
        unknown = list(range(MAX_ID - 9, MAX_ID + 1))
        assert [await created(alice, ids) for ids in (everybody, unknown, everybody)] == [201, 422, 429]
        assert await created(bob, everybody) == (429 if shared else 201)


async def test_a_limited_key_stays_free() -> None:
    """Part 5: the 429 is not stored; the same key opens the chat once there is a permit."""
    limits = Limits(stranger_rate=Rate(20, 1))
    async with serving(limits, rate_limits=True) as server, browser(server) as http:
        alice, bob, carol = [await register(server, http, name) for name in NAMES[:3]]
        key = new_key()
        assert await statuses(alice, [carol.id]) == [200]
        while True:
            response = await alice.ask("POST", "/chats/direct", {"user_id": bob.id}, key=key)
            if response.status_code != 429:
                break
        expect(response, 200)
        assert "Idempotency-Replayed" not in response.headers


async def test_new_accounts_gain_no_permits() -> None:
    """The look-ups of one address count together, from whichever accounts."""
    async with serving(BY_ADDRESS, rate_limits=True) as server, browser(server) as http:
        alice, bob, *strangers = await town(server, http)  # the chat of the first two has cost one permit
        ids = [person.id for person in strangers]
        assert await statuses(alice, ids[:2]) == [200] * 2
        assert await statuses(bob, ids[2:]) == [429] * 2
        assert await statuses(alice, [bob.id]) == [200]


async def test_rate_limits_can_be_off() -> None:
    """With `rate_limits` off, for load tests, look-ups are not limited."""
    async with serving(BY_USER) as server, browser(server) as http:
        alice, *others = await town(server, http)
        assert await statuses(alice, [person.id for person in others]) == [200] * len(others)


def test_counting_ids_takes_hours_by_default() -> None:
    """10,000 ids take hours, from one account and from one address with any number of accounts."""
    assert {limit.per for limit in STRANGER_LIMITS} == {Per.USER, Per.ADDRESS}
    for limit in STRANGER_LIMITS:
        rate: Rate = getattr(Limits(), limit.rate)
        assert (10_000 - rate.burst) / rate.per_second > 5 * 3600


def test_endpoints_with_a_user_id_are_limited() -> None:
    """Every endpoint whose request has a user's id costs a permit if that user is a stranger.

    Not so those that show members of one's chats; adding a member costs what naming one in a new group costs.
    """
    naming = {endpoint.name for endpoint in ENDPOINTS if "user_id" in endpoint.command.__annotations__}
    naming -= {endpoint.name for endpoint in ENDPOINTS if "/members" in endpoint.path}
    added = {each.name for each in ENDPOINTS for limit in each.limits if Cost.MEMBERS in limit.costs}
    assert added == {"CreateGroup", "AddMembers"}
    assert naming == {endpoint.name for endpoint in ENDPOINTS if endpoint.stranger_limits}
    assert {"GetUser", "OpenDirectChat"} <= naming


def test_endpoints_with_lists_of_user_ids_are_limited() -> None:
    """A request with a list of users' ids costs permits for each, of the user and of the address."""
    for endpoint in ENDPOINTS:
        fields = [str(field) for field in endpoint.command.__annotations__.values()]
        if any("tuple[messaging_core.ids.UserId" in field for field in fields):
            limits = {limit.rate for limit in endpoint.limits if Cost.MEMBERS in limit.costs}
            assert {"group_people_rate", "group_people_address_rate"} <= limits, endpoint.name
