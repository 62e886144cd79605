"""C5 to C9: the calls for chats, tokens, the caller's user, direct chats and search."""

import httpx
import pytest
from click.testing import CliRunner

from adapters.cli.main import main
from tests.server.clients import PASSWORD, Person, expect, is_chat, is_user, log_in, new_key, register
from tests.server.servers import ServerHere


async def test_c5_chats_hold_their_participants(alice: Person, bob: Person, chat: int) -> None:
    """C5: `GET /chats` is an array, `GET /chats/{id}` one of its entries; participants are full users."""
    expect(await alice.ask("POST", "/chats", {"title": "Trip", "member_ids": [bob.id]}), 201)
    for person in (alice, bob):
        chats = expect(await person.ask("GET", "/chats"), 200)
        assert isinstance(chats, list)
        assert [entry["is_group"] for entry in chats] == [True, False]
        for entry in chats:
            is_chat(entry)
            assert sorted(user["id"] for user in entry["participants"]) == [alice.id, bob.id]
            assert alice.user in entry["participants"]
            assert expect(await person.ask("GET", f"/chats/{entry['id']}"), 200) == entry


async def test_c5_a_new_user_has_no_chats(alice: Person) -> None:
    """C5: for a user without chats, `GET /chats` returns an empty array."""
    assert expect(await alice.ask("GET", "/chats"), 200) == []


async def test_c5_the_latest_activity_comes_first(
    server: ServerHere, http: httpx.AsyncClient, alice: Person, bob: Person, chat: int
) -> None:
    """Part 2: a message moves its chat to the top of the list, also within one second."""
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
def test_c6_shorter_lifetimes_are_refused_at_start(option: str, variable: str, value: str) -> None:
    """C6: below 15 minutes and 7 days the server does not start, and the error names the setting."""
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
    """C6: the access token is valid for its `expires_in`, 900 s, the refresh token for at least 7 days."""
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


async def test_c7_own_user(alice: Person) -> None:
    """C7: `GET /users/me` returns the user with the six keys of the checklist."""
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
    """C7 and RFC 9110 11.1: a valid token never gets 401, however `Bearer` is written."""
    headers = {"Authorization": f"{scheme}  {alice.access_token}"}
    expect(await alice.http.get("/users/me", headers=headers), 200)


async def test_c7_401_is_for_tokens_only(server: ServerHere, http: httpx.AsyncClient, alice: Person) -> None:
    """C7: a missing, malformed, expired or revoked token is a 401, each with its own code."""
    expect(await http.get("/users/me"), 401, "token_missing")
    for malformed in ("garbage", "Bearer", "Basic YTpi", "Bearer garbage", "Bearer a b"):
        expect(await http.get("/users/me", headers={"Authorization": malformed}), 401, "token_invalid")
    phone = await log_in(server, http, "Alice")
    expect(await phone.ask("POST", "/auth/logout"), 204)
    expect(await phone.ask("GET", "/users/me"), 401, "session_revoked")
    server.clock.advance(minutes=16)
    expect(await alice.ask("GET", "/users/me"), 401, "token_expired")


async def test_c8_a_pair_has_one_direct_chat(alice: Person, bob: Person) -> None:
    """C8: the first call creates the chat, later ones from either side return it, each with 200."""
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
    """Part 2: 404 for an unknown user, 400 for the caller."""
    expect(await alice.ask("POST", "/chats/direct", {"user_id": 999}), 404, "user_not_found")
    expect(await alice.ask("POST", "/chats/direct", {"user_id": alice.id}), 400, "direct_chat_with_self")
    assert expect(await alice.ask("GET", "/chats"), 200) == []


@pytest.mark.parametrize("tag", ["alice", "@alice", "%40alice", "ALICE", "@Alice", "%40aLiCe", "%61lice"])
async def test_c9_search_finds_one_person(alice: Person, bob: Person, tag: str) -> None:
    """C9: with or without @, in any case of letters, search returns one user, not a list."""
    assert expect(await bob.ask("GET", f"/users/search?tag={tag}"), 200) == alice.user


@pytest.mark.parametrize(
    "tag", ["alic", "alice2", "lice", "al%25", "%25", "*", "@", "@@alice", "alice@test.com", "@b"]
)
async def test_c9_search_is_exact(alice: Person, tag: str) -> None:
    """C9: search is a 404 unless a user has exactly this tag."""
    expect(await alice.ask("GET", f"/users/search?tag={tag}"), 404, "user_not_found")


async def test_c9_search_needs_a_tag(alice: Person) -> None:
    """C9: search without the parameter is a 422."""
    body = expect(await alice.ask("GET", "/users/search"), 422, "validation_failed")
    assert [error["field"] for error in body["errors"]] == ["tag"]
