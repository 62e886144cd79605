"""E-mails that look like others, malformed e-mails, and e-mails of older accounts."""

import httpx
import pytest

from messaging_core.effects import Decision, StoreUser
from messaging_core.limits import Limits, Rate
from messaging_core.models import User
from messaging_core.ports import Transaction
from tests.server.clients import browser, expect, new_key
from tests.server.servers import ServerHere, serving

PASSWORD = "password123"

REFUSED = [
    ("x@t.com\u200b", "has the invisible character U+200B ZERO WIDTH SPACE at position 8"),
    ("x\u202e@t.com", "has the invisible character U+202E RIGHT-TO-LEFT OVERRIDE at position 2"),
    ("\u3164@t.com", "has the invisible character U+3164 HANGUL FILLER at position 1"),
    ("x\ufe0f@t.com", "has the invisible character U+FE0F VARIATION SELECTOR-16 at position 2"),
    ("a\u2066b@t.com", "has the invisible character U+2066 LEFT-TO-RIGHT ISOLATE at position 2"),
    (
        "a,b@c.com",
        "must be an e-mail address: the email address contains invalid characters before the @-sign: ','",
    ),
    ("a@b,c.com", "must be an e-mail address: the part after the @-sign contains invalid characters: ','"),
    ("a@b", "must be an e-mail address: the part after the @-sign is not valid. It should have a period"),
    (
        "ｘ@q.com",
        "has the character U+FF58 FULLWIDTH LATIN SMALL LETTER X before the @: write x",
    ),
    ("İ" * 249 + "@b.cc", "has 503 characters in lower case, at most 254 are allowed"),
]


async def register(http: httpx.AsyncClient, email: str, **headers: str) -> httpx.Response:
    body = {"email": email, "password": PASSWORD, "display_name": "Somebody"}
    return await http.post("/auth/register", json=body, headers=headers)


async def log_in(http: httpx.AsyncClient, email: str) -> httpx.Response:
    return await http.post("/auth/login", json={"email": email, "password": PASSWORD})


async def test_ambiguous_emails_are_refused(server: ServerHere, http: httpx.AsyncClient) -> None:
    """The error names an invisible or invalid character, and no account is created."""
    before = server.state()
    for email, message in REFUSED:
        (error,) = expect(await register(http, email), 422, "validation_failed")["errors"]
        assert (error["field"], error["message"]) == ("email", message)
        expect(await log_in(http, email), 401, "invalid_credentials")
    assert server.state() == before


@pytest.mark.parametrize(
    ("shown", "others"),
    [
        ("alice@test.com", ["ALICE@Test.COM"]),
        ("x@localhost.local", ["X@LOCALHOST.LOCAL", "x@ｌocalhost.local"]),
        ("ας@test.com", ["αΣ@test.com", "ασ@test.com", "ΑΣ@TEST.COM"]),
        ("groß@straße.de", ["GROSS@STRAẞE.DE", "groẞ@xn--strae-oqa.de"]),
        ("é@почта.рф", ["e\u0301@ПОЧТА.РФ", "É@xn--80a1acny.xn--p1ai", "é@почта\u3002рф"]),
    ],
    ids=ascii,
)
async def test_spellings_of_one_email_are_one_account(
    http: httpx.AsyncClient, shown: str, others: list[str]
) -> None:
    """All spellings of an e-mail's letters and domain belong to one account."""
    key = new_key()
    registered = expect(await register(http, shown, **{"Idempotency-Key": key}), 201)
    assert registered["user"]["email"] == shown
    again = expect(await register(http, shown, **{"Idempotency-Key": key}), 201)
    assert again["user"]["id"] == registered["user"]["id"]
    for email in (shown, *others):
        expect(await register(http, email), 409, "email_taken")
        assert expect(await log_in(http, email), 200)["user"] == registered["user"]


async def test_a_costly_email_is_not_parsed_without_a_permit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An address that has used its log-in permits is refused before its e-mail is parsed."""
    limits = Limits(login_address_rate=Rate(0.01, 1))
    async with serving(limits, rate_limits=True) as server, browser(server) as http:
        costly = "x@" + ".".join("ж" for _ in range(80))
        expect(await log_in(http, costly), 401)
        monkeypatch.setattr(server.messaging, "_parse_email", lambda email: pytest.fail("parsed"))
        expect(await log_in(http, costly), 429)


async def test_different_domains_are_different_accounts(http: httpx.AsyncClient) -> None:
    """Only the part before the `@` is case-folded; for the domain, IDNA decides which spellings are equal."""
    for email in ("x@straße.de", "x@strasse.de", "x@stra\uff53\uff53e.com"):
        expect(await register(http, email), 201)


async def test_an_older_account_may_log_in(server: ServerHere, http: httpx.AsyncClient) -> None:
    """An account whose e-mail is no longer accepted at registration is found by it in lower case."""
    password_hash = await server.hasher.hash(PASSWORD, network="")
    for number, email in enumerate(
        [
            "a,b@c.com",
            "x@t.com\u200b",
            "x@localhost",
            "ｘ@q.com",
            "ας@t.com",
            "ασ@t.com",
            "i\u0307" * 99 + "@b.cc",
        ]
    ):

        def store(tx: Transaction, email: str = email, number: int = number) -> Decision[User]:
            user = User(tx.next_user_id(), email, "Old", f"old{number}", None, server.clock())
            return Decision(user, (StoreUser(user, password_hash, email),))

        old = await server.messaging.execute(store)
        for typed in (email, email.upper() if "σ" not in email else email):
            user = expect(await log_in(http, typed), 200)["user"]
            assert (user["id"], user["email"]) == (old.id, email)
