"""The access tokens that this process has verified: a signature and a session are looked at once."""

from datetime import datetime

from messaging_core.ids import SessionId
from messaging_core.models import Actor

TOKENS_KEPT = 50_000
"""About 700 bytes each, the token itself included; the one kept longest makes room."""


class Admissions:
    """Whom each token speaks for, until its time is over or its session ends."""

    def __init__(self, tokens_kept: int = TOKENS_KEPT) -> None:
        self._tokens_kept = tokens_kept
        self._admitted: dict[str, tuple[Actor, datetime]] = {}
        self._of_session: dict[SessionId, set[str]] = {}
        self.endings = 0
        """How often a session has ended, or any may have, as far as this process has heard."""

    def actor(self, token: str, *, now: datetime) -> Actor | None:
        """Whom it speaks for, or None: it must be verified."""
        admitted = self._admitted.get(token)
        if admitted is None:
            return None
        actor, until = admitted
        if now < until:
            return actor
        self._forget(token)
        return None

    def keep(self, token: str, actor: Actor, *, until: datetime, endings: int) -> None:
        """Keep a verdict, unless a session has ended since `endings` was read, before the session itself was.

        Then what was read of it may be out of date, and no ending would be heard that corrects it.
        """
        if endings != self.endings or token in self._admitted:
            return
        if len(self._admitted) >= self._tokens_kept:
            self._forget(next(iter(self._admitted)))
        self._admitted[token] = (actor, until)
        self._of_session.setdefault(actor.session_id, set()).add(token)

    def end(self, session_id: SessionId) -> None:
        """Its tokens are verified again, and refused."""
        self.endings += 1
        for token in self._of_session.pop(session_id, ()):
            del self._admitted[token]

    def end_all(self) -> None:
        """Every token is verified again: the end of its session may not have been heard of."""
        self.endings += 1
        self._admitted.clear()
        self._of_session.clear()

    def _forget(self, token: str) -> None:
        actor, _ = self._admitted.pop(token)
        tokens = self._of_session[actor.session_id]
        tokens.discard(token)
        if not tokens:
            del self._of_session[actor.session_id]
