"""Access and refresh tokens as JSON Web Tokens (RFC 7519), signed with HS256."""

import hmac
from base64 import b64encode
from datetime import UTC, datetime
from typing import Annotated

import jwt
import msgspec
from jwt.algorithms import HMACAlgorithm
from jwt.utils import base64url_decode, base64url_encode

from adapters.security.keyring import Keyring
from messaging_core.errors import RefreshTokenInvalid, TokenInvalid
from messaging_core.ids import MAX_ID, SessionId, UserId
from messaging_core.models import AccessClaims, RefreshClaims
from messaging_core.tokens import NONCE_BYTES

ALGORITHM = "HS256"
TOKEN_MAX_CHARACTERS = 1024
"""Issued tokens have about 250; anything much longer is refused before decoding."""

_tokens = jwt.PyJWS([ALGORITHM])
_hmac = HMACAlgorithm(HMACAlgorithm.SHA256)


class _Claims(msgspec.Struct):
    """The claims of an issued token; the core checks the expiry, since it receives the time as an
    argument.
    """

    sub: str
    sid: int
    gen: int
    iat: int
    exp: int
    typ: str
    nonce: Annotated[bytes, msgspec.Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)] | None = None
    """In base64; tokens of sessions from before there were nonces have none."""


_decode_claims = msgspec.json.Decoder(_Claims).decode

# The last two are raised for times beyond the range of `datetime`.
_MALFORMED = (jwt.InvalidTokenError, ValueError, OverflowError, OSError)


class JwtSigner:
    """Signs with the keyring's first key, and verifies with the one that a token's `kid` names."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._by_header = {
            jwt.encode({}, secret, algorithm=ALGORITHM, headers={"kid": kid}).partition(".")[0]: secret
            for kid, secret in keyring.secrets.items()
        }
        """Each secret by the encoded header of the tokens that it signs: it is the same in all of them."""

    def sign_access(self, claims: AccessClaims) -> str:
        return self._sign(claims, "access")

    def sign_refresh(self, claims: RefreshClaims) -> str:
        return self._sign(claims, "refresh")

    def read_access(self, token: str) -> AccessClaims:
        try:
            return AccessClaims(*self._read(token, "access"))
        except _MALFORMED as error:
            raise TokenInvalid from error

    def read_refresh(self, token: str) -> RefreshClaims:
        try:
            return RefreshClaims(*self._read(token, "refresh"))
        except _MALFORMED as error:
            raise RefreshTokenInvalid from error

    def _sign(self, claims: AccessClaims | RefreshClaims, kind: str) -> str:
        kid = self._keyring.signing_kid
        payload = {
            "sub": str(claims.user_id),  # PyJWT refuses an integer
            "sid": claims.session_id,
            "gen": claims.generation,
            "iat": int(claims.issued_at.timestamp()),
            "exp": int(claims.expires_at.timestamp()),
            "typ": kind,
        }
        if claims.nonce is not None:
            payload["nonce"] = b64encode(claims.nonce).decode("ascii")
        return jwt.encode(payload, self._keyring.secrets[kid], algorithm=ALGORITHM, headers={"kid": kid})

    def _read(self, token: str, kind: str) -> tuple[UserId, SessionId, int, datetime, datetime, bytes | None]:
        if len(token) > TOKEN_MAX_CHARACTERS or not token.isascii():
            raise jwt.InvalidTokenError("too long, or not ASCII")
        payload = self._known_header_payload(token)
        claims = _decode_claims(self._payload(token) if payload is None else payload)
        if claims.typ != kind:
            raise jwt.InvalidTokenError(f"not {kind}")
        user_id = int(claims.sub)
        if not (0 < user_id <= MAX_ID and 0 < claims.sid <= MAX_ID):
            raise jwt.InvalidTokenError("no user, or no session")
        return (
            UserId(user_id),
            SessionId(claims.sid),
            claims.gen,
            datetime.fromtimestamp(claims.iat, UTC),
            datetime.fromtimestamp(claims.exp, UTC),
            claims.nonce,
        )

    def _known_header_payload(self, token: str) -> bytes | None:
        """The payload of a token exactly as this signer would write it; None for any other token.

        It decodes nothing before it has compared the signature.
        """
        signed, _, signature = token.rpartition(".")
        header, _, payload = signed.partition(".")
        secret = self._by_header.get(header)
        if secret is None:
            return None
        expected = base64url_encode(hmac.digest(secret, signed.encode("ascii"), "sha256"))
        if not hmac.compare_digest(expected, signature.encode("ascii")):
            return None
        return base64url_decode(payload) if _is_canonical(payload) else None

    def _payload(self, token: str) -> bytes:
        """The payload of any other token, if one of the keys signed it."""
        # Parsed once: `jwt.decode` would parse it again, and check the key's length each time.
        parts = _tokens.decode_complete(token, options={"verify_signature": False})
        header = parts["header"]
        secret = self._keyring.secrets.get(header.get("kid", ""))
        if secret is None or header.get("alg") != ALGORITHM:
            raise jwt.InvalidTokenError("signed with an unknown key")
        if not all(map(_is_canonical, token.split("."))):
            raise jwt.InvalidTokenError("not in canonical base64url")
        signed = token.rpartition(".")[0].encode("ascii")
        if not _hmac.verify(signed, secret, parts["signature"]):
            raise jwt.InvalidSignatureError("wrong signature")
        return bytes(parts["payload"])


def _is_canonical(part: str) -> bool:
    """Whether it is canonical base64url: no padding, no other character, no unused bit set."""
    return base64url_encode(base64url_decode(part)) == part.encode("ascii")
