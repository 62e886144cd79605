"""Accounts: unique e-mails, tags derived from names, and log-ins."""

import re
import sys
import unicodedata
from datetime import UTC, datetime
from itertools import islice
from random import Random
from urllib.parse import quote

import pytest
from attrs import evolve
from hypothesis import example, given
from hypothesis import strategies as st

from messaging_core.commands import LogIn, RegisterUser
from messaging_core.constraints import check
from messaging_core.effects import Decision, StoreUser
from messaging_core.errors import EmailTaken, Invalid, InvalidCredentials, UserNotFound
from messaging_core.ids import UserId
from messaging_core.limits import Limits
from messaging_core.models import EmailForms, User
from messaging_core.ports import EmailMalformed
from messaging_core.testing import strategies as values
from messaging_core.users import (
    TAG_MAX_CHARACTERS,
    TAG_MIN_CHARACTERS,
    Credentials,
    Registration,
    email_key,
    email_keys,
    found,
    log_in,
    log_in_key,
    may_be_tag,
    normalise_email,
    normalise_tag,
    prepare_log_in,
    prepare_registration,
    register,
    tag_candidates,
)

NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
LIMITS = Limits()
ALICE = User(UserId(1), "alice@test.com", "Alice", "alice", None, NOW)
COMMAND = RegisterUser("alice@test.com", "password123", "Alice")

DOMAINS = {"straße.de": "xn--strae-oqa.de", "x" * 250 + ".example": "short.example"}


def parse_email(email: str) -> EmailForms:
    """A parser of these domains only."""
    local, _, domain = email.rpartition("@")
    if domain == "bad.example":
        raise EmailMalformed("no mail goes to bad.example")
    for spelled, ascii_domain in DOMAINS.items():
        if domain.lower() in (spelled, ascii_domain):
            return EmailForms(f"{local}@{spelled}", f"{local}@{ascii_domain}")
    return EmailForms(email, email)


VALID_TAG = re.compile(r"(?![._])[a-z0-9_.]{3,32}(?<![._])")


# --- registration -------------------------------------------------------------------------------------------


def test_a_registration_is_prepared() -> None:
    """The e-mail gets its normal form, and the name is trimmed and composed; other values do not change."""
    command = RegisterUser("Alice@TEST.com", " Pass word ", "  Ame\u0301lie ", "https://example.com/a.png")
    prepared = RegisterUser("alice@test.com", " Pass word ", "Amélie", "https://example.com/a.png")
    registration = prepare_registration(command, LIMITS, parse_email)
    assert registration == Registration(prepared, ("alice@test.com",))


def test_an_email_of_the_greatest_length_is_accepted() -> None:
    """The bound is met exactly."""
    email = "a" * (LIMITS.email_characters - len("@b.cd")) + "@b.cd"
    prepared = prepare_registration(evolve(COMMAND, email=email), LIMITS, parse_email)
    assert prepared.command.email == email


@given(values.register_commands)
def test_preparing_is_idempotent(command: RegisterUser) -> None:
    """Preparing a prepared command changes nothing."""
    prepared = prepare_registration(command, LIMITS, parse_email)
    assert prepare_registration(prepared.command, LIMITS, parse_email) == prepared


INVISIBLE, CONTROLS = "\u202e\u2066\u200b\u00ad\u3164\ufeff\ufe0f", "\t\r\x7f\x85\u2028"


def with_characters(characters: str) -> list[str]:
    """URLs with each of these characters in the host, the path, the query and the fragment."""
    hosts = ("https://own{}.example", "https://{}own.example/a.png")
    places = (*hosts, "https://own.example/a{}gnp.exe", "https://own.example?a={}", "https://own.example#{}")
    return [place.format(each) for each in characters for place in places]


def with_escapes(characters: str) -> list[str]:
    """URLs with each of these characters percent-encoded in the host, which browsers decode."""
    return [f"https://own{quote(each)}.example{end}" for each in characters for end in ("", "/a.png", "?a")]


