"""Constraints: every kind, its exact bounds, and hostile values."""

import json
from typing import Any

import pytest
from attrs import field, frozen
from hypothesis import given
from hypothesis import strategies as st

from messaging_core.characters import SHRINKS
from messaging_core.commands import (
    ANY_EMAIL,
    ANY_PASSWORD,
    CONTENT,
    DISPLAY_NAME,
    EMAIL,
    PASSWORD,
    CreateGroup,
    EditMessage,
    ListMessages,
    SendMessage,
)
from messaging_core.constraints import (
    UNSET,
    Count,
    Identifiers,
    JsonObject,
    NormalForm,
    Text,
    Unset,
    check,
    constrained,
    longest_as_sent,
    normalised,
)
from messaging_core.errors import Invalid
from messaging_core.ids import ChatId, MessageId, UserId
from messaging_core.limits import Limits
from messaging_core.models import MessageType
from messaging_core.testing import strategies as values

LIMITS = Limits()


@frozen
class Form:
    """A command with a field of every kind."""

    free: object = None
    name: str | Unset | None = field(default=None, metadata=constrained(Text("display_name_characters")))
    body: str | Unset | None = field(
        default=None, metadata=constrained(Text("message_characters", lines=True))
    )
    secret: str | None = field(
        default=None,
        metadata=constrained(
            Text("password_max_characters", minimum="password_min_characters", lines=True, blank=True)
        ),
    )
    address: str | None = field(
        default=None,
        metadata=constrained(
            Text("avatar_url_characters", pattern=r"https?://[^\s]+", expected="an http or https address")
        ),
    )
    people: tuple[int, ...] | None = field(default=None, metadata=constrained(Identifiers("group_members")))
    payload: dict[str, Any] | Unset | None = field(
        default=None, metadata=constrained(JsonObject("message_payload_bytes", "message_payload_depth"))
    )
    number: int | None = field(default=None, metadata=constrained(Count("history_page_max")))
    digits: str | None = field(
        default=None,
        metadata=constrained(Text("title_characters", blank=True, pattern="[0-9]*", expected="digits")),
    )


def codes(command: Any, limits: Limits = LIMITS) -> dict[str, str]:
    """The code of every field that is wrong; the place inside its value is left out."""
    try:
        check(command, limits)
    except Invalid as refused:
        return {error.field.partition(".")[0]: error.code for error in refused.errors}
    return {}


def nested(levels: int, *, arrays: bool = False) -> dict[str, Any]:
    """An object with `levels` levels, itself the first."""
    inner: Any = {}
    for _ in range(levels - 1):
        inner = [inner] if arrays else {"a": inner}
    return inner if isinstance(inner, dict) else {"a": inner[0]}


def test_null_and_unset_always_pass() -> None:
    """A constraint accepts None and unset fields; another rule says whether they are allowed."""
    assert codes(Form()) == {}
    assert codes(Form(name=UNSET, body=UNSET, payload=UNSET)) == {}


def test_a_command_in_its_normal_form_is_not_copied() -> None:
    """Nearly every command is in its normal form."""
    form = Form(name="Alice", number=1)
    assert check(form, LIMITS) is form


def test_every_wrong_field_is_named() -> None:
    """A refusal names every wrong field at once, and no other."""
    form = Form(free="\x00", name="", body="fine", secret="short", number=0)
    assert codes(form) == {"name": "too_short", "secret": "too_short", "number": "out_of_range"}


