"""C5 to C9: the calls for chats, tokens, oneself, the direct chat and search."""

import httpx
import pytest
from click.testing import CliRunner

from adapters.cli.main import main
from tests.server.clients import PASSWORD, Person, expect, is_chat, is_user, log_in, new_key, register
from tests.server.servers import ServerHere


async def test_c5_chats_hold_their_participants(alice: Person, bob: Person, chat: int) -> None:
    """C5: `GET /chats` is a bare array, `GET /chats/{id}` one of its entries; participants are full users."""
    expect(await alice.ask("POST", "/chats", {"title": "Trip", "member_ids": [bob.id]}), 201)
    for person in (alice, bob):
        chats = expect(await person.ask("GET", "/chats"), 200)
        assert isinstance(chats, list)
        assert [found["is_group"] for found in chats] == [True, False]
        for found in chats:
            is_chat(found)
            assert sorted(user["id"] for user in found["participants"]) == [alice.id, bob.id]
            assert alice.user in found["participants"]
            assert expect(await person.ask("GET", f"/chats/{found['id']}"), 200) == found


async def test_c5_somebody_new_has_no_chats(alice: Person) -> None:
    """C5: an empty array, and no error."""
    assert expect(await alice.ask("GET", "/chats"), 200) == []


async def test_c5_the_latest_activity_comes_first(
    server: ServerHere, http: httpx.AsyncClient, alice: Person, bob: Person, chat: int
) -> None:
    """Part 2: a message lifts its chat to the top of the list, also within one second."""
    carol = await register(server, http, "Carol")
    other = await alice.direct_chat_with(carol)
    for latest in (chat, other, chat):
        await alice.send(latest)
        assert expect(await alice.ask("GET", "/chats"), 200)[0]["id"] == latest


@pytest.mark.parametrize(
    ("option", "variable", "value"),
    [
        ("--access-ttl", "MESSAGING_ACCESS_TTL", "14m"),
        ("--access-ttl", "MESSAGING_ACCESS_TTL", "899"),
        ("--refresh-ttl", "MESSAGING_REFRESH_TTL", "6d"),
        ("--refresh-ttl", "MESSAGING_REFRESH_TTL", "0"),
    ],
)
def test_c6_shorter_lives_are_refused_at_start(option: str, variable: str, value: str) -> None:
    """C6: below 15 minutes and 7 days the server does not start, and says which setting is at fault."""
    for result in (
        CliRunner().invoke(main, ["serve", option, value]),
        CliRunner().invoke(main, ["serve"], env={variable: value}),
    ):
        assert result.exit_code == 2
        assert option in result.output
        assert variable in result.output
        assert "Traceback" not in result.output


async def test_c6_tokens_live_for_15_minutes_and_7_days(
    server: ServerHere, http: httpx.AsyncClient, alice: Person
) -> None:
    """C6: `expires_in` is 900; the access token works for so long, the refresh token for 7 days or more."""
    signed_in = expect(
        await http.post("/auth/login", json={"email": "alice@test.com", "password": PASSWORD}), 200
    )
    assert signed_in["expires_in"] == 900
    assert signed_in["token_type"] == "bearer"
    server.clock.advance(seconds=899)
    expect(await alice.ask("GET", "/users/me"), 200)
    server.clock.advance(seconds=30)
    expect(await alice.ask("GET", "/users/me"), 401, "token_expired")
    server.clock.advance(days=7, seconds=-930)
    expect(await http.post("/auth/refresh", json={"refresh_token": alice.refresh_token}), 200)


async def test_c7_who_am_i(alice: Person) -> None:
    """C7: the user with the six keys of the checklist."""
    me = expect(await alice.ask("GET", "/users/me"), 200)
    is_user(me)
    assert me == alice.user
    assert (me["email"], me["display_name"], me["tag"], me["avatar_url"]) == (
        "alice@test.com",
        "Alice",
        "alice",
        None,
    )


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_c7_the_scheme_is_case_insensitive(alice: Person, scheme: str) -> None:
    """C7 and RFC 9110 11.1: a valid token is never answered with 401."""
    headers = {"Authorization": f"{scheme}  {alice.access_token}"}
    expect(await alice.http.get("/users/me", headers=headers), 200)


async def test_c7_401_is_for_tokens_only(server: ServerHere, http: httpx.AsyncClient, alice: Person) -> None:
    """C7: missing, malformed, expired, revoked; each says which by its code."""
    expect(await http.get("/users/me"), 401, "token_missing")
    for malformed in ("garbage", "Bearer", "Basic YTpi", "Bearer garbage", "Bearer a b"):
        expect(await http.get("/users/me", headers={"Authorization": malformed}), 401, "token_invalid")
    phone = await log_in(server, http, "Alice")
    expect(await phone.ask("POST", "/auth/logout"), 204)
    expect(await phone.ask("GET", "/users/me"), 401, "session_revoked")
    server.clock.advance(minutes=16)
    expect(await alice.ask("GET", "/users/me"), 401, "token_expired")


async def test_c8_the_direct_chat_is_one(alice: Person, bob: Person) -> None:
    """C8: made at the first call, found at the next ones, 200 each time, the same from either side."""
    first = expect(await alice.ask("POST", "/chats/direct", {"user_id": bob.id}, key=new_key()), 200)
    is_chat(first)
    assert first["title"] == "Direct Message"
    assert first["is_group"] is False
    assert sorted(user["id"] for user in first["participants"]) == [alice.id, bob.id]
    for person, other in ((alice, bob), (bob, alice)):
        for key in (None, new_key()):
            again = await person.ask("POST", "/chats/direct", {"user_id": other.id}, key=key)
            assert expect(again, 200) == first
    assert expect(await bob.ask("GET", "/chats"), 200) == [first]


async def test_c8_refusals(alice: Person) -> None:
    """Part 2: 404 for somebody who does not exist, 400 for oneself."""
    expect(await alice.ask("POST", "/chats/direct", {"user_id": 999}), 404, "user_not_found")
    expect(await alice.ask("POST", "/chats/direct", {"user_id": alice.id}), 400, "direct_chat_with_self")
    assert expect(await alice.ask("GET", "/chats"), 200) == []


@pytest.mark.parametrize("tag", ["alice", "@alice", "%40alice", "ALICE", "@Alice", "%40aLiCe", "%61lice"])
async def test_c9_search_finds_one_person(alice: Person, bob: Person, tag: str) -> None:
    """C9: with or without @, in any case of letters; one object and no list."""
    assert expect(await bob.ask("GET", f"/users/search?tag={tag}"), 200) == alice.user


@pytest.mark.parametrize(
    "tag", ["alic", "alice2", "lice", "al%25", "%25", "*", "@", "@@alice", "alice@test.com", "@b"]
)
async def test_c9_search_is_exact(alice: Person, tag: str) -> None:
    """C9: 404 where nobody has just this tag."""
    expect(await alice.ask("GET", f"/users/search?tag={tag}"), 404, "user_not_found")


async def test_c9_search_needs_a_tag(alice: Person) -> None:
    """C9: without the parameter it is the request that is wrong."""
    body = expect(await alice.ask("GET", "/users/search"), 422, "validation_failed")
    assert [error["field"] for error in body["errors"]] == ["tag"]
