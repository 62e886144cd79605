"""The frontend's checklist, a row a test and by its number, over a real port with real clients."""

import base64
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import jwt
import pytest
import trio
from attrs import define
from click.testing import CliRunner
from openapi_spec_validator import validate
from trio_websocket import ConnectionClosed

from adapters.cli.main import main
from messaging_core.limits import Limits, Rate
from messaging_core.ports import StorageUnavailable
from tests.server.clients import (
    BROKEN_OFF,
    CHAT_KEYS,
    FAULTS_EXPECTED,
    MESSAGE_KEYS,
    ORIGIN,
    PASSWORD,
    USER_KEYS,
    Person,
    Socket,
    browser,
    collect_what_was_broken_off,
    expect,
    log_in,
    new_key,
    open_socket,
    register,
)
from tests.server.servers import PATIENCE, ServerHere, ServerProcess, process, serving

OPTIMISM = 2
"""Seconds after which the known client takes back a message that its own socket has not seen."""


@pytest.fixture(params=[True, False], ids=["quick path", "framework"])
def quick_path(request: pytest.FixtureRequest) -> bool:
    """The contract holds both ways: past the framework and through it."""
    return bool(request.param)


# --- C1: CORS -----------------------------------------------------------------------------------------------

Ask = Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]

ANSWERS: dict[str, tuple[int, Ask]] = {
    "200": (200, lambda http: http.get("/health")),
    "HEAD without a token": (401, lambda http: http.head("/api/v1/chats")),
    "HEAD of what is there": (200, lambda http: http.head("/health")),
    "400 malformed JSON": (400, lambda http: http.post("/api/v1/auth/login", content=b"{")),
    "401 no token": (401, lambda http: http.get("/api/v1/chats")),
    "401 bad token": (401, lambda http: http.get("/api/v1/chats", headers={"Authorization": "Bearer x"})),
    "404 outside the API": (404, lambda http: http.get("/nothing")),
    "404 inside the API": (404, lambda http: http.get("/api/v1/nothing")),
    "404 trailing slash": (404, lambda http: http.get("/api/v1/chats/")),
    "405": (405, lambda http: http.delete("/api/v1/chats")),
    "413": (413, lambda http: http.post("/api/v1/auth/login", content=b" " * 1_048_577)),
    "415": (
        415,
        lambda http: http.post("/api/v1/auth/login", content=b"a=b", headers={"Content-Type": "text/plain"}),
    ),
    "422": (422, lambda http: http.post("/api/v1/auth/login", json={})),
    "a query that is no pair": (401, lambda http: http.get("/api/v1/chats?x")),
    "OPTIONS that is no preflight": (200, lambda http: http.options("/api/v1/chats")),
}


@pytest.fixture
async def stranger(server: ServerHere) -> AsyncIterator[httpx.AsyncClient]:
    """A page of another origin, at the root of the server."""
    async with httpx.AsyncClient(base_url=server.address, headers={"Origin": ORIGIN}, verify=False) as client:  # noqa: S501
        yield client


def shows_cors(response: httpx.Response, origin: str = ORIGIN) -> None:
    """A browser lets the page of this origin read the answer, sent with credentials or without."""
    assert response.headers.get_list("Access-Control-Allow-Origin") == [origin]
    assert response.headers.get_list("Access-Control-Allow-Credentials") == ["true"]
    assert "Origin" in [name.strip() for name in response.headers["Vary"].split(",")]


@BROKEN_OFF
@pytest.mark.parametrize("name", ANSWERS)
async def test_c1_every_status_is_readable_from_another_origin(
    stranger: httpx.AsyncClient, name: str
) -> None:
    """C1: whatever the status, the answer carries Access-Control-Allow-Origin."""
    status, ask = ANSWERS[name]
    response = await ask(stranger)
    collect_what_was_broken_off()
    assert response.status_code == status
    shows_cors(response)


