"""Cached verdicts on tokens, over a real server: a log-out, a reuse or an expiry takes effect at once."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import trio
from attrs import evolve

from adapters.security import JwtSigner
from messaging_core import operations
from messaging_core.commands import LogOut
from messaging_core.ids import SessionId, UserId
from messaging_core.limits import Limits
from messaging_core.models import AccessClaims, Actor
from messaging_core.operations import Context, Query
from messaging_core.privacy import Privacy
from tests.patience import PATIENCE
from tests.server.clients import Person, browser, expect, log_in, register
from tests.server.servers import ServerHere, serving

SESSION = SessionId(1)
"""The id of a server's first session."""


@pytest.fixture
def verified() -> Iterator[list[str]]:
    """The access tokens whose signatures are verified, in order."""
    tokens, read = list[str](), JwtSigner.read_access

    def noted(signer: JwtSigner, token: str) -> AccessClaims:
        tokens.append(token)
        return read(signer, token)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JwtSigner, "read_access", noted)
        yield tokens


async def test_a_token_is_verified_once(verified: list[str], alice: Person) -> None:
    """A valid token is verified once, an invalid one each time."""
    for _ in range(3):
        expect(await alice.ask("GET", "/users/me"), 200)
        async with alice.socket():
            pass
    assert verified == [alice.access_token]
    wrong = evolve(alice, access_token=alice.access_token[:-4] + "AAAA")
    for _ in range(2):
        expect(await wrong.ask("GET", "/users/me"), 401, "token_invalid")
    assert verified[1:] == [wrong.access_token] * 2


async def test_after_a_log_out_the_next_request_is_refused(server: ServerHere, alice: Person) -> None:
    """After a log-out, requests and sockets are refused on every connection; another session continues."""
    async with browser(server) as elsewhere:
        there = evolve(alice, http=elsewhere)
        other = await log_in(server, elsewhere, "Alice")
        for _ in range(5):
            for person in (alice, there, other):
                expect(await person.ask("GET", "/users/me"), 200)
        expect(await alice.ask("POST", "/auth/logout"), 204)
        expect(await there.ask("GET", "/users/me"), 401, "session_revoked")
        expect(await alice.ask("GET", "/users/me"), 401, "session_revoked")
        async with there.socket() as socket:
            assert await socket.closed() == (1008, "session_revoked")
        expect(await other.ask("GET", "/users/me"), 200)


async def test_a_reused_refresh_token_drops_cached_verdicts(server: ServerHere, alice: Person) -> None:
    """The reuse of a refresh token ends the session: 401 for each of its access tokens, the newest too."""
    pairs = [alice]
    for _ in range(3):
        body = {"refresh_token": pairs[-1].refresh_token}
        pair = expect(await alice.http.post("/auth/refresh", json=body), 200)
        renewed = evolve(alice, access_token=pair["access_token"], refresh_token=pair["refresh_token"])
        expect(await renewed.ask("GET", "/users/me"), 200)
        pairs.append(renewed)
    server.clock.advance(minutes=1)
    body = {"refresh_token": alice.refresh_token}
    expect(await alice.http.post("/auth/refresh", json=body), 401, "refresh_token_reused")
    for person in pairs:
        expect(await person.ask("GET", "/users/me"), 401, "session_revoked")


async def test_a_cached_token_expires_at_its_time(server: ServerHere, alice: Person) -> None:
    """A cached token is valid for its lifetime plus the clocks' leeway, as a verified one."""
    limits = server.messaging.limits
    lifetime = (limits.access_ttl + limits.clock_leeway).total_seconds()
    expect(await alice.ask("GET", "/users/me"), 200)
    server.clock.advance(seconds=lifetime - PATIENCE)
    expect(await alice.ask("GET", "/users/me"), 200)
    server.clock.advance(seconds=PATIENCE)
    expect(await alice.ask("GET", "/users/me"), 401, "token_expired")


async def test_no_cached_token_outlives_its_session() -> None:
    """A token that was issued late in its session ends with it."""
    week, seconds = timedelta(days=7), 20
    limits = Limits(access_ttl=week, refresh_ttl=week)
    async with serving(limits) as server, browser(server) as http:
        alice = await register(server, http, "Alice")
        body = {"refresh_token": alice.refresh_token}
        expect(await http.post("/auth/refresh", json=body), 200)
        server.clock.advance(seconds=seconds)
        pair = expect(await http.post("/auth/refresh", json=body), 200)  # late in the session
        late = evolve(alice, access_token=pair["access_token"])
        expect(await late.ask("GET", "/users/me"), 200)
        server.clock.advance(seconds=(week + limits.clock_leeway).total_seconds() - seconds)
        expect(await late.ask("GET", "/users/me"), 401, "token_expired")


async def test_an_old_token_of_a_refreshed_session_is_valid_until_it_expires(
    server: ServerHere, alice: Person
) -> None:
    """The old token, in another tab for example, stays cached, and a use of the new one still confirms it."""
    limits = server.messaging.limits
    expect(await alice.ask("GET", "/users/me"), 200)
    server.clock.advance(minutes=5)
    pair = expect(await alice.http.post("/auth/refresh", json={"refresh_token": alice.refresh_token}), 200)
    renewed = evolve(alice, access_token=pair["access_token"])
    for person in (alice, renewed, alice):
        expect(await person.ask("GET", "/users/me"), 200)
    session = await server.messaging.read(operations.session(SESSION))
    assert session is not None
    assert (session.generation, session.confirmed) == (2, True)
    server.clock.advance(seconds=(limits.access_ttl + limits.clock_leeway).total_seconds() - 300)
    expect(await alice.ask("GET", "/users/me"), 401, "token_expired")
    expect(await renewed.ask("GET", "/users/me"), 200)


async def test_a_session_that_ends_while_its_token_is_verified(
    server: ServerHere, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request whose verification is under way may succeed; later ones are refused."""
    read, may_continue, reading = server.messaging.read, trio.Event(), trio.Event()

    async def slow(query: Query[Any]) -> Any:
        result = await read(query)
        reading.set()
        await may_continue.wait()
        return result

    admitted = list[Actor]()

    async def authenticate() -> None:
        admitted.append(await server.messaging.authenticate(alice.access_token))

    other = await log_in(server, alice.http, "Alice")
    async with trio.open_nursery() as nursery:
        with monkeypatch.context() as patch:
            patch.setattr(server.messaging, "read", slow)
            nursery.start_soon(authenticate)
            await reading.wait()
        first = Context(
            Actor(UserId(alice.id), SESSION), server.messaging.now(), server.messaging.limits, Privacy()
        )
        await server.messaging.execute(operations.log_out(LogOut(), first))
        may_continue.set()
    assert len(admitted) == 1
    expect(await alice.ask("GET", "/users/me"), 401, "session_revoked")
    expect(await other.ask("GET", "/users/me"), 200)