@pytest.mark.parametrize(
    ("form", "wrong"),
    [
        (Form(name="x"), {}),
        (Form(name="x" * 64), {}),
        (Form(name="x" * 65), {"name": "too_long"}),
        (Form(name=""), {"name": "too_short"}),
        (Form(name="\U0001f600" * 64), {}),
        (Form(name="\U0001f600" * 65), {"name": "too_long"}),
        (Form(secret="x" * 7), {"secret": "too_short"}),
        (Form(secret="x" * 8), {}),
        (Form(secret="x" * 128), {}),
        (Form(secret="x" * 129), {"secret": "too_long"}),
        (Form(secret=" \n\t\r     "), {}),
        (Form(body="x" * 4000), {}),
        (Form(body="x" * 4001), {"body": "too_long"}),
        (Form(body="a\nb\tc\u2028\x07"), {}),
        (Form(body="\x00"), {"body": "unstorable_character"}),
        (Form(body="\ud83d"), {"body": "unstorable_character"}),
        (Form(body="x\udfff"), {"body": "unstorable_character"}),
        (Form(body=" \n\u3000\u00a0"), {"body": "blank"}),
        (Form(body="\u200b\ufeff"), {"body": "blank"}),  # no visible character
        (Form(body="\u200bx"), {}),
        (Form(name="a\nb"), {"name": "control_character"}),
        (Form(name="a\x7f"), {"name": "control_character"}),
        (Form(name="a\x85"), {"name": "control_character"}),
        (Form(name="a\u2029"), {"name": "control_character"}),
        (Form(name="a\x00"), {"name": "unstorable_character"}),
        (Form(name="  "), {"name": "blank"}),
        (Form(address="http://a"), {}),
        (Form(address="https://example.com/\u0444?x=1#y"), {}),
        (Form(address="ftp://a"), {"address": "malformed"}),
        (Form(address=" https://a"), {"address": "malformed"}),
        (Form(address="https://a\n"), {"address": "control_character"}),
        (Form(digits=""), {}),
        (Form(digits="12"), {}),
        (Form(digits="x"), {"digits": "malformed"}),
        (Form(number=1), {}),
        (Form(number=200), {}),
        (Form(number=0), {"number": "out_of_range"}),
        (Form(number=-1), {"number": "out_of_range"}),
        (Form(number=201), {"number": "out_of_range"}),
        (Form(number=10**400), {"number": "out_of_range"}),
        (Form(people=()), {}),
        (Form(people=(1,) * 1000), {}),
        (Form(people=(1,) * 1001), {"people": "too_long"}),
    ],
)
def test_boundaries(form: Form, wrong: dict[str, str]) -> None:
    """Each bound itself is accepted; texts are counted in code points."""
    assert codes(form) == wrong


@frozen
class Words:
    """A command with a text in every normal form."""

    name: str = field(default="x", metadata=constrained(DISPLAY_NAME))
    email: str = field(default="a@b.cc", metadata=constrained(EMAIL))
    password: str = field(default="x" * 8, metadata=constrained(PASSWORD))
    content: str = field(default="x", metadata=constrained(CONTENT))
    known_email: str = field(default="x", metadata=constrained(ANY_EMAIL))
    known_password: str = field(default="x", metadata=constrained(ANY_PASSWORD))


@pytest.mark.parametrize(
    ("words", "normal_form"),
    [
        (Words(name="\n \u2003Ame\u0301lie\u3000\t"), Words(name="Amélie")),
        (Words(name=" " * 100_000 + "e\u0301" * 64), Words(name="é" * 64)),
        (Words(name="\u1100\u1161\u11a8" * 64), Words(name="각" * 64)),
        (Words(email="e\u0301" * 249 + "@b.cc"), Words(email="é" * 249 + "@b.cc")),
        (Words(password="e\u0301" * 128), Words(password="é" * 128)),
        (Words(password="ﬃ" * 8), Words(password="ffi" * 8)),
        (Words(content="e\u0301" * 4000), Words(content="e\u0301" * 4000)),
        (Words(content="\u0f40\u0f73" + "x" * 3996), Words(content="\u0f40\u0f73" + "x" * 3996)),
        (Words(content="  x\u200b\u202e\n"), Words(content="  x\u200b\u202e\n")),
        (Words(known_email=" ALICE\u200b@" + "x" * 1008), Words(known_email=" ALICE\u200b@" + "x" * 1008)),
        (Words(known_password="e\u0301" * 256), Words(known_password="é" * 256)),
        (Words(known_password="…" * 128), Words(known_password="." * 384)),
    ],
)
def test_texts_are_measured_in_their_form(words: Words, normal_form: Words) -> None:
    """A text within the bound in its normal form is accepted and returned in that form, content as sent.

    A text that is only compared with a stored one may have any spelling.
    """
    assert check(words, LIMITS) == normal_form
    assert check(normal_form, LIMITS) == normal_form