@pytest.mark.parametrize(
    ("failure", "status"), [(RuntimeError("broken"), 500), (StorageUnavailable("full disk"), 503)]
)
async def test_c1_our_own_faults_are_readable_too(
    server: ServerHere, http: httpx.AsyncClient, alice: Person, failure: Exception, status: int
) -> None:
    """C1: a 500 and a 503 carry the header as well, so that the page sees a status and no network error."""

    async def broken(*_: object, **__: object) -> object:
        raise failure

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server.messaging, "read", broken)
        response = await alice.ask("GET", "/chats", extensions=FAULTS_EXPECTED)
        shows_cors(response)
        expect(response, status, "internal_error" if status == 500 else "storage_unavailable")
        assert "broken" not in response.text
    expect(await alice.ask("GET", "/chats"), 200)


async def test_c1_too_many_requests_are_readable_too() -> None:
    """C1: a 429 carries the header, and lets the page read Retry-After."""
    async with (
        serving(Limits(login_rate=Rate(0.001, 1)), rate_limits=True) as server,
        browser(server) as http,
    ):
        body = {"email": "alice@test.com", "password": PASSWORD}
        expect(await http.post("/auth/login", json=body), 401)
        response = await http.post("/auth/login", json=body)
        expect(response, 429, "too_many_requests")
        shows_cors(response)
        assert "Retry-After" in response.headers["Access-Control-Expose-Headers"]


@pytest.mark.parametrize("path", ["/api/v1/chats", "/api/v1/messages/1", "/api/v1/nothing", "/health"])
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "PUT", "DELETE"])
async def test_c1_preflight(stranger: httpx.AsyncClient, path: str, method: str) -> None:
    """C1: a preflight allows the method, and by their names the headers that the known clients send."""
    response = await stranger.options(
        path,
        headers={
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": "authorization,content-type,idempotency-key",
        },
    )
    assert response.status_code == 204
    shows_cors(response)
    allowed = [name.strip().lower() for name in response.headers["Access-Control-Allow-Headers"].split(",")]
    assert {"authorization", "content-type", "idempotency-key"} <= set(allowed)
    assert method in response.headers["Access-Control-Allow-Methods"].split(", ")


@pytest.mark.parametrize("origin", ["null", "https://app.example", "capacitor://localhost"])
async def test_c1_any_origin_is_allowed_by_default(stranger: httpx.AsyncClient, origin: str) -> None:
    """C1: the development default takes every origin, a file's and a phone shell's too."""
    shows_cors(await stranger.get("/api/v1/chats", headers={"Origin": origin}), origin)


async def test_c1_other_origins_are_left_out_where_some_are_chosen() -> None:
    """C1: with chosen origins only those are told that they may read; the rest is answered all the same."""
    async with (
        serving(cors_origins="https://app.example https://other.example") as server,
        httpx.AsyncClient(base_url=server.address, verify=False) as client,  # noqa: S501
    ):
        for origin in ("https://app.example", "https://other.example"):
            shows_cors(await client.get("/health", headers={"Origin": origin}), origin)
        for headers in ({"Origin": "https://evil.example"}, {"Origin": "https://app.example.evil"}, {}):
            response = await client.get("/health", headers=headers)
            assert response.status_code == 200
            assert "Access-Control-Allow-Origin" not in response.headers
            assert response.headers["Vary"] == "Origin"


# --- C2: the socket's token ---------------------------------------------------------------------------------


def forged(token: str, **claims: object) -> str:
    """The token with the same head and other claims, signed with a key that is not the server's."""
    told = jwt.decode(token, options={"verify_signature": False})
    header = jwt.get_unverified_header(token)
    return jwt.encode({**told, **claims}, b"x" * 32, algorithm="HS256", headers=header)


def unsigned(token: str) -> str:
    """The token under the algorithm `none`."""
    head = base64.urlsafe_b64encode(json.dumps({**jwt.get_unverified_header(token), "alg": "none"}).encode())
    return f"{head.decode().rstrip('=')}.{token.split('.')[1]}."


BAD_TOKENS: dict[str, Callable[[Person], str]] = {
    "no query": lambda _: "",
    "another parameter": lambda person: f"?access_token={person.access_token}",
    "no value": lambda _: "?token",
    "empty": lambda _: "?token=",
    "garbage": lambda _: "?token=garbage",
    "three dots": lambda _: "?token=..",
    "undefined": lambda _: "?token=undefined",
    "percent garbage": lambda _: "?token=%ff%fe%zz%00",
    "very long": lambda _: "?token=" + "a" * 8000,
    "wrong signature": lambda person: f"?token={forged(person.access_token)}",
    "somebody else": lambda person: f"?token={forged(person.access_token, sub='2')}",
    "no algorithm": lambda person: f"?token={unsigned(person.access_token)}",
    "cut short": lambda person: f"?token={person.access_token[:-1]}",
    "a refresh token": lambda person: f"?token={person.refresh_token}",
}


