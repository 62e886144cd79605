"""Cached verdicts on tokens: at any time a cached verdict equals a new verification."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from adapters.runtime.admissions import Admissions
from messaging_core.ids import SessionId, UserId
from messaging_core.models import Actor

NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
SECOND = timedelta(seconds=1)
ALICE = Actor(UserId(1), SessionId(1))
BOB = Actor(UserId(2), SessionId(2))


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
    for _ in range(3):
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
    admissions.end_all()
    assert admissions.endings == 2


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
