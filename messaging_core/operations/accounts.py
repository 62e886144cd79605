"""Accounts and sessions."""

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from messaging_core import idempotency, tokens, users
from messaging_core.commands import LogOut
from messaging_core.effects import Decision
from messaging_core.errors import RefreshTokenReused, SessionRevoked
from messaging_core.idempotency import IdempotentRequest
from messaging_core.ids import SessionId, UserId
from messaging_core.limits import Limits
from messaging_core.models import AccessClaims, IdempotencyKey, RefreshClaims, Session, User
from messaging_core.operations.base import Context, Operation, Query
from messaging_core.ports import Reader, Transaction
from messaging_core.users import Registration


def registration_request(registration: Registration, *, path: str, key: str) -> IdempotentRequest:
    """A registration with a key; its fingerprint omits the password, which a replay checks by its hash."""
    command = registration.command
    encoded = json.dumps([command.email, command.display_name, command.avatar_url]).encode()
    return IdempotentRequest(IdempotencyKey(None, "POST", path, key), idempotency.fingerprint(encoded))


def register(
    registration: Registration,
    *,
    password_hash: str,
    device: str,
    nonce: bytes,
    chance: Iterable[int],
    romanise: Callable[[str], str],
    request: IdempotentRequest | None,
    now: datetime,
    limits: Limits,
) -> Operation[tuple[User, Session] | UserId]:
    """A prepared registration and its first session, or the user who registered with the same key before.

    `romanise` spells a name in ASCII letters as far as it can; `chance` yields random numbers for a tag that
    is in use. No token is ever stored.
    """
    numbers = tuple(chance)
    command = registration.command

    def operation(tx: Transaction) -> Decision[tuple[User, Session] | UserId]:
        if request is not None:
            stored = idempotency.replayed(
                tx.lock_stored_response(request.key), request, now=now, limits=limits
            )
            if stored is not None and stored.resource is not None:
                return Decision(UserId(stored.resource.id))
        tags = users.tag_candidates(romanise(command.display_name), numbers)
        registered = users.register(
            command,
            known=_user_by_email(tx, registration.email_keys),
            tag=next(tag for tag in tags if tx.user_by_tag(tag) is None),
            user_id=tx.next_user_id(),
            password_hash=password_hash,
            now=now,
        )
        opened = tokens.open_session(
            registered.result.id,
            session_id=tx.next_session_id(),
            nonce=nonce,
            device=device,
            now=now,
            limits=limits,
        )
        effects = (*registered.effects, *opened.effects)
        if request is not None:
            resource = idempotency.resource_of(registered.result)
            effects += idempotency.store(request, status=201, resource=resource, now=now).effects
        return Decision((registered.result, opened.result), effects)

    return operation


def open_session(
    user_id: UserId, *, device: str, nonce: bytes, now: datetime, limits: Limits
) -> Operation[Session]:
    return lambda tx: tokens.open_session(
        user_id, session_id=tx.next_session_id(), nonce=nonce, device=device, now=now, limits=limits
    )


def rotate(
    claims: RefreshClaims, *, now: datetime, limits: Limits
) -> Operation[Session | RefreshTokenReused]:
    return lambda tx: tokens.rotate(claims, tx.lock_session(claims.session_id), now=now, limits=limits)


def confirm(claims: AccessClaims) -> Operation[None]:
    return lambda tx: tokens.confirm(claims, tx.lock_session(claims.session_id))


def log_out(command: LogOut, context: Context) -> Operation[None]:
    del command
    return lambda tx: tokens.end_session(
        tx.lock_session(context.actor.session_id), reason=SessionRevoked.code, now=context.now
    )


def session(session_id: SessionId) -> Query[Session | None]:
    return lambda reader: reader.session(session_id)


def sessions(session_ids: Sequence[SessionId]) -> Query[dict[SessionId, Session | None]]:
    return lambda reader: {session_id: reader.session(session_id) for session_id in session_ids}


def credentials(email_keys: Sequence[str]) -> Query[tuple[User | None, str | None]]:
    """The user with an e-mail of one of these keys, and the hash of their password."""

    def query(reader: Reader) -> tuple[User | None, str | None]:
        user = _user_by_email(reader, email_keys)
        return user, None if user is None else reader.password_hash(user.id)

    return query


def _user_by_email(reader: Reader, email_keys: Sequence[str]) -> User | None:
    """The user under the first of the keys that has one."""
    return next((user for key in email_keys if (user := reader.user_by_email(key)) is not None), None)


def try_to_write(tx: Transaction) -> Decision[None]:
    """Draw an identifier and discard it, so that the commit changes the storage; it fails without room."""
    tx.next_session_id()
    return Decision(None)


def forget(now: datetime, limits: Limits) -> Operation[int]:
    """Delete expired stored responses, and sessions that ended or expired."""

    def operation(tx: Transaction) -> Decision[int]:
        return Decision(
            tx.forget_before(responses=now - limits.idempotency_ttl, sessions=now - limits.refresh_ttl)
        )

    return operation