@pytest.mark.parametrize(
    ("changes", "field", "code"),
    [
        ({"email": "alice"}, "email", "malformed"),
        ({"email": "@test.com"}, "email", "malformed"),
        ({"email": "alice@"}, "email", "malformed"),
        ({"email": "a@b@c"}, "email", "malformed"),
        ({"email": "al ice@test.com"}, "email", "malformed"),
        ({"email": "alice@test.com\n"}, "email", "control_character"),
        ({"email": ""}, "email", "too_short"),
        ({"email": "a" * 250 + "@b.cd"}, "email", "too_long"),
        ({"email": "İ" * 249 + "@b.cc"}, "email", "too_long"),  # longer in lower case
        ({"email": "x@short.example"}, "email", "too_long"),  # longer with its decoded domain
        ({"email": "x@bad.example"}, "email", "malformed"),
        ({"email": "x@t.com\u200b"}, "email", "invisible_character"),
        *(
            ({"email": f"{local}@test.com"}, "email", "compatibility_character")
            for local in (
                "\uff58",
                "al\uff49ce",
                "o\ufb03ce",
                "x\u00b2",
                "\uff8f\uff98",
                "\u017f",
                "\u2460",
                "\u210b",
            )
        ),
        ({"password": "1234567"}, "password", "too_short"),
        ({"password": "x" * 129}, "password", "too_long"),
        ({"password": "1234567\x00"}, "password", "unstorable_character"),
        ({"display_name": ""}, "display_name", "too_short"),
        ({"display_name": " \u2003 "}, "display_name", "blank"),
        ({"display_name": "Al\nice"}, "display_name", "control_character"),
        ({"display_name": "A" * 65}, "display_name", "too_long"),
        ({"avatar_url": "javascript:alert(1)"}, "avatar_url", "malformed"),
        ({"avatar_url": "https://"}, "avatar_url", "malformed"),
        ({"avatar_url": "https://a b"}, "avatar_url", "malformed"),
        *(
            ({"avatar_url": url}, "avatar_url", "malformed")
            for url in ("https://?a", "https://own%2eexample/")
        ),
        *(({"avatar_url": url}, "avatar_url", "invisible_character") for url in with_characters(INVISIBLE)),
        *(({"avatar_url": url}, "avatar_url", "control_character") for url in with_characters(CONTROLS)),
        *(({"avatar_url": url}, "avatar_url", "malformed") for url in with_escapes(INVISIBLE + CONTROLS)),
    ],
)
def test_a_wrong_registration_is_refused(changes: dict[str, str], field: str, code: str) -> None:
    """A refusal names the field and never repeats the password."""
    with pytest.raises(Invalid) as refused:
        prepare_registration(evolve(COMMAND, **changes), LIMITS, parse_email)
    assert [(error.field, error.code) for error in refused.value.errors] == [(field, code)]
    assert COMMAND.password not in str(refused.value)


@pytest.mark.parametrize("password", ["x" * 8, "x" * 128, " " * 8, "пароль на юникоде", "line\nbreak"])
def test_passwords_of_any_characters_are_accepted(password: str) -> None:
    """A password has 8 to 128 characters of any kind."""
    check(evolve(COMMAND, password=password), LIMITS)


def test_commands_do_not_show_their_password() -> None:
    """A command in a log or a traceback does not show its password."""
    assert "password123" not in repr(COMMAND)


def test_registering_creates_the_account() -> None:
    """A new account is stored with its tag and the password's hash."""
    decision = register(
        evolve(COMMAND, avatar_url="https://example.com/a.png"),
        known=None,
        tag="alice2",
        user_id=UserId(7),
        password_hash="hash",
        now=NOW,
    )
    user = User(UserId(7), "alice@test.com", "Alice", "alice2", "https://example.com/a.png", NOW)
    assert decision == Decision(user, (StoreUser(user, "hash", user.email),))


def test_an_e_mail_has_one_account() -> None:
    """A second account with the same e-mail is refused, and the error names the field."""
    with pytest.raises(EmailTaken) as refused:
        register(COMMAND, known=ALICE, tag="alice2", user_id=UserId(2), password_hash="hash", now=NOW)
    assert [error.field for error in refused.value.errors] == ["email"]


def test_logging_in() -> None:
    """The right password logs in; a wrong one and an unknown e-mail get the same refusal."""
    assert log_in(ALICE, password_matches=True) is ALICE
    refusals = []
    for user, matches in ((ALICE, False), (None, False), (None, True)):
        with pytest.raises(InvalidCredentials) as refused:
            log_in(user, password_matches=matches)
        refusals.append((refused.value.code, refused.value.detail, refused.value.errors))
    assert len(set(refusals)) == 1


def test_a_login_is_prepared_like_the_registration() -> None:
    """An e-mail in another case, and a password in another composition, log in to the same account."""
    typed = LogIn("ALICE@Test.com", "cafe\u0301 au lait")
    credentials = prepare_log_in(typed, LIMITS, parse_email)
    assert credentials == Credentials(("alice@test.com",), "caf\u00e9 au lait")
    assert "au lait" not in repr(credentials)


@pytest.mark.parametrize(
    ("email", "password", "field"), [("x" * 1017, "", "email"), ("", "x" * 513, "password")]
)
def test_a_login_is_bounded_before_it_is_normalised(email: str, password: str, field: str) -> None:
    """A text longer than any spelling of a valid e-mail is not normalised, which could take minutes."""
    with pytest.raises(Invalid) as refused:
        prepare_log_in(LogIn(email, password), LIMITS, parse_email)
    assert [(error.field, error.code) for error in refused.value.errors] == [(field, "too_long")]