async def works(socket: Socket, person: Person, chat: int) -> None:
    """The socket is open and hears of the next message."""
    sent = await person.send(chat, "Do you hear me?")
    assert (await socket.message())["id"] == sent["id"]


async def test_c2_a_valid_token_opens_the_socket(alice: Person, chat: int) -> None:
    """C2: `/ws?token=<access_token>` with a valid token opens the socket."""
    async with alice.socket() as socket:
        await works(socket, alice, chat)


@pytest.mark.parametrize("name", BAD_TOKENS)
async def test_c2_a_bad_token_closes_with_1008(server: ServerHere, alice: Person, name: str) -> None:
    """C2: the handshake succeeds, then the socket is closed with 1008 and a reason that a browser sees."""
    async with open_socket(server, BAD_TOKENS[name](alice)) as socket:
        assert await socket.closed() == (1008, "token_invalid")


async def test_c2_an_expired_token_closes_with_1008(server: ServerHere, alice: Person) -> None:
    """C2: a token whose 15 minutes are over is refused as expired, so that the client refreshes."""
    server.clock.advance(minutes=16)
    async with alice.socket() as socket:
        assert await socket.closed() == (1008, "token_expired")


async def test_c2_a_revoked_token_closes_with_1008(alice: Person) -> None:
    """C2: a token whose session has ended is refused as such, so that the client logs in again."""
    expect(await alice.ask("POST", "/auth/logout"), 204)
    async with alice.socket() as socket:
        assert await socket.closed() == (1008, "session_revoked")


async def test_c2_the_token_may_stand_in_the_authorization_header(
    server: ServerHere, alice: Person, chat: int
) -> None:
    """C2 and part 4: clients that can set headers keep the token out of the address."""
    headers = [(b"Authorization", f"Bearer {alice.access_token}".encode())]
    async with open_socket(server, "", headers=headers) as socket:
        await works(socket, alice, chat)
    for wrong in (b"Bearer garbage", b"Basic dTpw", b"Bearer", b""):
        async with open_socket(server, "", headers=[(b"Authorization", wrong)]) as socket:
            assert await socket.closed() == (1008, "token_invalid")


async def test_c2_the_token_may_stand_among_the_subprotocols(
    server: ServerHere, alice: Person, chat: int
) -> None:
    """C2 and part 4: `new WebSocket(url, ["bearer", token])`; the server answers with `bearer`."""
    async with open_socket(server, "", subprotocols=["bearer", alice.access_token]) as socket:
        assert socket.connection.subprotocol == "bearer"
        await works(socket, alice, chat)
    for wrong in (["bearer", "garbage"], ["bearer"], ["chat"]):
        async with open_socket(server, "", subprotocols=wrong) as socket:
            assert await socket.closed() == (1008, "token_invalid")


async def test_c2_clients_that_speak_at_once_see_the_reason(server: ServerHere) -> None:
    """C2: the close code survives what the client has sent before it learns that it is refused."""
    for _ in range(25):
        async with open_socket(server, "?token=garbage") as socket:
            with suppress(ConnectionClosed):  # it may have learnt already
                await socket.connection.send_message("hello " * 100)
            assert await socket.closed() == (1008, "token_invalid")


async def test_c2_pages_of_other_origins_are_refused_where_some_are_chosen() -> None:
    """C2: browsers do not apply CORS to sockets, so the server checks the Origin itself."""
    async with (
        serving(cors_origins="https://app.example") as server,
        browser(server) as http,
    ):
        http.headers["Origin"] = "https://app.example"
        alice = await register(server, http, "Alice")
        query = f"?token={alice.access_token}"
        for origin, expected in ((b"https://evil.example", (1008, "origin_not_allowed")),):
            async with open_socket(server, query, headers=[(b"Origin", origin)]) as socket:
                assert await socket.closed() == expected
        for headers in ([(b"Origin", b"https://app.example")], []):
            async with open_socket(server, query, headers=headers) as socket:
                await socket.connection.ping()


