"""One intended request, carried out once: replay its answer, refuse another body, or go on.

Only the answer to a request that was granted is kept, in the transaction of what it made; a refusal
leaves the key free.
"""

import hashlib
import re
from datetime import datetime

from messaging_core.effects import Decision, StoreAnswer
from messaging_core.errors import IdempotencyKeyInvalid, IdempotencyKeyReused
from messaging_core.limits import Limits
from messaging_core.models import Answer, IdempotencyKey

KEY_MAX_CHARACTERS = 255
_KEY = re.compile("[!-~]+")


def parse_key(header: str) -> str:
    """The key that an Idempotency-Key header holds, bare or in double quotes (RFC 8941 string).

    Raises `IdempotencyKeyInvalid` unless it is 1 to 255 visible ASCII characters.
    """
    key = header.strip(" \t")
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if len(key) > KEY_MAX_CHARACTERS or not _KEY.fullmatch(key):
        raise IdempotencyKeyInvalid
    return key


def fingerprint(body: bytes) -> bytes:
    """16 bytes that tell one body from another; not for a body that holds a password."""
    return hashlib.blake2b(body, digest_size=16).digest()


def replayed(answer: Answer | None, fingerprint: bytes, *, now: datetime, limits: Limits) -> Answer | None:
    """The answer to give again, or None to go on; raises `IdempotencyKeyReused` for another body."""
    if answer is None or now >= answer.created_at + limits.idempotency_ttl:
        return None
    if answer.fingerprint != fingerprint:
        raise IdempotencyKeyReused
    return answer


def keep(
    key: IdempotencyKey, fingerprint: bytes, *, status: int, body: bytes, now: datetime
) -> Decision[Answer]:
    """The answer to keep, which replaces one that has outlived its time."""
    answer = Answer(key, fingerprint, status, body, now)
    return Decision(answer, (StoreAnswer(answer),))
