"""Idempotency-Key: carry out one intended request once, replay its response, refuse another command.

Only the response to a granted request is stored, in the transaction of its effects; a refusal leaves the key
free. The stored response names the resource that it shows and copies nothing, so a deleted text is gone from
replays too.
"""

import hashlib
import re
from datetime import datetime
from typing import assert_never

from attrs import frozen

from messaging_core.effects import Decision, StoreResponse
from messaging_core.errors import IdempotencyKeyInvalid, IdempotencyKeyReused
from messaging_core.limits import Limits
from messaging_core.models import (
    ChatView,
    IdempotencyKey,
    MemberPage,
    MemberView,
    Message,
    NewlyRead,
    Resource,
    ResourceKind,
    StoredResponse,
    User,
    UserView,
)

KEY_MAX_CHARACTERS = 255
_KEY = re.compile("[!-~]+")


def parse_key(header: str) -> str:
    """The key in an Idempotency-Key header, bare or in double quotes (RFC 8941 string).

    Raises `IdempotencyKeyInvalid` unless it is 1 to 255 visible ASCII characters.
    """
    key = header.strip(" \t")
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if len(key) > KEY_MAX_CHARACTERS or not _KEY.fullmatch(key):
        raise IdempotencyKeyInvalid
    return key


def fingerprint(encoded: bytes) -> bytes:
    """16 bytes that distinguish one command's encoding from another; never pass it a password."""
    return hashlib.blake2b(encoded, digest_size=16).digest()


@frozen
class IdempotentRequest:
    """A request with an Idempotency-Key, to be carried out once however often it is sent."""

    key: IdempotencyKey
    fingerprint: bytes
    """Of the command."""
    body: bytes | None = None
    """As sent: responses that were stored up to schema 0003 have the fingerprint of the body."""


Shown = Message | ChatView | UserView | User | MemberView | MemberPage | NewlyRead | None
"""What the response to a request with a key can show."""


def replayed(
    stored: StoredResponse | None, request: IdempotentRequest, *, now: datetime, limits: Limits
) -> StoredResponse | None:
    """The response to replay, or None to carry out the request.

    Raises `IdempotencyKeyReused` for another command under the same key.
    """
    if stored is None or now >= stored.created_at + limits.idempotency_ttl:
        return None
    if stored.fingerprint != request.fingerprint and (
        request.body is None or stored.fingerprint != fingerprint(request.body)
    ):
        raise IdempotencyKeyReused
    return stored


def store(
    request: IdempotentRequest, *, status: int, resource: Resource | None, now: datetime
) -> Decision[StoredResponse]:
    """The response to store; it replaces an expired one under the same key."""
    response = StoredResponse(request.key, request.fingerprint, status, resource, now)
    return Decision(response, (StoreResponse(response),))


def resource_of(shown: Shown) -> Resource | None:
    """The identifier of the resource that a response shows."""
    match shown:
        case None | NewlyRead():
            return None  # what was read is not read anew by a replay
        case Message():
            return Resource(ResourceKind.MESSAGE, shown.id)
        case ChatView():
            return Resource(ResourceKind.CHAT, shown.id)
        case User() | UserView():
            return Resource(ResourceKind.USER, shown.id)
        case MemberView():
            return Resource(ResourceKind.MEMBER, shown.user.id)
        case MemberPage():
            return Resource(ResourceKind.MEMBER, shown.members[0].user.id)
        case _:
            assert_never(shown)
