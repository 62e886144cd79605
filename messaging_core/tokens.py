"""Sessions and the tokens that stand for them.

A session counts its refreshes in `generation`. Its two current tokens name the session, the generation
and the session's random `nonce`; nothing else of a token is kept. A token stands for no session but the one
that has its nonce: identifiers are given again after a backup is restored. Presenting a refresh token of

- the current generation moves the session on to the next one;
- the one before is answered with the same successor: within the grace of 30 seconds always (a page
  that loads sends several requests, each of which refreshes on its own), later for as long as the
  successor was not seen in use (the answer was lost on its way);
- any older one means that somebody keeps a copy: the session ends.
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
"""RFC 6749 10.10: 128 bits are not guessed. Nor do two sessions ever draw the same."""


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
    """What an access token issued now for the session says."""
    return AccessClaims(
        session.user_id, session.id, session.generation, now, now + limits.access_ttl, session.nonce
    )


def refresh_claims(session: Session) -> RefreshClaims:
    """What the session's current refresh token says; the same for as long as the generation is."""
    return RefreshClaims(
        session.user_id,
        session.id,
        session.generation,
        session.refreshed_at,
        session.expires_at,
        session.nonce,
    )


def _is_of(claims: AccessClaims | RefreshClaims, session: Session) -> bool:
    """Whether a token was issued for this session, and not for another one with its identifier."""
    if claims.user_id != session.user_id:
        return False
    if claims.nonce is None or session.nonce is None:
        return claims.nonce is session.nonce
    return compare_digest(claims.nonce, session.nonce)


def admit(claims: AccessClaims, session: Session | None, *, now: datetime, limits: Limits) -> Actor:
    """Who an access token with these verified claims speaks for.

    Raises `SessionRevoked` when its session has ended, or is another one of the same identifier, then
    `TokenExpired` when its own time, or its session's, is over.
    """
    if session is None or not _is_of(claims, session) or session.ended_at is not None:
        raise SessionRevoked
    if now >= admitted_until(claims, session, limits=limits):
        raise TokenExpired
    return Actor(claims.user_id, claims.session_id)


def admitted_until(claims: AccessClaims, session: Session, *, limits: Limits) -> datetime:
    """When an access token stops being admitted, unless its session ends before that."""
    return min(claims.expires_at, session.expires_at) + limits.clock_leeway


def needs_confirmation(claims: AccessClaims, session: Session) -> bool:
    """Whether this is the first sight of the session's current generation in use."""
    return not session.confirmed and claims.generation == session.generation


def confirm(claims: AccessClaims, session: Session | None) -> Decision[None]:
    """Note that a token was seen in use; repeating it, or coming late, changes nothing."""
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
    """The session after a refresh, or, as a result because it must be committed, the refusal that ended it.

    Effects: the stored session; on reuse also its closed sockets. Raises `RefreshTokenInvalid` for an
    unknown or ended session, for another one of the same identifier and for a generation that was never
    issued, `RefreshTokenExpired` when the token's own time is over.
    """
    if session is None or not _is_of(claims, session) or session.ended_at is not None:
        raise RefreshTokenInvalid
    if now - limits.clock_leeway >= claims.expires_at:  # which may be the last second of all
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
    """End a session and close its sockets; one that has ended already stays as it is."""
    if session is None or session.ended_at is not None:
        return Decision(None)
    return Decision(
        None,
        (StoreSession(evolve(session, ended_at=now)), CloseSockets(session.id, reason)),
    )


def over(session: Session | None, *, now: datetime, limits: Limits) -> str | None:
    """Why a socket of this session must close now: the reason's code, or None while it may stay open."""
    if session is None or session.ended_at is not None:
        return SessionRevoked.code
    if now >= session.expires_at + limits.clock_leeway:
        return TokenExpired.code
    return None