def test_finding_a_user() -> None:
    """A look-up returns the user or raises `UserNotFound`."""
    assert found(ALICE) is ALICE
    with pytest.raises(UserNotFound):
        found(None)


# --- normal forms of e-mails and tags -----------------------------------------------------------------------


@given(st.text())
@example("\u1ffc\u0308@test.com")  # folding leaves letters that compose again
@example("\u0390@test.com")
@example("ß@İ.com")
def test_normalising_an_e_mail_is_idempotent(email: str) -> None:
    """The normal form is its own normal form, and is in NFC."""
    normal = normalise_email(email)
    assert normalise_email(normal) == normal
    assert unicodedata.is_normalized("NFC", normal)


@given(values.emails)
def test_e_mails_differ_by_more_than_case(email: str) -> None:
    """An e-mail in capitals is the same e-mail."""
    assert normalise_email(email.upper()) == normalise_email(email) == email


def test_all_errors_are_reported_at_once() -> None:
    """An e-mail that the library refuses is reported with its reason, beside other fields."""
    with pytest.raises(Invalid) as refused:
        prepare_registration(evolve(COMMAND, email="x@bad.example", password="short"), LIMITS, parse_email)
    assert refused.value.detail == (
        "password: has 5 characters, at least 8 are needed; "
        "email: must be an e-mail address: no mail goes to bad.example"
    )


letters = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("ΣσςßẞſİıᾳͅΐK\u0345\u0301"))


@given(letters)
@example("\u1fb3\u0345")
@example("\u03b1\u0345\u0301")
def test_a_key_is_its_own_key(local: str) -> None:
    """The key of a key is itself, and is in NFC."""
    key = email_key(f"{local}@test.com")
    assert email_key(key) == key
    assert unicodedata.is_normalized("NFC", key)


def test_folding_is_idempotent_for_every_character() -> None:
    """All cases of each character have one key, which is its own key.

    The exception is the Turkish dotless i, which differs from its capital, I.
    """
    for character in map(chr, (*range(0xD800), *range(0xE000, sys.maxunicode + 1))):
        cases = [character.lower(), character.upper(), character.title(), character.casefold()]
        keys = {email_key(f"{case}@") for case in (character, *cases)}
        assert len(keys) == 1 or character == "ı"
        if keys != {f"{character}@"}:
            assert {email_key(key) for key in keys} == keys


@given(letters.filter(lambda text: "ı" not in text))
def test_e_mails_that_differ_in_case_only_have_one_key(local: str) -> None:
    """Capitals, small letters and title case of an e-mail have one key, in any composition."""
    key = email_key(f"{local}@test.com")
    for other in (local.upper(), local.lower(), local.casefold(), unicodedata.normalize("NFD", local)):
        assert email_key(f"{other}@test.com") == key


@pytest.mark.parametrize(
    "spellings",
    [
        ["αΣ", "ας", "ασ", "Ασ"],
        ["STRASSE", "straße", "STRAẞE"],
        ["ſ", "S"],
        ["K", "\u212a"],
        ['"a@SS"', '"A@ß"'],  # a quoted @ does not end what comes before the domain
    ],
)
def test_one_key_for_all_cases_of_a_letter(spellings: list[str]) -> None:
    """A final sigma equals a sigma, and a sharp s equals two s."""
    assert len({email_key(f"{each}@test.com") for each in spellings}) == 1


def test_a_domain_is_not_folded() -> None:
    """Domains that differ under IDNA are different; two spellings of one domain are equal."""
    assert email_key("x@straße.de") != email_key("x@strasse.de")
    keys = [
        prepare_registration(evolve(COMMAND, email=email), LIMITS, parse_email)
        for email in ("ß@straße.de", "SS@XN--strae-oqa.DE")
    ]
    assert {email_key(each.command.email) for each in keys} == {"ss@straße.de"}
    for registration in keys:
        assert {"ss@straße.de", "ss@xn--strae-oqa.de"} <= set(registration.email_keys)
        assert {log_in_key(each, LIMITS, parse_email) for each in registration.email_keys} == {"ss@straße.de"}


def test_older_e_mails_are_first_found_as_typed() -> None:
    """Two older accounts with one folded e-mail are each found by their own e-mail."""
    assert email_keys("αΣ@test.com", EmailForms("αΣ@test.com", "αΣ@test.com")) == (
        "ας@test.com",
        "ασ@test.com",
    )
    assert email_keys("ασ@test.com", EmailForms("ασ@test.com", "ασ@test.com")) == ("ασ@test.com",)


