"""Signatures, password hashes, e-mails: PyJWT, argon2 and email-validator behind the core's ports."""

from adapters.security.emails import load_email_parser, parse_email
from adapters.security.keyring import Keyring, load_or_make_keyring
from adapters.security.passwords import Argon2Hasher
from adapters.security.signing import JwtSigner

__all__ = [
    "Argon2Hasher",
    "JwtSigner",
    "Keyring",
    "load_email_parser",
    "load_or_make_keyring",
    "parse_email",
]
