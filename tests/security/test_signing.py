"""Tokens are accepted only if this server signed them, for their purpose."""

import hmac
import json
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from attrs import evolve
from jwt.utils import base64url_encode

from adapters.security import JwtSigner, Keyring
from adapters.security.signing import TOKEN_MAX_CHARACTERS
from messaging_core.errors import RefreshTokenInvalid, TokenInvalid
from messaging_core.ids import MAX_ID, SessionId, UserId
from messaging_core.models import AccessClaims, RefreshClaims

NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
OLD, NEW = b"o" * 32, b"n" * 32
NONCE = bytes(range(240, 256))
ACCESS = AccessClaims(UserId(7), SessionId(9), 3, NOW, NOW + timedelta(minutes=15), NONCE)
REFRESH = RefreshClaims(UserId(7), SessionId(9), 3, NOW, NOW + timedelta(days=30), NONCE)


@pytest.fixture
def signer() -> JwtSigner:
    return JwtSigner(Keyring({"new": NEW, "old": OLD}))


def forged(
    claims: dict[str, object], key: bytes | str = NEW, algorithm: str = "HS256", kid: str = "new"
) -> str:
    all_claims = {"sub": "7", "sid": 9, "gen": 3, "iat": 1, "exp": 2, "typ": "access", **claims}
    all_claims = {name: value for name, value in all_claims.items() if value is not None}
    return jwt.encode(all_claims, key, algorithm=algorithm, headers={"kid": kid})


def with_header(**header: object) -> str:
    """A token with other header fields and a valid signature."""
    _, payload, _ = forged({}).split(".")
    header_part = base64url_encode(
        json.dumps({"typ": "JWT", "alg": "HS256", "kid": "new", **header}).encode()
    )
    signed = header_part + b"." + payload.encode()
    return (signed + b"." + base64url_encode(hmac.digest(NEW, signed, "sha256"))).decode()


def test_claims_survive_the_round_trip(signer: JwtSigner) -> None:
    """The claims that are read equal those that were signed; the core checks their expiry."""
    assert signer.read_access(signer.sign_access(ACCESS)) == ACCESS
    assert signer.read_refresh(signer.sign_refresh(REFRESH)) == REFRESH


def test_tokens_from_before_there_were_nonces_are_read(signer: JwtSigner) -> None:
    """A token without a nonce has None for it, not an empty one; sessions without a nonce get such tokens."""
    old_access, old_refresh = evolve(ACCESS, nonce=None), evolve(REFRESH, nonce=None)
    assert signer.read_access(forged({})).nonce is None
    assert signer.read_access(signer.sign_access(old_access)) == old_access
    assert signer.read_refresh(signer.sign_refresh(old_refresh)) == old_refresh
    claims_read = jwt.decode(signer.sign_refresh(old_refresh), options={"verify_signature": False})
    assert "nonce" not in claims_read


def test_the_longest_token_is_accepted() -> None:
    """A token with the largest claims, under a key with a long name, is within the length that is decoded."""
    signer = JwtSigner(Keyring({"k" * 256: NEW}))
    claims = RefreshClaims(UserId(MAX_ID), SessionId(MAX_ID), 2**63, NOW, NOW + timedelta(days=9999), NONCE)
    token = signer.sign_refresh(claims)
    assert len(token) < TOKEN_MAX_CHARACTERS
    assert signer.read_refresh(token) == claims


def test_the_same_claims_make_the_same_token(signer: JwtSigner) -> None:
    """The same successor that is signed again has equal bytes."""
    assert signer.sign_refresh(REFRESH) == signer.sign_refresh(REFRESH)


def test_a_token_serves_one_purpose(signer: JwtSigner) -> None:
    """An access token cannot refresh, and a refresh token gives no access."""
    with pytest.raises(TokenInvalid):
        signer.read_access(signer.sign_refresh(REFRESH))
    with pytest.raises(RefreshTokenInvalid):
        signer.read_refresh(signer.sign_access(ACCESS))


