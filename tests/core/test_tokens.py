"""Sessions and tokens: rotation, the same successor, reuse, expiry."""

from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from messaging_core.effects import CloseSockets, Decision, StoreSession
from messaging_core.errors import (
    RefreshTokenExpired,
    RefreshTokenInvalid,
    RefreshTokenReused,
    SessionRevoked,
    TokenExpired,
)
from messaging_core.ids import SessionId, UserId
from messaging_core.limits import Limits
from messaging_core.models import AccessClaims, Actor, RefreshClaims, Session
from messaging_core.testing import strategies as values
from messaging_core.tokens import (
    NONCE_BYTES,
    access_claims,
    admit,
    admitted_until,
    confirm,
    end_session,
    needs_confirmation,
    open_session,
    over,
    refresh_claims,
    rotate,
)

NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LIMITS = Limits()
ALICE = UserId(7)
NONCE = bytes(range(NONCE_BYTES))


def opened(*, now: datetime = NOW, limits: Limits = LIMITS, nonce: bytes = NONCE) -> Session:
    return open_session(
        ALICE, session_id=SessionId(3), nonce=nonce, device="a phone", now=now, limits=limits
    ).result


def refreshed(session: Session, *, now: datetime) -> Session:
    result = rotate(refresh_claims(session), session, now=now, limits=LIMITS).result
    assert isinstance(result, Session)
    return result


# --- opening, admitting -------------------------------------------------------------------------------------


def test_opening_a_session() -> None:
    """A session starts with generation 1, lives for the refresh token's lifetime, and is stored."""
    decision = open_session(
        ALICE, session_id=SessionId(3), nonce=NONCE, device="d" * 500, now=NOW, limits=LIMITS
    )
    session = Session(
        SessionId(3),
        ALICE,
        "d" * 200,
        NOW,
        NOW,
        NOW + timedelta(days=30),
        1,
        confirmed=False,
        ended_at=None,
        nonce=NONCE,
    )
    assert decision == Decision(session, (StoreSession(session),))


@pytest.mark.parametrize("nonce", [b"", NONCE[:-1], NONCE + b"0"])
def test_a_nonce_has_128_bits(nonce: bytes) -> None:
    """A session with a shorter nonce is refused, because it could be guessed."""
    with pytest.raises(ValueError, match="16 bytes"):
        opened(nonce=nonce)


def test_claims() -> None:
    """The access token lives from now; the refresh token is the same for as long as the generation is."""
    session = opened()
    later = NOW + timedelta(days=1)
    assert access_claims(session, now=later, limits=LIMITS) == AccessClaims(
        ALICE, session.id, 1, later, later + timedelta(minutes=15), NONCE
    )
    assert refresh_claims(session) == RefreshClaims(
        ALICE, session.id, 1, NOW, NOW + timedelta(days=30), NONCE
    )
    assert refresh_claims(evolve(session, confirmed=True)) == refresh_claims(session)


def test_an_access_token_is_valid_until_its_expiry() -> None:
    """A token is valid until its expiry plus the clocks' leeway, and not a second longer."""
    session = opened()
    claims = access_claims(session, now=NOW, limits=LIMITS)
    end = claims.expires_at + LIMITS.clock_leeway
    for now in (NOW - SECOND, NOW, end - SECOND):  # NOW - SECOND: a clock that is ahead has signed it
        assert admit(claims, session, now=now, limits=LIMITS) == Actor(ALICE, session.id)
    with pytest.raises(TokenExpired):
        admit(claims, session, now=end, limits=LIMITS)


def test_an_access_token_of_an_earlier_generation_is_valid() -> None:
    """A refresh in one tab does not end the access token of another."""
    session = opened()
    claims = access_claims(session, now=NOW, limits=LIMITS)
    moved_on = refreshed(refreshed(session, now=NOW + SECOND), now=NOW + 2 * SECOND)
    assert admit(claims, moved_on, now=NOW + 3 * SECOND, limits=LIMITS) == Actor(ALICE, session.id)


def test_an_ended_session_is_refused() -> None:
    """A missing or ended session, or one of another user, is refused, also before its expiry."""
    session = opened()
    claims = access_claims(session, now=NOW, limits=LIMITS)
    others = (None, evolve(session, ended_at=NOW), evolve(session, user_id=UserId(8)))
    for other in others:
        for now in (NOW, NOW + timedelta(days=99)):
            with pytest.raises(SessionRevoked):
                admit(claims, other, now=now, limits=LIMITS)