async def test_c2_a_socket_outlives_its_token(server: ServerHere, alice: Person, chat: int) -> None:
    """Part 4: the socket lives as long as its session, and is not closed when the 15 minutes are over."""
    async with alice.socket() as socket:
        server.clock.advance(hours=1)
        await server.messaging.close_sockets_of_ended_sessions(server.messaging.hub.sessions())
        again = await log_in(server, alice.http, "Alice")
        await works(socket, again, chat)
        server.clock.advance(days=31)
        await server.messaging.close_sockets_of_ended_sessions(server.messaging.hub.sessions())
        assert await socket.closed() == (1008, "token_expired")


async def test_c2_the_server_answers_pings(alice: Person) -> None:
    """RFC 6455 5.5.2: a ping is answered with a pong; trio-websocket waits for it."""
    async with alice.socket() as socket:
        with trio.fail_after(PATIENCE):
            await socket.connection.ping(b"are you there")


# --- C3: who hears a message --------------------------------------------------------------------------------


async def test_c3_every_socket_of_every_participant_hears_it(alice: Person, bob: Person, chat: int) -> None:
    """C3: two tabs of each, the author's own included, within the 2 s of the client's patience."""
    async with alice.socket() as a1, alice.socket() as a2, bob.socket() as b1, bob.socket() as b2:
        for author in (alice, bob):
            sent = await author.send(chat, f"from {author.user['tag']}")
            frames = [await socket.text(within=OPTIMISM) for socket in (a1, a2, b1, b2)]
            assert len(set(frames)) == 1
            assert json.loads(frames[0])["data"]["id"] == sent["id"]


async def test_c3_a_second_login_hears_it_too(
    server: ServerHere, http: httpx.AsyncClient, alice: Person, bob: Person, chat: int
) -> None:
    """C3: two devices of one person have two sessions, and both hear; one that has left is no loss."""
    phone = await log_in(server, http, "Bob")
    async with bob.socket() as laptop, phone.socket() as pocket:
        async with bob.socket():
            pass
        sent = await alice.send(chat)
        assert (await laptop.message(OPTIMISM))["id"] == sent["id"]
        assert (await pocket.message(OPTIMISM))["id"] == sent["id"]


async def test_c3_a_group_hears_it_and_nobody_else(
    server: ServerHere, http: httpx.AsyncClient, alice: Person, bob: Person, chat: int
) -> None:
    """C3: all members of a group hear a message, and who is not in the chat does not."""
    carol = await register(server, http, "Carol")
    body = {"title": "Trip", "member_ids": [bob.id, carol.id]}
    group = expect(await alice.ask("POST", "/chats", body), 201)["id"]
    async with alice.socket() as a, bob.socket() as b, carol.socket() as c:
        private = await alice.send(chat, "for Bob alone")
        shared = await carol.send(group, "for all")
        assert [(await a.message())["id"], (await b.message())["id"]] == [private["id"]] * 2
        for socket in (a, b, c):
            assert (await socket.message())["id"] == shared["id"]


async def test_c3_events_of_a_chat_come_in_their_order(alice: Person, bob: Person, chat: int) -> None:
    """Part 4: on every socket, events of one chat arrive in the order of their commit, that of their ids."""
    async with alice.socket() as a, bob.socket() as b:
        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon((alice, bob)[number % 2].send, chat, str(number))
        heard = [[(await socket.message())["id"] for _ in range(50)] for socket in (a, b)]
        assert heard[0] == heard[1] == sorted(heard[0])


# --- C4: the frame ------------------------------------------------------------------------------------------


async def test_c4_the_frame_has_these_keys_in_this_order_and_no_others(
    alice: Person, bob: Person, chat: int
) -> None:
    """C4: `{"event", "data"}`, and in `data` the seven keys of a message, as the checklist writes them."""
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
    """C4: `message.updated` with the whole message; a deleted one has no content and says so in `payload`."""
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