@pytest.mark.parametrize(
    ("words", "field", "code", "message"),
    [
        (Words(name="\u0958" * 33), "name", "too_long", "has 66 characters, at most 64 are allowed"),
        (Words(name="e" + "\u0301" * 256), "name", "too_long", "has 257 characters, at most 64 are allowed"),
        (Words(name="\u3164"), "name", "blank", "is blank"),
        (Words(name="\u202e\u2066"), "name", "blank", "is blank"),
        (
            Words(name="  Al\u202eice"),
            "name",
            "invisible_character",
            "has the invisible character U+202E RIGHT-TO-LEFT OVERRIDE at position 5",
        ),
        (
            Words(email="x@t.com\u200b"),
            "email",
            "invisible_character",
            "has the invisible character U+200B ZERO WIDTH SPACE at position 8",
        ),
        (Words(email="\u0958" * 130 + "@b.cc"), "email", "too_long", None),
        (Words(email="x" * 1011 + "@b.cc"), "email", "too_long", None),
        (Words(password="e\u0301" * 4), "password", "too_short", "has 4 characters, at least 8 are needed"),
        (Words(password="ﷺ"), "password", "too_short", "has 1 character, at least 8 are needed"),
        (Words(password="ﷺ" * 8), "password", "too_long", "has 144 characters, at most 128 are allowed"),
        (Words(password="x" * 513), "password", "too_long", "has 513 characters, at most 128 are allowed"),
        (
            Words(content="\u0958" * 2001),
            "content",
            "too_long",
            "has 4002 characters, at most 4000 are allowed",
        ),
        (
            Words(content="e\u0301" * 4001),
            "content",
            "too_long",
            "has 4001 characters, at most 4000 are allowed",
        ),
        (Words(content="e" + "\u0301" * 16_000), "content", "too_long", None),
        (Words(known_email="x" * 1017), "known_email", "too_long", None),
        (Words(known_password="x" * 513), "known_password", "too_long", None),
        (Words(known_password="\ud800"), "known_password", "unstorable_character", None),
    ],
)
def test_texts_out_of_bounds_in_their_form_are_refused(
    words: Words, field: str, code: str, message: str | None
) -> None:
    """A text may be too long or too short in its normal form; an invisible character is named."""
    with pytest.raises(Invalid) as refused:
        check(words, LIMITS)
    (error,) = refused.value.errors
    assert (error.field, error.code) == (field, code)
    assert message in (None, error.message)


def test_a_far_too_long_text_is_not_normalised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Normalising may take quadratic time, so a text over four times its bound is not normalised."""
    marks = "e" + "\u0300\u0316" * 100_000
    monkeypatch.setattr("messaging_core.constraints.normalize", lambda form, text: pytest.fail("normalised"))
    monkeypatch.setattr("messaging_core.constraints.length_in_nfc", lambda text: pytest.fail("normalised"))
    everything = Words(marks, marks, marks, marks, marks, marks)
    assert set(codes(everything).values()) == {"too_long"}


@given(
    st.sampled_from(NormalForm), st.text(st.characters() | st.sampled_from(" \u0301\u0958ﷺ\u1100\u1161\n"))
)
def test_normalising_is_idempotent(form: NormalForm, text: str) -> None:
    """A normal form is its own normal form."""
    normal = normalised(form, text)
    assert normalised(form, normal) == normal


def test_the_text_of_a_refusal() -> None:
    """The refusal's text has the message of each field."""
    with pytest.raises(Invalid) as refused:
        check(Form(secret="short", number=0), LIMITS)
    assert refused.value.detail == "secret: has 5 characters, at least 8 are needed; number: must be 1 to 200"