def test_keys_rotate_by_kid(signer: JwtSigner) -> None:
    """The first key signs and every key verifies, so a rotation logs nobody out."""
    before = JwtSigner(Keyring({"old": OLD})).sign_access(ACCESS)
    assert signer.read_access(before) == ACCESS
    assert jwt.get_unverified_header(signer.sign_access(ACCESS))["kid"] == "new"
    with pytest.raises(TokenInvalid):
        JwtSigner(Keyring({"new": NEW})).read_access(before)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "a.b.c",
        "ÿ.ÿ.ÿ",
        "." * 2000,
        forged({}, key=b"z" * 32),
        forged({}, kid="unknown"),
        forged({}, kid="old"),
        forged({}, key=NEW * 2, algorithm="HS512"),
        forged({"sub": None}),
        forged({"exp": None}),
        forged({"exp": 10**12}),
        forged({"exp": 10**17}),
        forged({"iat": 2**62}),
        forged({"gen": None}),
        forged({"typ": None}),
        forged({"sub": "seven"}),
        forged({"sid": "9"}),
        forged({"gen": 1.5}),
        forged({"iat": [1]}),
        forged({"sub": "0"}),
        forged({"sub": str(MAX_ID + 1)}),
        forged({"sid": 0}),
        forged({"sid": MAX_ID + 1}),
        forged({"nonce": ""}),
        forged({"nonce": 7}),
        forged({"nonce": "AAAA"}),
        forged({"nonce": "A" * 24}),
        forged({"nonce": "A" * 22}),
        forged({"nonce": "?" * 22 + "=="}),
    ],
)
def test_anything_else_is_refused(signer: JwtSigner, token: str) -> None:
    """Garbage, a foreign key, another algorithm, a missing or impossible claim: each is `TokenInvalid`."""
    with pytest.raises(TokenInvalid):
        signer.read_access(token)
    with pytest.raises(RefreshTokenInvalid):
        signer.read_refresh(token)


def test_every_part_of_a_token_is_signed(signer: JwtSigner) -> None:
    """A token with any changed byte is refused."""
    token = signer.sign_access(ACCESS)
    for place, letter in enumerate(token):
        changed = token[:place] + ("A" if letter != "A" else "B") + token[place + 1 :]
        with pytest.raises(TokenInvalid):
            signer.read_access(changed)


def test_the_fast_path_agrees_with_the_library(signer: JwtSigner) -> None:
    """Only tokens in exactly the form that is signed here take the fast path, with the same payload."""
    for token in (signer.sign_access(ACCESS), signer.sign_refresh(REFRESH), forged({}, OLD, kid="old")):
        assert signer._known_header_payload(token) == signer._payload(token)
    for token in (with_header(more=1), forged({}, key=b"z" * 32), "", ".", "..", "a.b.c", "a" * 1000):
        assert signer._known_header_payload(token) is None


def respelt(token: str, number: int) -> list[str]:
    """The token with one part in other spellings, which lenient decoders accept."""
    parts = token.split(".")
    part = parts[number]
    others = [f"{part}=", f"{part}==", f"{part}====", f"{part}\n", f"{part[:4]} {part[4:]}"]
    if len(part) % 4:  # the last character has unused bits
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        others.append(part[:-1] + letters[letters.index(part[-1]) + 1])
    return [".".join([*parts[:number], other, *parts[number + 1 :]]) for other in others]


def signed_again(token: str) -> str:
    signed = token.rpartition(".")[0].encode()
    return (signed + b"." + base64url_encode(hmac.digest(NEW, signed, "sha256"))).decode()


def test_a_token_has_one_spelling(signer: JwtSigner) -> None:
    """Each part is base64url without padding; other spellings that decode to the same are refused."""
    token = forged({"sid": 10})
    assert signer.read_access(token).session_id == 10
    # Other headers disable the fast path.
    for genuine in (token, with_header(), with_header(more=1), with_header(more=10)):
        signer.read_access(genuine)
        spellings = [other for number in range(3) for other in respelt(genuine, number)]
        spellings += [signed_again(other) for number in range(2) for other in respelt(genuine, number)]
        for other in spellings:
            with pytest.raises(TokenInvalid):
                signer.read_access(other)


@pytest.mark.parametrize("payload", [b"e30=", b"e31", b"e3 0", b"e30.e30", b"e", b"", b"e+/0"])
def test_a_payload_has_one_spelling(signer: JwtSigner, payload: bytes) -> None:
    """A payload in another spelling is refused, also with a valid signature."""
    signed = forged({}).partition(".")[0].encode() + b"." + payload
    token = (signed + b"." + base64url_encode(hmac.digest(NEW, signed, "sha256"))).decode()
    with pytest.raises(TokenInvalid):
        signer.read_access(token)


@pytest.mark.parametrize(
    "header",
    [{"alg": "HS512"}, {"alg": "none"}, {"alg": None}, {"kid": ["new"]}, {"b64": False}, {"crit": ["exp"]}],
)
def test_the_header_must_name_the_algorithm(signer: JwtSigner, header: dict[str, object]) -> None:
    """A valid signature is not enough: another reading of the header would verify another algorithm."""
    assert signer.read_access(with_header()).session_id == 9
    with pytest.raises(TokenInvalid):
        signer.read_access(with_header(**header))


def test_an_unsigned_token_is_refused(signer: JwtSigner) -> None:
    """`alg: none` is refused."""
    with pytest.raises(TokenInvalid):
        signer.read_access(jwt.encode({"sub": "7"}, None, algorithm="none", headers={"kid": "new"}))
