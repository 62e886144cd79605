"""Signatures and password hashes: PyJWT and argon2 behind the core's ports."""

from adapters.security.keyring import Keyring, load_or_make_keyring
from adapters.security.passwords import Argon2Hasher
from adapters.security.signing import JwtSigner

__all__ = ["Argon2Hasher", "JwtSigner", "Keyring", "load_or_make_keyring"]