def test_empty_values_are_refused_as_empty() -> None:
    """An empty value is refused as empty, whether or not the limits have a minimum."""
    with pytest.raises(Invalid) as refused:
        check(Form(name="", body="", secret=""), LIMITS)
    assert refused.value.detail == "name: is empty; body: is empty; secret: is empty"


def test_bounds_come_from_the_limits() -> None:
    """A constraint names a limit; the number is in the limits."""
    assert codes(Form(body="x" * 11), Limits(message_characters=10)) == {"body": "too_long"}
    assert codes(Form(people=(1, 2)), Limits(group_members=2)) == {}
    assert codes(Form(people=(1, 2, 3)), Limits(group_members=2)) == {"people": "too_long"}


@pytest.mark.parametrize("arrays", [False, True])
def test_depth(arrays: bool) -> None:
    """An object may have 32 levels of arrays and objects, itself the first."""
    assert codes(Form(payload=nested(32, arrays=arrays))) == {}
    assert codes(Form(payload=nested(33, arrays=arrays))) == {"payload": "too_deep"}
    assert codes(Form(payload={"a": "x"}), Limits(message_payload_depth=1)) == {}
    assert codes(Form(payload={"a": []}), Limits(message_payload_depth=1)) == {"payload": "too_deep"}


@pytest.mark.parametrize("arrays", [False, True])
def test_depth_beyond_any_stack(arrays: bool) -> None:
    """100,000 levels are refused like 33, without recursion."""
    assert codes(Form(payload=nested(100_000, arrays=arrays))) == {"payload": "too_deep"}