async def test_c4_nothing_else_ever_arrives(
    server: ServerHere, http: httpx.AsyncClient, alice: Person, bob: Person, chat: int
) -> None:
    """C4: no greeting, and not a word of chats, people, sessions, refusals, replays or what the client says.

    Frames leave in order, so whatever else were sent would stand before the message that ends it all.
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
    """C4: any JSON object passes through `payload` unchanged, any text through `content`."""
    payload = {
        "url": "https://files.example/ж.ogg",
        "тег": [1, -2.5, 1e300, None, True, {"deep": {}}],
        "": 2**63,
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


async def test_c4_rest_tells_the_same(alice: Person, bob: Person, chat: int) -> None:
    """C4: a message on REST begins with the seven keys of the frame, and adds to them."""
    async with bob.socket() as socket:
        sent = await alice.send(chat)
        told = await socket.message()
    (read,) = expect(await bob.ask("GET", f"/messages?chat_id={chat}"), 200)
    for message in (sent, read):
        assert list(message)[:7] == MESSAGE_KEYS
        assert {key: message[key] for key in MESSAGE_KEYS} == told


# --- C5 to C9: the calls ------------------------------------------------------------------------------------


def is_user(user: Any) -> None:
    assert list(user) == USER_KEYS
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", user["created_at"])


def is_chat(chat: Any) -> None:
    assert list(chat) == CHAT_KEYS
    assert chat["participants"]
    for user in chat["participants"]:
        is_user(user)


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


# --- C10, P1, L: the scenario, against the process that people start ----------------------------------------


@define
class Scenario:
    """What the two-user scenario leaves behind."""

    server: ServerProcess
    alice: Person
    bob: Person
    frames: list[list[Any]]
    keys: list[str]


async def play(server: ServerProcess, http: httpx.AsyncClient) -> Scenario:
    """The checklist's scenario, step by step, with its own figures."""
    keys = [new_key() for _ in range(5)]
    alice = await register(server, http, "Alice", key=keys[0])
    bob = await register(server, http, "Bob", key=keys[1])
    assert (alice.id, alice.user["tag"], bob.id, bob.user["tag"]) == (1, "alice", 2, "bob")
    chat = expect(await alice.ask("POST", "/chats/direct", {"user_id": 2}, key=keys[2]), 200)
    assert chat["id"] == 1
    async with alice.socket() as a, bob.socket() as b:
        body = {"chat_id": 1, "type": "text", "content": "Hello Bob!"}
        sent = expect(await alice.ask("POST", "/messages", body, key=keys[3]), 201)
        assert sent["id"] == 1
        frames = [[await a.frame(OPTIMISM), await b.frame(OPTIMISM)]]
        await bob.send(1, "Hello Alice!", key=keys[4])
        frames.append([await a.frame(OPTIMISM), await b.frame(OPTIMISM)])
    return Scenario(server, alice, bob, frames, keys)


async def test_c10_the_scenario(tmp_path: Path) -> None:
    """C10: both sockets receive the same event, which is the checklist's, to the letter."""
    async with process(tmp_path) as server, browser(server) as http:
        played = await play(server, http)
    ((at_alice, at_bob), (reply_at_alice, reply_at_bob)) = played.frames
    assert at_alice == at_bob
    assert at_alice.pop("data").pop("ts")
    assert at_bob == {
        "event": "message.created",
        "data": {
            "id": 1,
            "chat_id": 1,
            "author_id": 1,
            "type": "text",
            "content": "Hello Bob!",
            "payload": None,
            "ts": at_bob["data"]["ts"],
        },
    }
    assert reply_at_alice == reply_at_bob
    assert reply_at_bob["data"]["author_id"] == 2


async def test_c10_register_answers_both_readings(http: httpx.AsyncClient) -> None:
    """C10 and part 2: the pair at the root for one kind of client, under `tokens` for the other."""
    body = {"email": "alice@test.com", "password": PASSWORD, "display_name": "Alice"}
    for path, status in (("register", 201), ("login", 200)):
        response = await http.post(f"/auth/{path}", json=body if path == "register" else {**body} | {})
        if path == "login":
            response = await http.post("/auth/login", json={k: body[k] for k in ("email", "password")})
        answer = expect(response, status)
        is_user(answer["user"])
        pair = {key: answer[key] for key in ("access_token", "refresh_token", "token_type", "expires_in")}
        assert answer["tokens"] == pair
        assert set(answer) == {*pair, "user", "tokens"}
        assert response.headers["Cache-Control"] == "no-store"


