"""Which characters are visible, and where invisible ones are allowed.

Python's `unicodedata` knows a character's category, but not whether anything is drawn for it; the tables
below add that.
"""

import re
from typing import Final
from unicodedata import bidirectional, category, combining, is_normalized, name, normalize

DEFAULT_IGNORABLE: Final = (
    (0x00AD, 0x00AD),
    (0x034F, 0x034F),
    (0x061C, 0x061C),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x200B, 0x200F),
    (0x202A, 0x202E),
    (0x2060, 0x206F),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0),
    (0xFFF0, 0xFFF8),
    (0x1BCA0, 0x1BCA3),
    (0x1D173, 0x1D17A),
    (0xE0000, 0xE0FFF),
)
"""First and last code points of Default_Ignorable_Code_Point: DerivedCoreProperties.txt, Unicode 17.0.0.

The same in 16.0.0 and 15.1.0. It includes unassigned code points, which will be invisible once assigned.
"""

BLANK_SYMBOLS: Final = "\u2800\ufffc\U0001d159\U00013441\U00013442"
"""Characters with the category of a symbol or letter for which nothing is drawn: the Braille pattern without
dots, the object replacement character, the null note head, and two blank hieroglyphs."""

_UNSEEN_LETTERS = frozenset("\u115f\u1160\u3164\uffa0" + BLANK_SYMBOLS)
"""Invisible characters whose category is a visible one: the Hangul fillers, and the blank symbols."""

_UNSEEN_CATEGORIES = frozenset(["Cc", "Cf", "Cs", "Zs", "Zl", "Zp", "Mn", "Mc", "Me"])


def is_blank(text: str) -> bool:
    """Whether nothing in the text is visible: white space, controls, fillers, and marks without a base.

    The search stops at the first visible character. A character that is unassigned in this Python's Unicode
    counts as visible, unless it will never be visible.
    """
    if "!" <= text[:1] <= "~":  # most texts
        return False
    return all(_is_unseen(character) for character in text)


def _is_unseen(character: str) -> bool:
    kind = category(character)
    if kind in _UNSEEN_CATEGORIES or character in _UNSEEN_LETTERS:
        return True
    return kind == "Cn" and _is_never_seen(ord(character))


def _is_never_seen(point: int) -> bool:
    """Whether an unassigned code point is a noncharacter, or will be invisible once it is assigned."""
    is_noncharacter = point & 0xFFFE == 0xFFFE or 0xFDD0 <= point <= 0xFDEF
    return is_noncharacter or any(first <= point <= last for first, last in DEFAULT_IGNORABLE)


def _characters(*ranges: tuple[int, int]) -> str:
    """Ranges of code points, written for the brackets of a regular expression."""
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges)


_INVISIBLE = re.compile(f"[{_characters(*DEFAULT_IGNORABLE)}\u2800\ufff9-\ufffc]")
"""The default-ignorable ones, the empty Braille pattern, and the controls of annotations and objects."""

_DIRECTION_MARKS = frozenset("\u200e\u200f\u061c")
"""They order punctuation beside right-to-left letters, and do nothing else."""
_JOINERS = frozenset("\u034f\u200b\u200c\u200d")
"""The joiner and the non-joiner of Arabic and Indic scripts and of emoji, the word break of Khmer and Thai,
the grapheme joiner of Hebrew."""
_SELECTORS = re.compile("[\u180b-\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""They choose how the character before them is drawn."""
_EMOJI_SELECTORS = frozenset("\ufe0e\ufe0f")
_TAGS = re.compile("[\U000e0020-\U000e007f]")
"""They spell the region of a flag."""
_FLAG = "\U0001f3f4"

_EMOJI_BELOW = frozenset("#*0123456789©®")
"""Characters that a selector turns into emoji, although they are in a range without selectors."""
_WITHOUT_SELECTORS = ((0x0000, 0x058F),)
"""Latin, Greek, Cyrillic, Armenian."""
_WITHOUT_JOINERS = (
    *_WITHOUT_SELECTORS,
    (0x1100, 0x11FF),
    (0x2E80, 0x9FFF),
    (0xA960, 0xA97F),
    (0xAC00, 0xD7FF),
    (0xF900, 0xFAFF),
    (0xFF00, 0xFFEF),
    (0x20000, 0x3FFFF),
)
"""These, and Chinese, Japanese and Korean."""


def unsafe_in_address(text: str) -> int | None:
    """The index of the first invisible character beyond ASCII in an address, except for marks."""
    if text.isascii():
        return None
    for index, character in enumerate(text):
        if _INVISIBLE.match(character) or (
            not character.isascii() and _is_unseen(character) and category(character)[0] != "M"
        ):
            return index
    return None


def unsafe_in_name(text: str) -> int | None:
    """The index of the first invisible character that has no function at its position.

    A joiner or a selector may follow a character of a script that uses them, or an emoji. A direction mark
    may appear, one at a time, in text with right-to-left letters. A direction control may appear nowhere: it
    reorders the text beside the name.
    """
    if text.isascii() or _INVISIBLE.search(text) is None:
        return None
    right_to_left = any(
        bidirectional(character) in {"R", "AL"} and character not in _DIRECTION_MARKS for character in text
    )
    base = before = ""
    for index, character in enumerate(text):
        if not _INVISIBLE.match(character):
            if category(character)[0] != "M":
                base = normalize("NFC", character)[0]  # the Kelvin sign is a K
        elif character in _DIRECTION_MARKS:
            if not right_to_left or before in _DIRECTION_MARKS:
                return index
        elif character == before or not _is_needed(character, base):
            return index
        before = character
    return None


def _is_needed(character: str, base: str) -> bool:
    """Whether an invisible character has a function after a base and its marks."""
    if not base or category(base)[0] == "Z":
        return False
    if character in _JOINERS:
        return category(base)[0] != "P" and not _lies_in(base, _WITHOUT_JOINERS)
    if _SELECTORS.match(character):
        is_emoji = base in _EMOJI_BELOW and character in _EMOJI_SELECTORS
        return is_emoji or not _lies_in(base, _WITHOUT_SELECTORS)
    return base == _FLAG and _TAGS.match(character) is not None


def _lies_in(character: str, ranges: tuple[tuple[int, int], ...]) -> bool:
    return any(first <= ord(character) <= last for first, last in ranges)


def described(character: str) -> str:
    """A character's number and name, such as `U+200B ZERO WIDTH SPACE`."""
    return f"U+{ord(character):04X} {name(character, '')}".rstrip()


SHRINKS = 4
"""A normal form of a text has at least a fourth of its code points: no character decomposes into more than
four that compose again."""
GROWS_IN_NFC = 3
"""A text has at most three times as many code points in NFC."""

_LONGEST_RUN = 30
"""The most consecutive marks, more than any script needs (UAX #15, Stream-Safe Text Format)."""
_DECOMPOSE_TO_MARKS = frozenset("\u0f73\u0f75\u0f81")
"""Characters with combining class 0 whose normal form is two marks."""


def length_in_nfc(text: str) -> int:
    """The number of code points of the text in NFC, computed in time linear in its length.

    Normalising a run of marks takes quadratic time, so text with a run of more than 30 is counted as sent.
    """
    if text.isascii() or is_normalized("NFC", text):
        return len(text)
    run = 0
    for character in text:
        run = run + 1 if combining(character) or character in _DECOMPOSE_TO_MARKS else 0
        if run > _LONGEST_RUN:
            return len(text)
    return len(normalize("NFC", text))
