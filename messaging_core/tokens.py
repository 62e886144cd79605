"""Sessions and their tokens.

A session counts its refreshes in `generation`. Its two current tokens name the session, the generation and
the session's random `nonce`; no token is stored. A token is valid only for the session with its nonce,
even if an identifier was assigned twice, as by a restored backup of an older version. A refresh token of

- the current generation moves the session to the next generation;
- the previous generation returns the same successor: always within the grace period of 30 seconds (a loading
  page sends several requests, each of which refreshes on its own), and later until the successor is used
  (the response was lost);
- any older generation shows that the token was copied, and ends the session.
"""

from datetime import datetime
from hmac import compare_digest

from attrs import evolve

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

NONCE_BYTES = 16
"""RFC 6749 10.10: 128 bits cannot be guessed, and two sessions never draw the same."""


def open_session(
    user_id: UserId,
    *,
    session_id: SessionId,
    nonce: bytes,
    device: str,
    now: datetime,
    limits: Limits,
) -> Decision[Session]:
    """A new session of generation 1; `device` is cut to its limit.

    `nonce` is 16 bytes from a secure source of randomness. Raises `ValueError` for any other number of bytes.
    """
    if len(nonce) != NONCE_BYTES:
        raise ValueError(f"a session's nonce has {NONCE_BYTES} bytes, not {len(nonce)}")
    session = Session(
        session_id,
        user_id,
        device[: limits.device_characters],
        created_at=now,
        refreshed_at=now,
        expires_at=now + limits.refresh_ttl,
        generation=1,
        confirmed=False,
        ended_at=None,
        nonce=nonce,
    )
    return Decision(session, (StoreSession(session),))


def access_claims(session: Session, *, now: datetime, limits: Limits) -> AccessClaims:
    """The claims of an access token that is issued now for the session."""
    return AccessClaims(
        session.user_id, session.id, session.generation, now, now + limits.access_ttl, session.nonce
    )


def refresh_claims(session: Session) -> RefreshClaims:
    """The claims of the session's current refresh token; they change only with the generation."""
    return RefreshClaims(
        session.user_id,
        session.id,
        session.generation,
        session.refreshed_at,
        session.expires_at,
        session.nonce,
    )


def _is_of(claims: AccessClaims | RefreshClaims, session: Session) -> bool:
    """Whether a token was issued for this session, not for another session with the same identifier."""
    if claims.user_id != session.user_id:
        return False
    if claims.nonce is None or session.nonce is None:
        return claims.nonce is session.nonce
    return compare_digest(claims.nonce, session.nonce)


def admit(claims: AccessClaims, session: Session | None, *, now: datetime, limits: Limits) -> Actor:
    """The actor that an access token with these verified claims authenticates.

    Raises `SessionRevoked` when its session has ended, or is another one with the same identifier, then
    `TokenExpired` when the token or its session has expired.
    """
    if session is None or not _is_of(claims, session) or session.ended_at is not None:
        raise SessionRevoked
    if now >= admitted_until(claims, session, limits=limits):
        raise TokenExpired
    return Actor(claims.user_id, claims.session_id)


def admitted_until(claims: AccessClaims, session: Session, *, limits: Limits) -> datetime:
    """The time until which an access token is admitted, unless its session ends earlier."""
    return min(claims.expires_at, session.expires_at) + limits.clock_leeway


def needs_confirmation(claims: AccessClaims, session: Session) -> bool:
    """Whether this is the first use of a token of the session's current generation."""
    return not session.confirmed and claims.generation == session.generation


def confirm(claims: AccessClaims, session: Session | None) -> Decision[None]:
    """Record the first use of the current generation; a repeated or late call changes nothing."""
    if (
        session is None
        or not _is_of(claims, session)
        or session.ended_at is not None
        or session.generation != claims.generation
        or session.confirmed
    ):
        return Decision(None)
    return Decision(None, (StoreSession(evolve(session, confirmed=True)),))


def rotate(
    claims: RefreshClaims, session: Session | None, *, now: datetime, limits: Limits
) -> Decision[Session | RefreshTokenReused]:
    """The session after a refresh, or the refusal that ended it: a result, because its effects must commit.

    Effects: stores the session; on reuse also closes its sockets. Raises `RefreshTokenInvalid` for an
    unknown or ended session, for another one with the same identifier and for a generation that was never
    issued, `RefreshTokenExpired` when the token has expired.
    """
    if session is None or not _is_of(claims, session) or session.ended_at is not None:
        raise RefreshTokenInvalid
    if now - limits.clock_leeway >= claims.expires_at:  # adding to the last datetime would overflow
        raise RefreshTokenExpired
    if claims.generation > session.generation:
        raise RefreshTokenInvalid
    if claims.generation == session.generation:
        renewed = evolve(
            session,
            generation=session.generation + 1,
            refreshed_at=now,
            expires_at=now + limits.refresh_ttl,
            confirmed=False,
        )
        return Decision(renewed, (StoreSession(renewed),))
    recent = now - session.refreshed_at <= limits.refresh_grace
    if claims.generation == session.generation - 1 and (recent or not session.confirmed):
        return Decision(session)
    ended = end_session(session, reason=SessionRevoked.code, now=now)
    return Decision(RefreshTokenReused(), ended.effects)


def end_session(session: Session | None, *, reason: str, now: datetime) -> Decision[None]:
    """End a session and close its sockets; a session that has ended stays as it is."""
    if session is None or session.ended_at is not None:
        return Decision(None)
    return Decision(
        None,
        (StoreSession(evolve(session, ended_at=now)), CloseSockets(session.id, reason)),
    )


def over(session: Session | None, *, now: datetime, limits: Limits) -> str | None:
    """The code of the reason why a socket of this session must close now; None while it may stay open."""
    if session is None or session.ended_at is not None:
        return SessionRevoked.code
    if now >= session.expires_at + limits.clock_leeway:
        return TokenExpired.code
    return None