async def test_p1_messages_appear_without_a_reload(alice: Person, bob: Person, chat: int) -> None:
    """P1: what the sockets told, in its order, is what a reload reads: nothing more, nothing less."""
    told = []
    async with bob.socket() as socket:
        for number in range(10):
            await (alice, bob)[number % 2].send(chat, str(number))
            told.append(await socket.message(OPTIMISM))
    read = expect(await bob.ask("GET", f"/messages?chat_id={chat}"), 200)
    assert [{key: message[key] for key in MESSAGE_KEYS} for message in reversed(read)] == told


async def test_l_the_log_tells_the_story_and_no_secret(tmp_path: Path) -> None:
    """L: the four lines with their facts; and in the whole log no token, no password, no query string."""
    async with process(tmp_path, "--log-level", "debug") as server, browser(server) as http:
        played = await play(server, http)
        alice = played.alice
        # Everything that might let a secret slip: refusals, faults, a referrer, addresses that nobody serves.
        secrets = [alice.access_token, alice.refresh_token, played.bob.access_token, played.bob.refresh_token]
        referrer = {"Referer": f"http://localhost:5173/?token={alice.access_token}"}
        expect(await alice.ask("GET", "/users/search?tag=secret-tag", headers=referrer), 404)
        expect(await http.get(f"/nothing?token={alice.access_token}", headers=referrer), 404)
        wrong = {"email": "alice@test.com", "password": "wrong-password-1"}
        expect(await http.post("/auth/login", json=wrong), 401)
        expect(await http.post("/auth/login", content=b'{"password": "half-password-1'), 400)
        expect(await http.post("/auth/refresh", json={"refresh_token": "garbage-refresh"}), 401)
        async with open_socket(server, "?token=garbage-token") as socket:
            await socket.closed()
        renewed = expect(await http.post("/auth/refresh", json={"refresh_token": alice.refresh_token}), 200)
        secrets += [renewed["access_token"], renewed["refresh_token"]]
        expect(await alice.ask("POST", "/auth/logout"), 204)
        async with alice.socket() as socket:
            await socket.closed()
    lines = [json.loads(line) for line in server.log.splitlines()]
    events = [line["event"] for line in lines]
    for user_id in (1, 2):
        assert f"WebSocket connected: user_id={user_id}" in events
        assert events.count(f"Sending WebSocket event to user {user_id}: message.created") == 2
    assert "Message created: 1 in chat 1" in events
    assert "Message created: 2 in chat 1" in events
    assert events.count("Broadcasting to 2 participants") == 2
    assert not [line for line in lines if line["level"] in {"warning", "error", "critical"}]
    everything = server.log + server.output
    signatures = [token.rpartition(".")[2] for token in secrets]
    passwords = [PASSWORD, "wrong-password-1", "half-password-1", "garbage-refresh", "garbage-token"]
    for secret in (*secrets, *signatures, *passwords, *played.keys, "secret-tag", "?token", "token="):
        assert secret not in everything.replace("/ws?token=<access_token>", "")


# --- P2: a reload does not log anybody out ------------------------------------------------------------------


