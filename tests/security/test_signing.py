"""Tokens: only what we signed, for what it was signed, is believed."""

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
    told = {"sub": "7", "sid": 9, "gen": 3, "iat": 1, "exp": 2, "typ": "access", **claims}
    told = {name: value for name, value in told.items() if value is not None}
    return jwt.encode(told, key, algorithm=algorithm, headers={"kid": kid})


def relabelled(**header: object) -> str:
    """A token of ours with another header, signed as ours are."""
    _, payload, _ = forged({}).split(".")
    told = base64url_encode(json.dumps({"typ": "JWT", "alg": "HS256", "kid": "new", **header}).encode())
    signed = told + b"." + payload.encode()
    return (signed + b"." + base64url_encode(hmac.digest(NEW, signed, "sha256"))).decode()


def test_claims_survive_the_round_trip(signer: JwtSigner) -> None:
    """What was signed is what is read, in time or not: time is the core's to judge."""
    assert signer.read_access(signer.sign_access(ACCESS)) == ACCESS
    assert signer.read_refresh(signer.sign_refresh(REFRESH)) == REFRESH


def test_tokens_from_before_there_were_nonces_are_read(signer: JwtSigner) -> None:
    """They have no such claim, which is not the same as an empty one; nor is one issued to such a session."""
    old_access, old_refresh = evolve(ACCESS, nonce=None), evolve(REFRESH, nonce=None)
    assert signer.read_access(forged({})).nonce is None
    assert signer.read_access(signer.sign_access(old_access)) == old_access
    assert signer.read_refresh(signer.sign_refresh(old_refresh)) == old_refresh
    said = jwt.decode(signer.sign_refresh(old_refresh), options={"verify_signature": False})
    assert "nonce" not in said


def test_the_longest_token_is_short_enough() -> None:
    """Whatever a token of ours says, under a key with a long name, it is within what is decoded at all."""
    signer = JwtSigner(Keyring({"k" * 256: NEW}))
    claims = RefreshClaims(UserId(MAX_ID), SessionId(MAX_ID), 2**63, NOW, NOW + timedelta(days=9999), NONCE)
    token = signer.sign_refresh(claims)
    assert len(token) < TOKEN_MAX_CHARACTERS
    assert signer.read_refresh(token) == claims


def test_the_same_claims_make_the_same_token(signer: JwtSigner) -> None:
    """A successor that is signed again is the same successor, to the byte."""
    assert signer.sign_refresh(REFRESH) == signer.sign_refresh(REFRESH)


def test_a_token_serves_one_purpose(signer: JwtSigner) -> None:
    """An access token refreshes nothing, and a refresh token opens nothing."""
    with pytest.raises(TokenInvalid):
        signer.read_access(signer.sign_refresh(REFRESH))
    with pytest.raises(RefreshTokenInvalid):
        signer.read_refresh(signer.sign_access(ACCESS))


def test_keys_rotate_by_kid(signer: JwtSigner) -> None:
    """The first key signs and every key of the ring verifies, so a rotation logs nobody out."""
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
    """Garbage, a foreign key, another algorithm, a missing or impossible claim: all invalid, none a crash."""
    with pytest.raises(TokenInvalid):
        signer.read_access(token)
    with pytest.raises(RefreshTokenInvalid):
        signer.read_refresh(token)


def test_every_part_of_a_token_is_signed(signer: JwtSigner) -> None:
    """Another byte anywhere in it, and it is refused."""
    token = signer.sign_access(ACCESS)
    for place, letter in enumerate(token):
        changed = token[:place] + ("A" if letter != "A" else "B") + token[place + 1 :]
        with pytest.raises(TokenInvalid):
            signer.read_access(changed)


def test_ours_are_read_at_a_glance_as_any_other_is(signer: JwtSigner) -> None:
    """What is not to the letter as it is signed here is looked at whole, whoever has signed it."""
    for token in (signer.sign_access(ACCESS), signer.sign_refresh(REFRESH), forged({}, OLD, kid="old")):
        assert signer._known_header_payload(token) == signer._payload(token)
    for token in (relabelled(more=1), forged({}, key=b"z" * 32), "", ".", "..", "a.b.c", "a" * 1000):
        assert signer._known_header_payload(token) is None


def respelt(token: str, number: int) -> list[str]:
    """The token with one of its parts written as decoders that are lenient read it, too."""
    parts = token.split(".")
    part = parts[number]
    others = [f"{part}=", f"{part}==", f"{part}====", f"{part}\n", f"{part[:4]} {part[4:]}"]
    if len(part) % 4:  # the last character has bits that say nothing
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        others.append(part[:-1] + letters[letters.index(part[-1]) + 1])
    return [".".join([*parts[:number], other, *parts[number + 1 :]]) for other in others]


def signed_again(token: str) -> str:
    signed = token.rpartition(".")[0].encode()
    return (signed + b"." + base64url_encode(hmac.digest(NEW, signed, "sha256"))).decode()


def test_a_token_has_one_spelling(signer: JwtSigner) -> None:
    """Each part is base64url without padding, and nothing else that decodes to the same; signed so or not."""
    token = forged({"sid": 10})
    assert signer.read_access(token).session_id == 10
    # Another header than ours has leaves no part to be compared to the letter.
    for genuine in (token, relabelled(), relabelled(more=1), relabelled(more=10)):
        signer.read_access(genuine)
        spellings = [other for number in range(3) for other in respelt(genuine, number)]
        spellings += [signed_again(other) for number in range(2) for other in respelt(genuine, number)]
        for other in spellings:
            with pytest.raises(TokenInvalid):
                signer.read_access(other)


@pytest.mark.parametrize("payload", [b"e30=", b"e31", b"e3 0", b"e30.e30", b"e", b"", b"e+/0"])
def test_a_payload_has_one_spelling(signer: JwtSigner, payload: bytes) -> None:
    """Even one that is signed as ours are is read at a glance only if it is spelt as ours are."""
    signed = forged({}).partition(".")[0].encode() + b"." + payload
    token = (signed + b"." + base64url_encode(hmac.digest(NEW, signed, "sha256"))).decode()
    with pytest.raises(TokenInvalid):
        signer.read_access(token)


@pytest.mark.parametrize(
    "header",
    [{"alg": "HS512"}, {"alg": "none"}, {"alg": None}, {"kid": ["new"]}, {"b64": False}, {"crit": ["exp"]}],
)
def test_a_header_must_say_how_ours_are_signed(signer: JwtSigner, header: dict[str, object]) -> None:
    """The signature alone is not enough: whoever reads a header otherwise would verify something else."""
    assert signer.read_access(relabelled()).session_id == 9
    with pytest.raises(TokenInvalid):
        signer.read_access(relabelled(**header))


def test_an_unsigned_token_is_refused(signer: JwtSigner) -> None:
    """`alg: none` is not an algorithm of ours."""
    with pytest.raises(TokenInvalid):
        signer.read_access(jwt.encode({"sub": "7"}, None, algorithm="none", headers={"kid": "new"}))
