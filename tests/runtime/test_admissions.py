"""Cached verdicts on tokens: at any time a cached verdict equals a new verification."""

from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import trio
from attrs import evolve
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from adapters.runtime.admissions import Admissions
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

NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
SECOND = timedelta(seconds=1)
ALICE = Actor(UserId(1), SessionId(1))
BOB = Actor(UserId(2), SessionId(2))
SESSION = SessionId(1)
"""The id of a server's first session."""


def test_a_verdict_is_cached_until_the_token_expires() -> None:
    """At its expiry the verdict is dropped."""
    admissions = Admissions()
    admissions.keep("a", ALICE, until=NOW, endings=0)
    assert admissions.actor("a", now=NOW - SECOND) == ALICE
    assert admissions.actor("b", now=NOW - SECOND) is None
    assert admissions.actor("a", now=NOW) is None
    assert admissions.actor("a", now=NOW - SECOND) is None


def test_an_ended_session_drops_all_of_its_tokens() -> None:
    """Verdicts on tokens of other sessions, also of the same user, stay."""
    admissions = Admissions()
    elsewhere = Actor(ALICE.user_id, SessionId(3))
    for token, actor in (("a", ALICE), ("b", BOB), ("c", ALICE), ("d", elsewhere)):
        admissions.keep(token, actor, until=NOW, endings=0)
    admissions.end(ALICE.session_id)
    actors = [admissions.actor(token, now=NOW - SECOND) for token in "abcd"]
    assert actors == [None, BOB, None, elsewhere]


@pytest.mark.parametrize(
    "end",
    [lambda admissions: admissions.end(ALICE.session_id), lambda admissions: admissions.end_all()],
    ids=["a session ends", "signals were missed"],
)
def test_a_verdict_from_before_an_ending_is_not_cached(end: Callable[[Admissions], None]) -> None:
    """A verification that began before a session ended, or before signals were missed, is not cached."""
    admissions = Admissions()
    endings = admissions.endings
    end(admissions)
    admissions.keep("a", ALICE, until=NOW, endings=endings)
    assert admissions.actor("a", now=NOW - SECOND) is None
    admissions.keep("b", BOB, until=NOW, endings=admissions.endings)
    assert admissions.actor("b", now=NOW - SECOND) == BOB


def test_an_ending_without_cached_tokens_counts_too() -> None:
    """`endings` grows although no token of the session is cached, because one may be under verification."""
    admissions = Admissions()
    admissions.end(SessionId(9))
    assert admissions.endings == 1


def test_the_number_is_bounded() -> None:
    """The oldest verdict makes room; the session's others stay, and end with the session."""
    admissions = Admissions(cached_tokens=3)
    for token in "abcde":
        admissions.keep(token, ALICE, until=NOW, endings=0)
    cached = [token for token in "abcde" if admissions.actor(token, now=NOW - SECOND)]
    assert cached == ["c", "d", "e"]
    admissions.end(ALICE.session_id)
    assert not any(admissions.actor(token, now=NOW - SECOND) for token in "abcde")


SESSIONS = st.integers(1, 3).map(SessionId)
WORDS = st.sampled_from([f"{session}{letter}" for session in (1, 2, 3) for letter in "abcd"])


class AdmissionsModel(RuleBasedStateMachine):
    """No token is admitted that a verification would refuse, and the cache is bounded."""

    def __init__(self) -> None:
        super().__init__()
        self.admissions = Admissions(cached_tokens=4)
        self.now = NOW
        self.until: dict[str, datetime] = {}
        self.ended: set[SessionId] = set()

    @staticmethod
    def actor(token: str) -> Actor:
        """The actor of a token, whose first character is the session's id."""
        return Actor(UserId(int(token[0])), SessionId(int(token[0])))

    @rule(token=WORDS, seconds=st.integers(-1, 5), stale=st.booleans())
    def verify(self, token: str, seconds: int, stale: bool) -> None:
        actor = self.actor(token)
        until = self.until.setdefault(token, self.now + seconds * SECOND)  # a token has one expiry
        if actor.session_id in self.ended and not stale:
            return
        endings = self.admissions.endings - (actor.session_id in self.ended)
        self.admissions.keep(token, actor, until=until, endings=endings)

    @rule(session=SESSIONS)
    def end(self, session: SessionId) -> None:
        self.ended.add(session)
        self.admissions.end(session)

    @rule(seconds=st.integers(0, 2))
    def wait(self, seconds: int) -> None:
        self.now += seconds * SECOND

    @rule(token=WORDS)
    def ask(self, token: str) -> None:
        admitted = self.admissions.actor(token, now=self.now)
        if admitted is not None:
            assert admitted == self.actor(token)
            assert admitted.session_id not in self.ended
            assert self.now < self.until[token]

    @invariant()
    def the_cache_is_bounded(self) -> None:
        admitted = self.admissions._admitted
        assert len(admitted) <= 4
        assert {token for words in self.admissions._of_session.values() for token in words} == set(admitted)
        assert all(self.admissions._of_session.values())


TestAdmissionsModel = AdmissionsModel.TestCase
TestAdmissionsModel.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)


# --- over a real server -------------------------------------------------------------------------------------


@pytest.fixture
async def server() -> AsyncIterator[ServerHere]:
    async with serving() as running:
        yield running


@pytest.fixture
async def http(server: ServerHere) -> AsyncIterator[httpx.AsyncClient]:
    async with browser(server) as client:
        yield client


@pytest.fixture
async def alice(server: ServerHere, http: httpx.AsyncClient) -> Person:
    return await register(server, http, "Alice")


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