def test_no_access_token_outlives_its_session() -> None:
    """A token that is issued late in a session's life expires with the session."""
    session = opened()
    late = session.expires_at - SECOND
    claims = access_claims(session, now=late, limits=LIMITS)
    assert admit(claims, session, now=late, limits=LIMITS) == Actor(ALICE, session.id)
    with pytest.raises(TokenExpired):
        admit(claims, session, now=session.expires_at + LIMITS.clock_leeway, limits=LIMITS)


@pytest.mark.parametrize("late", [timedelta(), timedelta(days=30) - SECOND])
def test_until_when_a_token_is_admitted(late: timedelta) -> None:
    """The verdict holds until the expiry of the token or of the session, whichever is first."""
    session = opened()
    claims = access_claims(session, now=NOW + late, limits=LIMITS)
    until = admitted_until(claims, session, limits=LIMITS)
    assert until == min(claims.expires_at, session.expires_at) + LIMITS.clock_leeway
    assert admit(claims, session, now=until - SECOND, limits=LIMITS) == Actor(ALICE, session.id)
    with pytest.raises(TokenExpired):
        admit(claims, session, now=until, limits=LIMITS)


def test_a_refresh_shortens_no_tokens_time() -> None:
    """A refresh does not end an earlier verdict sooner."""
    session = opened()
    for late in (timedelta(), timedelta(days=30) - SECOND):
        now = NOW + late
        claims = access_claims(session, now=now, limits=LIMITS)
        renewed = refreshed(session, now=now)
        assert admitted_until(claims, renewed, limits=LIMITS) >= admitted_until(
            claims, session, limits=LIMITS
        )


def test_why_a_socket_must_close() -> None:
    """A socket closes when its session has ended or expired."""
    session = opened()
    end = session.expires_at + LIMITS.clock_leeway
    assert over(session, now=end - SECOND, limits=LIMITS) is None
    assert over(session, now=end, limits=LIMITS) == "token_expired"
    assert over(evolve(session, ended_at=NOW), now=end, limits=LIMITS) == "session_revoked"
    assert over(None, now=NOW, limits=LIMITS) == "session_revoked"


# --- one identifier, two sessions ---------------------------------------------------------------------------


@given(values.sessions(), st.none() | values.nonces)
def test_a_token_stands_for_no_other_session_of_its_identifier(before: Session, nonce: bytes | None) -> None:
    """A token is refused for another session with the same user and id, as after a restored backup.

    The sessions differ in their nonces. Tokens of a session from before nonces stay valid, for that session
    only.
    """
    before = evolve(before, ended_at=None, confirmed=False)
    now = before.refreshed_at
    access, refresh = access_claims(before, now=now, limits=LIMITS), refresh_claims(before)
    assert admit(access, before, now=now, limits=LIMITS) == Actor(before.user_id, before.id)
    assert confirm(access, before).effects
    assert rotate(refresh, before, now=now, limits=LIMITS).effects
    after = evolve(before, nonce=nonce)
    if nonce == before.nonce:
        return
    with pytest.raises(SessionRevoked):
        admit(access, after, now=now, limits=LIMITS)
    with pytest.raises(RefreshTokenInvalid):
        rotate(refresh, after, now=now, limits=LIMITS)
    assert confirm(access, after) == Decision(None)


def test_a_session_without_a_nonce_keeps_working() -> None:
    """Tokens from before nonces have no such claim and stay valid, so an upgrade logs nobody out."""
    session = evolve(opened(), nonce=None)
    access = access_claims(session, now=NOW, limits=LIMITS)
    renewed = refreshed(session, now=NOW + SECOND)
    assert renewed.nonce is None
    assert refresh_claims(renewed).nonce is None
    assert admit(access, renewed, now=NOW + SECOND, limits=LIMITS) == Actor(ALICE, session.id)
    assert rotate(refresh_claims(session), renewed, now=NOW + SECOND, limits=LIMITS) == Decision(renewed)


