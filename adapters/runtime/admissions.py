"""A cache of verified access tokens: the process checks a token's signature and session once."""

from datetime import datetime

from messaging_core.ids import SessionId
from messaging_core.models import Actor

CACHED_TOKENS = 50_000
"""About 700 bytes each, including the token; a new token evicts the oldest."""


class Admissions:
    """The actor of each token, until the token expires or its session ends."""

    def __init__(self, cached_tokens: int = CACHED_TOKENS) -> None:
        self._cached_tokens = cached_tokens
        self._admitted: dict[str, tuple[Actor, datetime]] = {}
        self._of_session: dict[SessionId, set[str]] = {}
        self.endings = 0
        """Counts the endings of sessions that this process knows of, and the times when any may have
        ended."""

    def actor(self, token: str, *, now: datetime) -> Actor | None:
        """The token's actor; None where the token must be verified."""
        admitted = self._admitted.get(token)
        if admitted is None:
            return None
        actor, until = admitted
        if now < until:
            return actor
        self._forget(token)
        return None

    def keep(self, token: str, actor: Actor, *, until: datetime, endings: int) -> None:
        """Cache an actor, unless a session has ended since `endings` was read; read it before the session.

        In that case the session that was read may be outdated, and no later signal would correct the cache.
        """
        if endings != self.endings or token in self._admitted:
            return
        if len(self._admitted) >= self._cached_tokens:
            self._forget(next(iter(self._admitted)))
        self._admitted[token] = (actor, until)
        self._of_session.setdefault(actor.session_id, set()).add(token)

    def end(self, session_id: SessionId) -> None:
        """Drop the session's tokens, so that they are verified again, and refused."""
        self.endings += 1
        for token in self._of_session.pop(session_id, ()):
            del self._admitted[token]

    def end_all(self) -> None:
        """Drop all tokens: the signal of a session's end may have been lost."""
        self.endings += 1
        self._admitted.clear()
        self._of_session.clear()

    def _forget(self, token: str) -> None:
        actor, _ = self._admitted.pop(token)
        tokens = self._of_session[actor.session_id]
        tokens.discard(token)
        if not tokens:
            del self._of_session[actor.session_id]
