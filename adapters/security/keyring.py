"""The secrets that sign tokens, by the name (`kid`) that each token carries.

The first key signs; all keys verify. To rotate, put a new key in front, and remove the old one once the
last session that it signed for has expired.
"""

import contextlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from attrs import frozen

SECRET_MIN_BYTES = 32
"""RFC 7518 3.2: an HS256 key is at least as long as the hash."""


@frozen(repr=False)
class Keyring:
    """At least one secret by its `kid`; the first signs."""

    secrets: Mapping[str, bytes]

    @property
    def signing_kid(self) -> str:
        return next(iter(self.secrets))


def parse_keyring(text: str, *, source: str) -> Keyring:
    """The keys in a text of `kid:hexadecimal` entries; raises `ValueError` that names `source`."""
    found: dict[str, bytes] = {}
    for entry in text.split():
        kid, colon, digits = entry.partition(":")
        try:
            secret = bytes.fromhex(digits)
        except ValueError:
            secret = b""
        if not kid or not colon or len(secret) < SECRET_MIN_BYTES:
            raise ValueError(
                f"{source}: key number {len(found) + 1} must be NAME:HEX with at least "
                f"{SECRET_MIN_BYTES * 2} hexadecimal digits"
            )
        found[kid] = secret
    if not found:
        raise ValueError(f"{source}: holds no key; write one as NAME:HEX, or remove it to have one created")
    return Keyring(found)


def make_keyring() -> Keyring:
    """A keyring with one random key."""
    return Keyring({secrets.token_hex(4): secrets.token_bytes(SECRET_MIN_BYTES)})


def load_or_make_keyring(path: Path) -> Keyring:
    """The keys in a file; creates the file with one random key if it does not exist.

    Only its owner can read the file (mode 0600). It is complete before it has its name, so two processes that
    start together use the same key. Raises `ValueError` for a malformed file, and `OSError`.
    """
    if not path.exists():
        draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.writelines(f"{kid}:{secret.hex()}\n" for kid, secret in make_keyring().secrets.items())
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(draft, path)
        finally:
            draft.unlink()
    return parse_keyring(path.read_text(), source=str(path))