def test_older_accounts_may_log_in() -> None:
    """An e-mail that is no longer accepted at registration is looked up as it was stored."""
    for typed, key in [
        ("A,b@C.com", "a,b@c.com"),
        ("X@bad.example", "x@bad.example"),
        ("x@t.com\u200b",) * 2,
    ]:
        credentials = prepare_log_in(LogIn(typed, "password123"), LIMITS, parse_email)
        assert credentials.email_keys == (key,)
    long = "i\u0307" * 249 + "@b.cc"
    assert prepare_log_in(LogIn("İ" * 249 + "@b.cc", "x"), LIMITS, parse_email).email_keys[0] == long
    assert prepare_log_in(LogIn(long, "x"), LIMITS, parse_email).email_keys[0] == long


def test_attempts_are_counted_for_any_text() -> None:
    """Attempts are counted before the text is parsed as an e-mail, in bounded time."""
    assert log_in_key("x" * 10**6, LIMITS, parse_email) == "x" * 1016
    assert log_in_key("X@bad.example", LIMITS, parse_email) == "x@bad.example"
    assert log_in_key("", LIMITS, parse_email) == ""


@pytest.mark.parametrize("text", ["alice", "@alice", "@Alice", " ALICE ", "\t@aLiCe"])
def test_tags_have_one_normal_form(text: str) -> None:
    """A tag is found with or without `@`, in any case."""
    assert normalise_tag(text) == "alice"


@given(values.tags)
def test_valid_tags_are_in_normal_form(tag: str) -> None:
    """A valid tag equals its normal form, also after an `@`."""
    assert normalise_tag(tag) == normalise_tag("@" + tag.upper()) == tag
    assert may_be_tag(tag)


@pytest.mark.parametrize("text", ["", "@", "al\x00ice", "al ice", "alisä", "alice\n", "Alice", "\ud800"])
def test_texts_that_cannot_be_tags(text: str) -> None:
    """A text that cannot be a tag has no normal form, so no storage looks it up."""
    assert not may_be_tag(text)


# --- tags from names ----------------------------------------------------------------------------------------


def test_tags_of_one_name() -> None:
    """The first Alice is `alice`, the next `alice2`; after nine, the numbers are random, each longer."""
    tags = list(tag_candidates("Alice", [7, 12_345, 999_999]))
    assert tags[:9] == ["alice", *(f"alice{number}" for number in range(2, 10))]
    assert tags[9:] == ["alice007", "alice2345", "alice99999"]
    drawn = list(tag_candidates("Alice", [10**12 - 1] * 9))[9:]
    assert [len(tag) - len("alice") for tag in drawn] == [3, 4, 5, 6, 7, 8, 9, 9, 9]
    assert list(tag_candidates("Ali", []))[:2] == ["ali", "ali2"], "three letters need no number"


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("Alisa Petrova", "alisapetrova"),
        ("J. R. R. Tolkien", "jrrtolkien"),
        ("R2-D2", "r2d2"),
        ("", "user"),
        ("😀", "user"),
        ("Al", "al1"),
        ("X", "x01"),
        ("x" * 100, "x" * 22),
        ("İIı", "ii1"),
    ],
)
def test_first_tags(name: str, tag: str) -> None:
    """A tag has the name's ASCII letters and digits, is padded to three characters and cut to 22."""
    first = next(tag_candidates(name, []))
    assert first == tag


@given(
    st.text() | st.text("abcdefghijklmnopqrstuvwxyz0123456789", max_size=60),
    st.lists(st.integers(0) | st.integers(0, 2**64), max_size=40),
)
def test_every_candidate_is_a_valid_tag(name: str, chance: list[int]) -> None:
    """For any name and numbers, each candidate is 3 to 32 of a-z and 0-9, and the candidates end."""
    tags = list(tag_candidates(name, chance))
    assert len(chance) + 9 <= len(tags) + 1 <= len(chance) + 10
    for tag in tags:
        assert VALID_TAG.fullmatch(tag)
        assert TAG_MIN_CHARACTERS <= len(tag) <= TAG_MAX_CHARACTERS
        assert normalise_tag(tag) == tag
    numbered = tags[: len(tags) - len(chance)]
    assert len(set(numbered)) == len(numbered)


@pytest.mark.parametrize("name", ["Alice", "Al", "", "x" * 40])
def test_a_thousand_users_of_one_name(name: str) -> None:
    """The thousandth user of a name gets a free tag within twenty candidates."""
    used: set[str] = set()
    draw = Random(name).randrange
    for _ in range(1000):
        candidates = islice(tag_candidates(name, (draw(2**32) for _ in range(11))), 20)
        used.add(next(tag for tag in candidates if tag not in used))
    assert len(used) == 1000
