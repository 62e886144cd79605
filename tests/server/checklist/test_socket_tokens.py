"""C2: where the socket's token may be, and how an invalid one is refused."""

import base64
import json
from collections.abc import Callable
from contextlib import suppress

import jwt
import pytest
import trio
from trio_websocket import ConnectionClosed

from tests.patience import PATIENCE
from tests.server.clients import Person, Socket, browser, expect, log_in, open_socket, register
from tests.server.servers import ServerHere, serving


def forged(token: str, **claims: object) -> str:
    """The token with its own header and other claims, signed with another key than the server's."""
    original = jwt.decode(token, options={"verify_signature": False})
    header = jwt.get_unverified_header(token)
    return jwt.encode({**original, **claims}, b"x" * 32, algorithm="HS256", headers=header)


def unsigned(token: str) -> str:
    """The token with the algorithm `none`."""
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
    "padded": lambda person: f"?token={person.access_token}%3D",
    "cut short": lambda person: f"?token={person.access_token[:-1]}",
    "a refresh token": lambda person: f"?token={person.refresh_token}",
}


async def works(socket: Socket, person: Person, chat: int) -> None:
    """Check that the socket is open and receives the next message."""
    sent = await person.send(chat, "Do you hear me?")
    assert (await socket.message())["id"] == sent["id"]


async def test_c2_a_valid_token_opens_the_socket(alice: Person, chat: int) -> None:
    """C2: `/ws?token=<access_token>` with a valid token opens the socket."""
    async with alice.socket() as socket:
        await works(socket, alice, chat)


@pytest.mark.parametrize("name", BAD_TOKENS)
async def test_c2_a_bad_token_closes_with_1008(server: ServerHere, alice: Person, name: str) -> None:
    """C2: the handshake succeeds, then the socket closes with 1008 and a reason that a browser sees."""
    async with open_socket(server, BAD_TOKENS[name](alice)) as socket:
        assert await socket.closed() == (1008, "token_invalid")


async def test_c2_an_expired_token_closes_with_1008(server: ServerHere, alice: Person) -> None:
    """C2: a token after its 15 minutes is refused as expired, so that the client refreshes."""
    server.clock.advance(minutes=16)
    async with alice.socket() as socket:
        assert await socket.closed() == (1008, "token_expired")


async def test_c2_a_revoked_token_closes_with_1008(alice: Person) -> None:
    """C2: a token of an ended session is refused as revoked, so that the client logs in again."""
    expect(await alice.ask("POST", "/auth/logout"), 204)
    async with alice.socket() as socket:
        assert await socket.closed() == (1008, "session_revoked")


async def test_c2_the_token_may_be_in_the_authorization_header(
    server: ServerHere, alice: Person, chat: int
) -> None:
    """C2 and part 4: clients that can set headers keep the token out of the address."""
    headers = [(b"Authorization", f"Bearer {alice.access_token}".encode())]
    async with open_socket(server, "", headers=headers) as socket:
        await works(socket, alice, chat)
    for wrong in (b"Bearer garbage", b"Basic dTpw", b"Bearer", b""):
        async with open_socket(server, "", headers=[(b"Authorization", wrong)]) as socket:
            assert await socket.closed() == (1008, "token_invalid")


async def test_c2_the_token_may_be_among_the_subprotocols(
    server: ServerHere, alice: Person, chat: int
) -> None:
    """C2 and part 4: `new WebSocket(url, ["bearer", token])`; the server accepts `bearer`."""
    async with open_socket(server, "", subprotocols=["bearer", alice.access_token]) as socket:
        assert socket.connection.subprotocol == "bearer"
        await works(socket, alice, chat)
    for wrong in (["bearer", "garbage"], ["bearer"], ["chat"]):
        async with open_socket(server, "", subprotocols=wrong) as socket:
            assert await socket.closed() == (1008, "token_invalid")


async def test_c2_clients_that_send_at_once_see_the_reason(server: ServerHere) -> None:
    """C2: the client receives the close code although it has sent before."""
    for _ in range(25):
        async with open_socket(server, "?token=garbage") as socket:
            with suppress(ConnectionClosed):  # the socket may be closed already
                await socket.connection.send_message("hello " * 100)
            assert await socket.closed() == (1008, "token_invalid")


async def test_c2_pages_of_unlisted_origins_are_refused() -> None:
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


@pytest.mark.parametrize(
    ("profile", "exists"), [("1", True), ("3", False), ("", False), ("01", False), ("chat", False)]
)
async def test_a_socket_of_an_unknown_profile_is_closed(alice: Person, profile: str, exists: bool) -> None:
    """The profiles are 1 and 2; any other closes with 4500, after which a client must not reconnect."""
    async with open_socket(alice.server, f"?token={alice.access_token}&profile={profile}") as socket:
        if exists:
            await socket.connection.ping()
        else:
            assert await socket.closed() == (4500, "profile_unknown")


async def test_c2_a_socket_outlives_its_token(server: ServerHere, alice: Person, chat: int) -> None:
    """Part 4: a socket lives as long as its session, and stays open when its token expires."""
    async with alice.socket() as socket:
        server.clock.advance(hours=1)
        await server.messaging.close_sockets_of_ended_sessions(server.messaging.hub.sessions())
        again = await log_in(server, alice.http, "Alice")
        await works(socket, again, chat)
        server.clock.advance(days=31)
        await server.messaging.close_sockets_of_ended_sessions(server.messaging.hub.sessions())
        assert await socket.closed() == (1008, "token_expired")


async def test_c2_the_server_sends_pongs(alice: Person) -> None:
    """RFC 6455 5.5.2: the server responds to a ping with a pong, for which trio-websocket waits."""
    async with alice.socket() as socket:
        with trio.fail_after(PATIENCE):
            await socket.connection.ping(b"are you there")
