"""Concurrent requests with the same effect have it once, and all get the same response."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import httpx
import pytest
import trio

from tests.server.clients import PASSWORD, Person, expect, log_in, new_key, register
from tests.server.servers import ServerHere, serving

T = TypeVar("T")

MANY = 32


@pytest.fixture(params=["memory:", "sqlite:///messaging.db", "postgresql:"])
async def server(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ServerHere]:
    """A server on each storage; they run operations one by one, in batches, and concurrently."""
    monkeypatch.chdir(tmp_path)
    shared = request.param == "postgresql:"
    database = request.getfixturevalue("postgresql") if shared else request.param
    async with serving(database=database, signing_keys="k1:" + "0f" * 32 if shared else "") as running:
        yield running


async def at_once(count: int, ask: Callable[[int], Awaitable[T]]) -> list[T]:
    """The results of `count` calls that all start before the first one proceeds."""
    results: list[T] = []

    async def run(number: int) -> None:
        results.append(await ask(number))

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(run, number)
    return results


async def refresh(http: httpx.AsyncClient, token: str) -> httpx.Response:
    return await http.post("/auth/refresh", json={"refresh_token": token})


# --- refreshing ---------------------------------------------------------------------------------------------


async def test_refresh_raced_by_eight(http: httpx.AsyncClient, alice: Person) -> None:
    """Part 3: eight concurrent refreshes with one token all succeed, with the same successor."""
    responses = [
        expect(response, 200) for response in await at_once(8, lambda _: refresh(http, alice.refresh_token))
    ]
    assert len({response["refresh_token"] for response in responses}) == 1
    assert responses[0]["refresh_token"] != alice.refresh_token
    for response in responses:
        assert set(response) == {"access_token", "refresh_token", "token_type", "expires_in"}
        headers = {"Authorization": f"Bearer {response['access_token']}"}
        expect(await http.get("/users/me", headers=headers), 200)
    expect(await refresh(http, responses[0]["refresh_token"]), 200)


async def test_an_older_token_ends_the_session(
    server: ServerHere, http: httpx.AsyncClient, alice: Person, bob: Person, chat: int
) -> None:
    """Part 3: a token before the previous one counts as stolen: 401, the session ends, its sockets close."""
    other = await log_in(server, http, "Alice")
    async with alice.socket() as mine, other.socket() as elsewhere:
        second = expect(await refresh(http, alice.refresh_token), 200)
        third = expect(await refresh(http, second["refresh_token"]), 200)
        expect(await refresh(http, alice.refresh_token), 401, "refresh_token_reused")
        assert await mine.closed() == (1008, "session_revoked")
        sent = await other.send(chat)
        assert (await elsewhere.message())["id"] == sent["id"]
    for token in (alice.access_token, second["access_token"], third["access_token"]):
        headers = {"Authorization": f"Bearer {token}"}
        expect(await http.get("/users/me", headers=headers), 401, "session_revoked")
    for token in (alice.refresh_token, second["refresh_token"], third["refresh_token"]):
        expect(await refresh(http, token), 401, "refresh_token_invalid")
    async with alice.socket() as late:
        assert await late.closed() == (1008, "session_revoked")


async def test_the_previous_token_after_a_use_of_its_successor(
    server: ServerHere, http: httpx.AsyncClient, alice: Person
) -> None:
    """Part 3: for 30 s the previous token still gets its successor; after that it counts as reuse."""
    second = expect(await refresh(http, alice.refresh_token), 200)
    headers = {"Authorization": f"Bearer {second['access_token']}"}
    expect(await http.get("/users/me", headers=headers), 200)
    server.clock.advance(seconds=29)
    assert expect(await refresh(http, alice.refresh_token), 200)["refresh_token"] == second["refresh_token"]
    server.clock.advance(seconds=3)
    expect(await refresh(http, alice.refresh_token), 401, "refresh_token_reused")


async def test_a_lost_response_logs_nobody_out(
    server: ServerHere, http: httpx.AsyncClient, alice: Person
) -> None:
    """Part 3: until the successor is used, its predecessor gets it again."""
    lost = expect(await refresh(http, alice.refresh_token), 200)
    server.clock.advance(days=3)
    again = expect(await refresh(http, alice.refresh_token), 200)
    assert again["refresh_token"] == lost["refresh_token"]
    headers = {"Authorization": f"Bearer {again['access_token']}"}
    expect(await http.get("/users/me", headers=headers), 200)


async def test_a_socket_counts_as_use(server: ServerHere, http: httpx.AsyncClient, alice: Person) -> None:
    """Part 3: opening a socket counts as a use of the new pair."""
    second = expect(await refresh(http, alice.refresh_token), 200)
    renewed = Person(server, http, alice.user, second["access_token"], second["refresh_token"])
    async with renewed.socket():
        expect(await renewed.ask("GET", "/users/me"), 200)
    server.clock.advance(seconds=40)
    expect(await refresh(http, alice.refresh_token), 401, "refresh_token_reused")


async def test_a_logout_during_a_refresh(http: httpx.AsyncClient, alice: Person) -> None:
    """In either order, the session has ended afterwards, and none of its tokens is valid."""

    async def ask(number: int) -> httpx.Response:
        if number == 4:
            return await alice.ask("POST", "/auth/logout")
        return await refresh(http, alice.refresh_token)

    responses = await at_once(8, ask)
    assert {response.status_code for response in responses} <= {200, 204, 401}
    for response in responses:
        if response.status_code == 200:
            headers = {"Authorization": f"Bearer {response.json()['access_token']}"}
            expect(await http.get("/users/me", headers=headers), 401, "session_revoked")
            expect(await refresh(http, response.json()["refresh_token"]), 401, "refresh_token_invalid")


# --- chats and messages -------------------------------------------------------------------------------------


async def test_direct_chat_raced_from_both_sides(alice: Person, bob: Person) -> None:
    """C8: 32 concurrent calls from both users, with and without keys, create one chat, and all return it."""

    async def ask(number: int) -> httpx.Response:
        me, other = ((alice, bob), (bob, alice))[number % 2]
        key = new_key() if number % 4 < 2 else None
        return await me.ask("POST", "/chats/direct", {"user_id": other.id}, key=key)

    responses = [expect(response, 200) for response in await at_once(MANY, ask)]
    assert all(response == responses[0] for response in responses)
    assert len(expect(await alice.ask("GET", "/chats"), 200)) == 1
    assert len(expect(await bob.ask("GET", "/chats"), 200)) == 1


async def test_message_key_raced(alice: Person, bob: Person, chat: int) -> None:
    """Part 5: 32 concurrent sends with one key: one message, one event on each socket, 31 equal replays."""
    body = {"chat_id": chat, "type": "text", "content": "once"}
    key = new_key()
    async with alice.socket() as a, bob.socket() as b:
        responses = await at_once(MANY, lambda _: alice.ask("POST", "/messages", body, key=key))
        bodies = [expect(response, 201) for response in responses]
        assert all(response.content == responses[0].content for response in responses)
        replays = [response for response in responses if "Idempotency-Replayed" in response.headers]
        assert len(replays) == MANY - 1
        assert {response.headers["Idempotency-Replayed"] for response in replays} == {"true"}
        fence = await alice.send(chat, "the end")
        for socket in (a, b):
            assert [(await socket.message())["id"] for _ in range(2)] == [bodies[0]["id"], fence["id"]]
    messages = expect(await bob.ask("GET", f"/messages?chat_id={chat}"), 200)
    assert [message["content"] for message in messages] == ["the end", "once"]


async def test_message_key_raced_with_different_bodies(alice: Person, bob: Person, chat: int) -> None:
    """Part 5: of two contents under one key one is stored; the other is refused because the key is in use."""
    key = new_key()

    async def ask(number: int) -> httpx.Response:
        body = {"chat_id": chat, "type": "text", "content": f"version {number % 2}"}
        return await alice.ask("POST", "/messages", body, key=key)

    responses = await at_once(MANY, ask)
    assert sorted(response.status_code for response in responses) == [201] * (MANY // 2) + [422] * (MANY // 2)
    assert len({response.content for response in responses if response.status_code == 201}) == 1
    assert len(expect(await bob.ask("GET", f"/messages?chat_id={chat}"), 200)) == 1


async def test_edits_raced_with_a_deletion(alice: Person, bob: Person, chat: int) -> None:
    """In any order, a deleted message stays deleted, and the last frame says so."""
    sent = await alice.send(chat)

    async def ask(number: int) -> httpx.Response:
        if number == MANY // 2:
            return await alice.ask("DELETE", f"/messages/{sent['id']}")
        return await alice.ask("PATCH", f"/messages/{sent['id']}", {"content": f"version {number}"})

    async with bob.socket() as socket:
        statuses = [response.status_code for response in await at_once(MANY, ask)]
        assert set(statuses) <= {200, 204, 409}
        frames = [await socket.frame() for _ in range(statuses.count(200) + 1)]
    assert frames[-1]["data"]["payload"] == {"deleted": True}
    assert all(frame["data"]["payload"] is None for frame in frames[:-1])
    (read,) = expect(await bob.ask("GET", f"/messages?chat_id={chat}"), 200)
    assert (read["content"], read["payload"]) == (None, {"deleted": True})


# --- registering --------------------------------------------------------------------------------------------


async def test_register_raced_with_one_key(http: httpx.AsyncClient) -> None:
    """Part 5: concurrent registrations with one key create one account; each gets a 201 with a valid pair."""
    body = {"email": "alice@test.com", "password": PASSWORD, "display_name": "Alice"}
    headers = {"Idempotency-Key": new_key()}
    responses = await at_once(8, lambda _: http.post("/auth/register", json=body, headers=headers))
    bodies = [expect(response, 201) for response in responses]
    assert {created["user"]["id"] for created in bodies} == {bodies[0]["user"]["id"]}
    assert [response.headers.get("Idempotency-Replayed") for response in responses].count("true") == 7
    for created in bodies:
        authorization = {"Authorization": f"Bearer {created['access_token']}"}
        assert expect(await http.get("/users/me", headers=authorization), 200) == bodies[0]["user"]


async def test_register_raced_with_one_email(http: httpx.AsyncClient) -> None:
    """Part 2: one registration gets the account; the others, in any case of letters, a 409 for the field."""

    async def ask(number: int) -> httpx.Response:
        email = "Alice@Test.com" if number % 2 else "alice@test.com"
        body = {"email": email, "password": PASSWORD, "display_name": f"Alice {number}"}
        return await http.post("/auth/register", json=body, headers={"Idempotency-Key": new_key()})

    responses = await at_once(8, ask)
    assert sorted(response.status_code for response in responses) == [201] + [409] * 7
    for response in responses:
        if response.status_code == 409:
            body = expect(response, 409, "email_taken")
            assert [error["field"] for error in body["errors"]] == ["email"]


async def test_tags_raced_by_people_of_one_name(server: ServerHere, http: httpx.AsyncClient) -> None:
    """C10: each of several users who register as Alice gets a tag of their own."""
    emails = [f"alice{number}@test.com" for number in range(12)]

    async def ask(number: int) -> httpx.Response:
        body = {"email": emails[number], "password": PASSWORD, "display_name": "Alice"}
        return await http.post("/auth/register", json=body)

    users = [expect(response, 201)["user"] for response in await at_once(len(emails), ask)]
    assert len({user["tag"] for user in users}) == len(emails)
    assert "alice" in {user["tag"] for user in users}
    reader = await register(server, http, "Reader")
    for user in users:
        assert expect(await reader.ask("GET", f"/users/search?tag=@{user['tag']}"), 200) == user