def test_size() -> None:
    """An object's size is that of its UTF-8 JSON without white space."""
    frame = len('{"a":""}')
    assert codes(Form(payload={"a": "x" * (32_768 - frame)})) == {}
    assert codes(Form(payload={"a": "x" * (32_769 - frame)})) == {"payload": "too_long"}
    assert codes(Form(payload={"a": "я" * ((32_768 - frame) // 2)})) == {}
    assert codes(Form(payload={"a": "я" * ((32_768 - frame) // 2 + 1)})) == {"payload": "too_long"}
    assert codes(Form(payload={"a": [0] * 20_000})) == {"payload": "too_long"}


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ({"a": "\x00"}, "unstorable_character"),
        ({"\x00": 1}, "unstorable_character"),
        ({"a": [{"b": "x\ud800"}]}, "unstorable_character"),
        ({"\udfff": 1}, "unstorable_character"),
        ({"a": float("nan")}, "out_of_range"),
        ({"a": float("inf")}, "out_of_range"),
        ({"a": [float("-inf")]}, "out_of_range"),
        ({"a": 2**63}, "out_of_range"),
        ({"a": -(2**63) - 1}, "out_of_range"),
        ({"a": 10**5000}, "out_of_range"),
    ],
)
def test_values_that_a_storage_would_change_are_refused(payload: dict[str, Any], code: str) -> None:
    """NUL, halves of surrogate pairs, and numbers that JSON libraries refuse or change are refused."""
    assert codes(Form(payload=payload)) == {"payload": code}


@pytest.mark.parametrize(
    ("payload", "place"),
    [
        ({"a": [1, {"b": 2**63}]}, "payload.a.1.b"),
        ({"": 2**63}, "payload."),
        ({"a": [{"\x00": 1}]}, "payload.a.0"),
        ({"\udfff": 2**63}, "payload.?"),
        ({"k" * 500: 2**63}, "payload." + "k" * 99),
    ],
)
def test_the_place_in_an_object_is_named(payload: dict[str, Any], place: str) -> None:
    """The path from the root, in at most 100 characters; for a wrong key, the path of its object."""
    with pytest.raises(Invalid) as refused:
        check(Form(payload=payload), Limits())
    assert [error.field for error in refused.value.errors] == [place]


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"a": "\\u0000"},  # six characters that look like an escape, not NUL
        {"a": 2**63 - 1, "b": -(2**63), "c": 1.7976931348623157e308, "d": True, "e": None},
        {"a": "\ud7ff\ue000\U0010ffff\x01"},
    ],
)
def test_values_that_every_storage_returns_are_accepted(payload: dict[str, Any]) -> None:
    """Values that only look dangerous are accepted."""
    assert codes(Form(payload=payload)) == {}


@given(st.data())
def test_the_strategies_draw_valid_values(data: st.DataObject) -> None:
    """The published strategies draw commands that the default limits allow."""
    commands = (
        values.register_commands
        | values.create_group_commands
        | values.send_commands()
        | values.edit_commands
        | values.list_commands
    )
    assert codes(data.draw(commands)) == {}


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        (CreateGroup("t" * 129, (UserId(1),) * 1001), {"title": "too_long", "member_ids": "too_long"}),
        (CreateGroup(" ", ()), {"title": "blank"}),
        (
            SendMessage(ChatId(1), MessageType.SYSTEM, "x" * 4001),
            {"type": "not_allowed", "content": "too_long"},
        ),
        (SendMessage(ChatId(1), MessageType.TEXT, ""), {}),  # the payload decides whether it may be empty
        (SendMessage(ChatId(1), MessageType.TEXT, "x" * 4001), {"content": "too_long"}),
        (SendMessage(ChatId(1), MessageType.FILE, None, nested(33)), {"payload": "too_deep"}),
        (EditMessage(MessageId(1), "\x00", None), {"content": "unstorable_character"}),
        (ListMessages(ChatId(1), limit=201), {"limit": "out_of_range"}),
        (ListMessages(ChatId(1), limit=200), {}),
    ],
)
def test_commands_are_bound(command: Any, wrong: dict[str, str]) -> None:
    """The fields of the commands have their constraints."""
    assert codes(command) == wrong


class UnreadList(list[Any]):
    """A list whose entries must not be read."""

    def __iter__(self) -> Any:
        raise AssertionError("an entry was looked at")


@pytest.mark.parametrize("part", [UnreadList([[]] * 20_000), {"b": UnreadList([0] * 20_000)}])
def test_entries_beyond_the_payloads_bytes_are_not_read(part: Any) -> None:
    """A list whose length exceeds the bound is refused unread: a body of 1 MiB may have 340,000 entries."""
    assert codes(Form(payload={"a": part})) == {"payload": "too_long"}


@pytest.mark.parametrize("payload", [{"a": ["x" * 100] * 400}, {"a": "я" * 20_000}])
def test_the_refusal_of_a_large_payload_names_the_bound(payload: dict[str, Any]) -> None:
    """In bytes, whichever way it was found."""
    with pytest.raises(Invalid) as refused:
        check(Form(payload=payload), LIMITS)
    assert refused.value.detail == "payload: has more than 32768 bytes as JSON"


def test_many_small_texts_that_are_too_much_are_not_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their lengths together break the bound."""
    monkeypatch.setattr("messaging_core.constraints.json.dumps", pytest.fail)
    assert codes(Form(payload={"a": ["x" * 100] * 400})) == {"payload": "too_long"}


def test_the_early_bound_of_bytes_is_not_too_strict() -> None:
    """A payload of exactly the allowed bytes is accepted, whatever its contents."""
    payloads: list[dict[str, Any]] = [
        {"a": [0] * 125},
        {"": [[]] * 83},
        {"a": {str(n): [] for n in range(10, 40)}},
        {"": "x" * 249},
    ]
    for payload in payloads:
        size = len(json.dumps(payload, separators=(",", ":")))
        assert codes(Form(payload=payload), Limits(message_payload_bytes=max(256, size))) == {}


@pytest.mark.parametrize(
    ("constraint", "times"),
    [
        (Text("title_characters"), 1),
        (Text("title_characters", any_spelling=True), SHRINKS),
        (Text("title_characters", form=NormalForm.NAME), SHRINKS),
        (Text("title_characters", form=NormalForm.COUNTED), SHRINKS),
    ],
)
def test_the_length_of_a_text_as_sent_is_bounded(constraint: Text, times: int) -> None:
    """By the maximum if the text is measured as sent, otherwise by what can shrink to the maximum."""
    assert longest_as_sent(constraint, Limits(title_characters=10)) == 10 * times
