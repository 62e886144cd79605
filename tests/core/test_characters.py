"""Characters: which are visible, and where invisible ones may appear."""

import json
import sys
import unicodedata

import pytest
import regex
from hypothesis import example, given
from hypothesis import strategies as st

from messaging_core.characters import (
    DEFAULT_IGNORABLE,
    GROWS_IN_NFC,
    SHRINKS,
    described,
    is_blank,
    length_in_nfc,
    unsafe_in_address,
    unsafe_in_name,
)
from messaging_core.limits import CONTENT_BYTES

POINTS = [point for point in range(sys.maxunicode + 1) if not 0xD800 <= point <= 0xDFFF]
MARKS = "\u0300\u0301\u0316\u0327\u0345\u0f71\u0f72\u0f73\u0f74\u0f81\u3099"
spellings = st.text(
    st.characters(exclude_categories=["Cs"])
    | st.sampled_from("aeoé\u0958\ufb2c\u1f82\u1100\u1161\u11a8각ﷺﬃ½…ςΣßİ" + MARKS)
)


def test_the_table_of_ignorable_characters_is_unicodes() -> None:
    """The ignorable characters are Unicode's, by the tables of another library."""
    ours = {point for first, last in DEFAULT_IGNORABLE for point in range(first, last + 1)}
    is_ignorable = regex.compile(r"\p{Default_Ignorable_Code_Point}").match
    assert ours == {point for point in POINTS if is_ignorable(chr(point))}


UNSEEN = [
    *(" ", "\t", "\n", "\x00", "\x7f", "\u00a0", "\u2003", "\u3000", "\u2028"),  # white space and controls
    *(
        "\u00ad",
        "\u180e",
        "\u200b",
        "\u200d",
        "\u202e",
        "\u2060",
        "\u2066",
        "\ufeff",
        "\U000e0067",
    ),  # formats
    *("\u115f", "\u1160", "\u3164", "\uffa0", "\u2800", "\ufffc", "\U0001d159"),  # letters, symbols: blank
    *("\U00013441", "\U00013442"),
    *("\u034f", "\u0301", "\u0903", "\u20dd", "\ufe0f", "\U000e0100", "\U00016fe4"),  # marks without a base
    *("\u2065", "\ufff0", "\ufff8", "\U000e0fff"),  # unassigned and invisible
    *("\ufdd0", "\ufdef", "\uffff", "\U0010fffe"),  # noncharacters
]
SEEN = [
    "x",
    "!",
    "~",
    "é",
    "e\u0301",
    "한",
    "ж",
    "😀",
    "❤\ufe0f",
    "\u0660",
    "\ue000",
    "\U0001fae8",
    "\U0001fadc",
]


@pytest.mark.parametrize("text", ["", *UNSEEN, "".join(UNSEEN)], ids=ascii)
def test_invisible_text_is_blank(text: str) -> None:
    """White space, controls, ignorable characters, blank symbols, and marks without a base are blank."""
    assert is_blank(text)


@pytest.mark.parametrize("text", SEEN, ids=ascii)
def test_one_visible_character_is_enough(text: str) -> None:
    """One visible character suffices, also one newer than Python's Unicode, or one of private use."""
    assert not is_blank(text)
    assert not is_blank("".join(UNSEEN) + text)
    assert not is_blank(text + "".join(UNSEEN))


@pytest.mark.parametrize(
    "name",
    [
        "Alice",
        "Zoë \u0141ukasz",
        "e\u0301",
        "\u05e9\u05dc\u05d5\u05dd\u200e!",  # a direction mark beside Hebrew
        "\u0645\u062d\u0645\u062f\u061c 7",
        "\u0646\u0627\u0645\u0647\u200c\u0627\u06cc",  # Persian, with a non-joiner
        "\u0915\u094d\u200d\u0937",  # Devanagari: behind a virama, a joiner
        "\u0dc1\u0dca\u200d\u0dbb\u0dd3",
        "\u1781\u17d2\u1798\u17c2\u200b\u1781",  # Khmer: a possible line break
        "\u1820\u180b\u1821\u180e\u1820",  # Mongolian
        "\u05d1\u034f\u05b8",
        "\u845b\U000e0100\u57ce",  # the Japanese variant of a letter
        "\U0001f469\u200d\U0001f469\u200d\U0001f467",  # a family
        "\u2764\ufe0f\u200d\U0001f525",
        "\U0001f469\U0001f3fd\u200d\U0001f4bb",
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",  # the flag of England
        "1\ufe0f\u20e3 #\ufe0f\u20e3 \u00a9\ufe0f \u203c\ufe0f",
    ],
    ids=ascii,
)
def test_joiners_are_allowed_where_scripts_need_them(name: str) -> None:
    """Scripts and emoji keep their joiners, selectors and tags, right-to-left text its direction marks."""
    assert unsafe_in_name(name) is None