@define
class KnownClient:
    """The frontend as it is known to be: two tokens in localStorage, and no thought for its other tabs."""

    http: httpx.AsyncClient
    access_token: str
    refresh_token: str
    logged_out: bool = False

    async def request(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """On 401 it refreshes with the token that it read at first, and repeats once with the same key."""
        refresh_token, key = self.refresh_token, new_key() if method == "POST" else None
        response = await self._send(method, path, body, key)
        if response.status_code != 401:
            return response
        refreshed = await self.http.post("/auth/refresh", json={"refresh_token": refresh_token})
        if refreshed.status_code != 200:
            self.logged_out = True
            return refreshed
        self.access_token = refreshed.json()["access_token"]
        self.refresh_token = refreshed.json()["refresh_token"]
        response = await self._send(method, path, body, key)
        self.logged_out |= response.status_code == 401
        return response

    async def _send(self, method: str, path: str, body: Any, key: str | None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.access_token}"}
        if key is not None:
            headers["Idempotency-Key"] = key
        return await self.http.request(method, path, headers=headers, json=body)

    async def reload(self, requests: list[tuple[str, str, Any]]) -> list[httpx.Response]:
        """Send all of them at once, as a page does while it loads."""
        responses: list[httpx.Response] = []

        async def send(method: str, path: str, body: Any) -> None:
            responses.append(await self.request(method, path, body))

        async with trio.open_nursery() as nursery:
            for request in requests:
                nursery.start_soon(send, *request)
        return responses


def page_load(chat: int, other: int) -> list[tuple[str, str, Any]]:
    return [
        ("GET", "/users/me", None),
        ("GET", "/chats", None),
        ("GET", f"/chats/{chat}", None),
        ("GET", f"/messages?chat_id={chat}", None),
        ("POST", "/chats/direct", {"user_id": other}),
        ("POST", "/messages", {"chat_id": chat, "type": "text", "content": "sent while reloading"}),
    ]


async def test_p2_a_reload_with_an_expired_token(
    server: ServerHere, http: httpx.AsyncClient, alice: Person, bob: Person, chat: int
) -> None:
    """P2: six requests, six refreshes with one token, six repetitions; all succeed, one message is sent."""
    client = KnownClient(http, alice.access_token, alice.refresh_token)
    for reload in range(1, 4):
        server.clock.advance(minutes=16)
        responses = await client.reload(page_load(chat, bob.id))
        assert not client.logged_out
        assert sorted(response.status_code for response in responses) == [200, 200, 200, 200, 200, 201]
        reader = await log_in(server, http, "Bob")
        assert len(expect(await reader.ask("GET", f"/messages?chat_id={chat}"), 200)) == reload


async def test_p2_a_reload_within_a_reload(
    server: ServerHere, http: httpx.AsyncClient, alice: Person, bob: Person, chat: int
) -> None:
    """P2: F5 while the page loads: the answers are lost, the old tokens come again, nobody is logged out."""
    server.clock.advance(minutes=16)
    first = KnownClient(http, alice.access_token, alice.refresh_token)
    await first.reload(page_load(chat, bob.id))
    server.clock.advance(seconds=10)
    second = KnownClient(http, alice.access_token, alice.refresh_token)
    responses = await second.reload(page_load(chat, bob.id))
    assert not second.logged_out
    assert {response.status_code for response in responses} == {200, 201}


async def test_p2_a_week_away(
    server: ServerHere, http: httpx.AsyncClient, alice: Person, bob: Person, chat: int
) -> None:
    """P2: a page that is opened again after a week is still logged in."""
    client = KnownClient(http, alice.access_token, alice.refresh_token)
    for _ in range(3):
        server.clock.advance(days=6, hours=23)
        await client.reload(page_load(chat, bob.id))
        assert not client.logged_out


# --- D: the documentation -----------------------------------------------------------------------------------


async def test_d_the_page_and_all_that_it_loads(server: ServerHere, stranger: httpx.AsyncClient) -> None:
    """D: `/docs` opens, and every file that it names is served by this machine."""
    page = await stranger.get("/docs")
    assert page.status_code == 200
    assert page.headers["Content-Type"].startswith("text/html")
    named = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(named) >= 3
    for name in named:
        asset = await stranger.get(urljoin(str(page.url), name))
        assert asset.status_code == 200, name
        assert asset.content
        kinds = {"css": "text/css", "js": "text/javascript", "png": "image/png"}
        assert asset.headers["Content-Type"].startswith(kinds[name.rpartition(".")[2]])
    script = (await stranger.get("/docs/start.js")).text
    assert '"/openapi.json"' in script
    assert (await stranger.get("/docs/%2e%2e/index.html")).status_code == 404


async def test_d_the_description_is_valid(server: ServerHere, stranger: httpx.AsyncClient) -> None:
    """D: `/openapi.json` is OpenAPI 3.1, every reference in it leads somewhere."""
    response = await stranger.get("/openapi.json")
    assert response.headers["Content-Type"] == "application/json"
    shows_cors(response)
    description = response.json()
    validate(description)
    assert description["openapi"].startswith("3.1")


async def test_d_it_can_be_turned_off() -> None:
    """D: without `docs` neither is served."""
    async with (
        serving(docs=False) as server,
        httpx.AsyncClient(base_url=server.address, verify=False) as client,  # noqa: S501
    ):
        for path in ("/docs", "/openapi.json", "/docs/start.js"):
            assert (await client.get(path)).status_code == 404