def test_another_session_is_not_ended_as_reused() -> None:
    """An old refresh token of a low generation is refused, and does not end the other session with its id."""
    first = opened()
    other = evolve(first, nonce=bytes(NONCE_BYTES), generation=5)
    with pytest.raises(RefreshTokenInvalid):
        rotate(refresh_claims(first), other, now=NOW, limits=LIMITS)


# --- refreshing ---------------------------------------------------------------------------------------------


def test_refreshing_advances_the_generation() -> None:
    """A refresh yields the next generation, which lives from now and is not confirmed."""
    session = evolve(opened(), confirmed=True)
    now = NOW + timedelta(days=29)
    decision = rotate(refresh_claims(session), session, now=now, limits=LIMITS)
    renewed = evolve(
        session, generation=2, refreshed_at=now, expires_at=now + timedelta(days=30), confirmed=False
    )
    assert decision == Decision(renewed, (StoreSession(renewed),))


@pytest.mark.parametrize(
    ("seconds", "confirmed", "same"),
    [
        (0, True, True),
        (30, True, True),
        (31, True, False),
        (31, False, True),
        (86_400, False, True),
        (0, False, True),
    ],
)
def test_the_previous_generation(seconds: int, confirmed: bool, same: bool) -> None:
    """The previous generation gets the same successor within 30 s, or until that is confirmed."""
    first = opened()
    second = evolve(refreshed(first, now=NOW), confirmed=confirmed)
    now = NOW + timedelta(seconds=seconds)
    decision = rotate(refresh_claims(first), second, now=now, limits=LIMITS)
    if same:
        assert decision == Decision(second)
        assert refresh_claims(second) == refresh_claims(refreshed(first, now=NOW))
    else:
        assert isinstance(decision.result, RefreshTokenReused)
        assert decision.effects == (
            StoreSession(evolve(second, ended_at=now)),
            CloseSockets(second.id, "session_revoked"),
        )


def test_an_older_generation_ends_the_session() -> None:
    """A token two generations back is a copy, and ends the session, even a second later."""
    first = opened()
    third = refreshed(refreshed(first, now=NOW), now=NOW)
    decision = rotate(refresh_claims(first), third, now=NOW + SECOND, limits=LIMITS)
    assert isinstance(decision.result, RefreshTokenReused)
    assert decision.effects == (
        StoreSession(evolve(third, ended_at=NOW + SECOND)),
        CloseSockets(third.id, "session_revoked"),
    )


def test_invalid_refresh_tokens() -> None:
    """A missing or ended session, another user's, or an unissued generation is invalid, without a reason."""
    session = opened()
    claims = refresh_claims(session)
    for other_claims, other in (
        (claims, None),
        (claims, evolve(session, ended_at=NOW)),
        (claims, evolve(session, user_id=UserId(8))),
        (evolve(claims, generation=2), session),
    ):
        with pytest.raises(RefreshTokenInvalid):
            rotate(other_claims, other, now=NOW, limits=LIMITS)


def test_a_refresh_token_expires() -> None:
    """A refresh token is valid for its lifetime plus the clocks' leeway; an expired one is no reuse."""
    first = opened()
    end = first.expires_at + LIMITS.clock_leeway
    assert refreshed(first, now=end - SECOND).generation == 2
    with pytest.raises(RefreshTokenExpired):
        rotate(refresh_claims(first), first, now=end, limits=LIMITS)
    later = evolve(refreshed(refreshed(first, now=NOW + SECOND), now=NOW + SECOND), confirmed=True)
    with pytest.raises(RefreshTokenExpired):
        rotate(refresh_claims(first), later, now=end, limits=LIMITS)


def test_a_refresh_token_of_the_last_second() -> None:
    """The latest time that a token can name is judged without an error."""
    first = opened()
    claims = evolve(refresh_claims(first), expires_at=datetime.max.replace(tzinfo=UTC))
    assert rotate(claims, first, now=NOW, limits=LIMITS).effects


# --- confirming, ending -------------------------------------------------------------------------------------


def test_confirming() -> None:
    """The first use of the current generation is recorded once; any other use changes nothing."""
    session = opened()
    claims = access_claims(session, now=NOW, limits=LIMITS)
    seen = evolve(session, confirmed=True)
    assert confirm(claims, session) == Decision(None, (StoreSession(seen),))
    for other, generation in (
        (None, 1),
        (seen, 1),
        (evolve(session, ended_at=NOW), 1),
        (evolve(session, generation=2), 1),
        (session, 2),
    ):
        assert confirm(evolve(claims, generation=generation), other) == Decision(None)