@pytest.mark.parametrize("control", [*"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"], ids=ascii)
@pytest.mark.parametrize(
    "text", ["Ali{}ce", "{}Alice", "Alice{}", "\u05e9\u05dc{}\u05d5\u05dd", "\U0001f469{}"]
)
def test_a_name_cannot_reorder_the_text_beside_it(text: str, control: str) -> None:
    """A name contains no override, embedding or isolate, in any script."""
    assert unsafe_in_name(text.format(control)) == text.index("{")


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("Al\u200bice", 2),
        ("Ali\u200dce", 3),
        ("Алиса\u200c", 5),
        ("Alice\u200e", 5),
        ("Al\u200fice", 2),  # a direction mark is no right-to-left letter that permits itself
        ("Alice\u061c", 5),
        ("\u05d0\u200f\u200f", 2),
        ("Alice\u2800", 5),
        ("Alice\ufff9", 5),
        ("a\ufe0f", 1),
        ("1\ufe00", 1),
        ("1\u200d", 1),
        ("a\u00adb", 1),
        ("\u200d\U0001f469", 0),
        ("\U0001f469 \u200d", 2),
        ("\U0001f469\u200d\u200d\U0001f469", 2),  # one joiner suffices
        ("\U0001f469\U000e0067", 1),
        ("\U0001f469\u2003\u200d", 2),
        ("a\u0951\u200d", 2),  # a mark of another script is not what the joiner follows
        ("\u058f\u200d", 1),
        ("\u1100\u200d", 1),
        ("\u738b\u200d", 1),
        ("\u212a\u200d", 1),  # the Kelvin sign is a K
        ("\u2014\u200d", 1),
        ("\uae40\u3164", 1),
        ("\u0627\u2060", 1),
        ("\ufeffAlice", 0),
    ],
    ids=ascii,
)
def test_an_unneeded_invisible_character_is_found(name: str, index: int) -> None:
    """An unneeded invisible character is found, because it makes two names look the same."""
    assert unsafe_in_name(name) == index


@given(spellings)
def test_composing_a_name_keeps_its_safety(name: str) -> None:
    """Composing a name makes no character unsafe, and no unsafe character safe."""
    composed = unicodedata.normalize("NFC", name)
    assert (unsafe_in_name(name) is None) == (unsafe_in_name(composed) is None)


@pytest.mark.parametrize(
    ("address", "index"),
    [
        ("alice@test.com", None),
        ("а\u0301@почта.рф", None),
        ("\u0915\u094d@x.com", None),
        ("x@t.com\u200b", 7),
        ("x\u202e@t.com", 1),
        ("\u3164@t.com", 0),
        ("x\ufe0f@t.com", 1),
        ("x\u2800@t.com", 1),
        ("\u0646\u0627\u0645\u0647\u200c\u0627\u06cc@t.com", 4),
        ("é\u00a0@t.com", 1),
        ("é\ufff9@t.com", 1),
        ("\U000e0067@t.com", 0),
    ],
    ids=ascii,
)
def test_nothing_is_hidden_in_an_address(address: str, index: int | None) -> None:
    """Every invisible character of an e-mail is found, joiners included; visible ones of any script pass."""
    assert unsafe_in_address(address) == index


def test_a_character_is_described() -> None:
    """A character is described by its number, and by its Unicode name if it has one."""
    assert described("\u200b") == "U+200B ZERO WIDTH SPACE"
    assert described("\U000e0067") == "U+E0067 TAG LATIN SMALL LETTER G"
    assert described("\u2065") == "U+2065"


# --- normal forms and lengths -------------------------------------------------------------------------------


@given(spellings)
@example("\u1100\u1161\u11a8" * 10)
@example("\u03b1\u0313\u0300\u0345" * 10)
@example("\u0958\ufb2c" * 10)
def test_bounds_before_normalising_refuse_nothing_that_fits(text: str) -> None:
    """A normal form has at least a fourth of a text's code points, and NFC at most three times as many."""
    for form in ("NFC", "NFKC"):
        assert len(text) <= SHRINKS * len(unicodedata.normalize(form, text))
    assert len(unicodedata.normalize("NFC", text)) <= GROWS_IN_NFC * len(text)


def test_the_bounds_are_those_of_every_character() -> None:
    """No Unicode character decomposes or grows by more than the factors."""
    assert max(len(unicodedata.normalize("NFD", chr(point))) for point in POINTS) == SHRINKS
    assert max(len(unicodedata.normalize("NFC", chr(point))) for point in POINTS) == GROWS_IN_NFC


def test_a_character_of_content_has_its_bytes() -> None:
    """No character that counts once takes more bytes of JSON than assumed, in any spelling."""
    longest: dict[str, int] = {}
    for character in map(chr, POINTS):
        written = len(json.dumps(character, ensure_ascii=False).encode()) - 2
        normal = unicodedata.normalize("NFD", character)
        if len(normal) == 1:
            longest[normal] = max(longest.get(normal, 0), written)
    for character in map(chr, POINTS):
        spelled = sum(longest[part] for part in unicodedata.normalize("NFD", character))
        assert spelled <= CONTENT_BYTES


@given(spellings)
@example("e" + "\u0300\u0316" * 15)
@example("e\u0301" * 40)
@example("\u0301" * 30 + "e\u0301")
def test_lengths_are_those_of_the_normal_form(text: str) -> None:
    """The length of ordinary text is the length of its NFC."""
    assert length_in_nfc(text) == len(unicodedata.normalize("NFC", text))


@pytest.mark.parametrize("mark", ["\u0301", "\u0300\u0316", "\u0f73\u0f72", "\u0f73"], ids=ascii)
def test_a_long_run_of_marks_is_not_sorted(mark: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sorting a long run of marks would take quadratic time, so it counts unsorted."""
    text = "e" + mark * 31
    monkeypatch.setattr("messaging_core.characters.is_normalized", lambda form, text: False)
    monkeypatch.setattr("messaging_core.characters.normalize", pytest.fail)
    assert length_in_nfc(text) == len(text)
