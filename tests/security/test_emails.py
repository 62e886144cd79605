"""E-mail addresses: which ones the library accepts, and their forms."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adapters.security import load_email_parser, parse_email
from messaging_core.commands import LogIn, RegisterUser
from messaging_core.errors import Invalid
from messaging_core.limits import Limits
from messaging_core.models import EmailForms
from messaging_core.ports import EmailMalformed
from messaging_core.testing import strategies as values
from messaging_core.users import email_key, log_in_key, prepare_log_in, prepare_registration


@pytest.mark.parametrize(
    ("email", "unicode", "ascii_form"),
    [
        ("alice@test.com", None, None),
        ("a.l-i_c+e@mail.example.co.uk", None, None),
        ("o'brien@test.com", None, None),
        ("x@intranet.local", None, None),  # mail from elsewhere cannot reach it
        ("x@a.test", None, None),
        ("x@a.localhost", None, None),
        ("x@EXAMPLE.com", "x@example.com", "x@example.com"),
        ("\u0438@\u043f\u043e\u0447\u0442\u0430.\u0440\u0444", None, "\u0438@xn--80a1acny.xn--p1ai"),
        (
            "x@xn--80a1acny.xn--p1ai",
            "x@\u043f\u043e\u0447\u0442\u0430.\u0440\u0444",
            "x@xn--80a1acny.xn--p1ai",
        ),
        ("x@stra\u00dfe.de", None, "x@xn--strae-oqa.de"),
        ("x@\uff54est\u3002com", "x@test.com", "x@test.com"),  # full-width, as an input method types it
        ("e\u0301@test.com", "\u00e9@test.com", "\u00e9@test.com"),
    ],
    ids=ascii,
)
def test_an_address_has_two_forms(email: str, unicode: str | None, ascii_form: str | None) -> None:
    """Any domain with a period is accepted, and has a form for name servers and one for people."""
    unicode = unicode or email
    forms = parse_email(email)
    assert EmailForms(forms.unicode.lower(), forms.ascii.lower()) == EmailForms(
        unicode, ascii_form or unicode
    )


@pytest.mark.parametrize(
    ("email", "reason"),
    [
        ("a,b@c.com", "','"),
        ("a@b,c.com", "','"),
        ('"a b"@c.com', "quot"),
        ("Alice <a@c.com>", "display name"),
        ("a@[127.0.0.1]", "IP address"),
        (".a@c.com", "start with a period"),
        ("a..b@c.com", "two periods"),
        ("a@-c.com", "hyphen"),
        ("a(x)@c.com", "'('"),
        ("\u0301a@c.com", "COMBINING ACUTE ACCENT"),
        ("a@c_d.com", "'_'"),
        ("x" * 64 + "@" + "x" * 64 + ".com", "too many"),
        ("x" * 251 + "@b.c", "more than 254 bytes"),
        ("\u0436" * 126 + "@b.c", "more than 254 bytes"),
        ("\ud800@c.com", None),
        ("a@\ud800.com", None),
        ("a@xn--a.com", None),
        ("a@b", "should have a period"),
        ("a@localhost", "should have a period"),
        ("a@127.0.0.1", "top-level domain"),
    ],
    ids=ascii,
)
def test_an_invalid_address_is_refused(email: str, reason: str | None) -> None:
    """The error's text is the end of a sentence that begins with the field's name."""
    with pytest.raises(EmailMalformed) as refused:
        parse_email(email)
    message = str(refused.value)
    assert message
    assert not message.endswith(".")
    assert len(message) <= 200
    if reason is not None:
        assert reason in message


@given(st.text(max_size=300) | values.emails | st.builds("{}@{}".format, st.text(), st.text()))
@example("a@" + "\u0301" * 250)
@example("a" + "\u0301\u0316" * 120 + "@b.cc")
def test_any_text_has_forms_or_is_refused(text: str) -> None:
    """Any text either has forms, which are their own forms, or is refused."""
    load_email_parser()
    try:
        forms = parse_email(text)
    except EmailMalformed:
        return
    assert parse_email(forms.unicode) == forms
    assert parse_email(forms.ascii) == forms


LIMITS = Limits()
letters = st.text(st.sampled_from("aAßẞΣςσİıſＡé\u0301\u0345\u212aяЯعא7-.。ー"), min_size=1, max_size=12)


@given(st.builds("{}@{}".format, letters | values.contents, letters) | values.emails)
@example("İ@İ.com")
@example("ẞ@ẞ.de")
@example("ΑΣ@ΑΣ.com")
@example("7@7\u0345\u0301")  # the order of marks changes the domain's normal form
def test_a_form_finds_the_account(email: str) -> None:
    """An account is found by its e-mail as typed, as shown, and in other cases of letters."""
    try:
        registration = prepare_registration(RegisterUser(email, "x" * 8, "A"), LIMITS, parse_email)
    except Invalid:
        return
    kept = registration.command.email
    key = email_key(kept)
    assert prepare_registration(RegisterUser(kept, "x" * 8, "A"), LIMITS, parse_email).command.email == kept
    assert key in registration.email_keys
    for typed in (email, kept):
        assert key in prepare_log_in(LogIn(typed, "x"), LIMITS, parse_email).email_keys
        assert log_in_key(typed, LIMITS, parse_email) == key