def test_who_needs_confirmation() -> None:
    """Only the first use of the current generation needs a write."""
    session = opened()
    claims = access_claims(session, now=NOW, limits=LIMITS)
    assert needs_confirmation(claims, session)
    assert not needs_confirmation(claims, evolve(session, confirmed=True))
    assert not needs_confirmation(claims, evolve(session, generation=2))


def test_ending() -> None:
    """A session ends once: it is stored, and then its sockets close with the reason."""
    session = opened()
    ended = evolve(session, ended_at=NOW)
    assert end_session(session, reason="session_revoked", now=NOW) == Decision(
        None, (StoreSession(ended), CloseSockets(session.id, "session_revoked"))
    )
    assert end_session(ended, reason="session_revoked", now=NOW + SECOND) == Decision(None)
    assert end_session(None, reason="session_revoked", now=NOW) == Decision(None)


# --- the state machine --------------------------------------------------------------------------------------


class TokenHistory(RuleBasedStateMachine):
    """A session whose tokens are all copied and presented in any order and at any time."""

    @initialize()
    def open(self) -> None:
        self.now = NOW
        self.session = opened()
        self.issued = {1: refresh_claims(self.session)}
        self.seen: set[int] = set()
        """Generations whose access token was used while they were current."""
        self.ended = False

    def perform(self, decision: Decision[object]) -> None:
        for effect in decision.effects:
            if isinstance(effect, StoreSession):
                self.session = effect.session

    @rule(seconds=st.sampled_from([0, 1, 29, 30, 31, 60, 86_400, 29 * 86_400, 30 * 86_400]))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule()
    def use_access_token(self) -> None:
        self.perform(confirm(access_claims(self.session, now=self.now, limits=LIMITS), self.session))
        if not self.ended:
            self.seen.add(self.session.generation)

    @rule(back=st.integers(0, 4))
    def refresh(self, back: int) -> None:
        before = self.session
        current = before.generation
        generation = max(1, current - back)
        claims = self.issued[generation]
        expired = self.now >= claims.expires_at + LIMITS.clock_leeway
        if self.ended or expired:
            with pytest.raises(RefreshTokenInvalid if self.ended else RefreshTokenExpired):
                rotate(claims, before, now=self.now, limits=LIMITS)
            return
        decision = rotate(claims, before, now=self.now, limits=LIMITS)
        self.perform(decision)
        recent = self.now <= before.refreshed_at + timedelta(seconds=30)
        if generation == current:
            assert self.session.generation == current + 1
            self.issued[current + 1] = refresh_claims(self.session)
        elif generation == current - 1 and (recent or current not in self.seen):
            assert self.session == before
            assert isinstance(decision.result, Session)
            assert refresh_claims(decision.result) == self.issued[current]
        else:
            assert isinstance(decision.result, RefreshTokenReused)
            assert self.session.ended_at == self.now
            assert CloseSockets(before.id, "session_revoked") in decision.effects
            self.ended = True

    @precondition(lambda self: not self.ended)
    @rule()
    def log_out(self) -> None:
        self.perform(end_session(self.session, reason="session_revoked", now=self.now))
        self.ended = True

    @invariant()
    def generations_are_the_issued_ones(self) -> None:
        if hasattr(self, "session"):
            assert self.session.generation == max(self.issued)
            assert self.session.confirmed == (self.session.generation in self.seen)
            assert (self.session.ended_at is not None) == self.ended

    @invariant()
    def an_ended_session_admits_nobody(self) -> None:
        if not hasattr(self, "session"):
            return
        claims = access_claims(self.session, now=self.now, limits=LIMITS)
        if self.ended:
            with pytest.raises(SessionRevoked):
                admit(claims, self.session, now=self.now, limits=LIMITS)
        elif self.now < self.session.expires_at + LIMITS.clock_leeway:
            assert admit(claims, self.session, now=self.now, limits=LIMITS).user_id == ALICE


TokenHistory.TestCase.settings = settings(deadline=None, max_examples=100, stateful_step_count=30)
TestAnyHistory = TokenHistory.TestCase
