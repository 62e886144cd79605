"""Which characters can be seen, and where those that cannot may stand.

Python's `unicodedata` knows the category of a character, and not whether anything is drawn for it; the tables
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

The same in 16.0.0 and 15.1.0. What is not assigned yet is in it too: it will be invisible when it is.
"""

BLANK_SYMBOLS: Final = "\u2800\ufffc\U0001d159\U00013441\U00013442"
"""Symbols and letters by their category, of which nothing is drawn: the Braille pattern without dots, the
place of an object that plain text does not hold, the null note head, and two blank hieroglyphs."""

_UNSEEN_LETTERS = frozenset("\u115f\u1160\u3164\uffa0" + BLANK_SYMBOLS)
"""What is invisible though its category is not: the Hangul fillers, and the above."""

_UNSEEN_CATEGORIES = frozenset(["Cc", "Cf", "Cs", "Zs", "Zl", "Zp", "Mn", "Mc", "Me"])


def is_blank(text: str) -> bool:
    """Whether nothing in the text is visible: white space, controls, fillers, and marks without a base.

    The first visible character decides. One that is not assigned in this Python's Unicode is visible, unless
    it is one of those that never will be.
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
    """Whether an unassigned code point is a noncharacter, or invisible once it is assigned."""
    is_noncharacter = point & 0xFFFE == 0xFFFE or 0xFDD0 <= point <= 0xFDEF
    return is_noncharacter or any(first <= point <= last for first, last in DEFAULT_IGNORABLE)


def _characters(*ranges: tuple[int, int]) -> str:
    """Ranges of code points, as they stand in the brackets of a regular expression."""
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges)


_INVISIBLE = re.compile(f"[{_characters(*DEFAULT_IGNORABLE)}]")

_DIRECTION_MARKS = frozenset("\u200e\u200f\u061c")
"""They order punctuation that stands beside right-to-left letters, and nothing else."""
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
"""What is an emoji with a selector though it lies below all other scripts and emoji that have any."""
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
    """The index of the first character beyond ASCII that cannot be seen in an address, marks excepted."""
    if text.isascii():
        return None
    for index, character in enumerate(text):
        if _INVISIBLE.match(character) or (
            not character.isascii() and _is_unseen(character) and category(character)[0] != "M"
        ):
            return index
    return None


def unsafe_in_name(text: str) -> int | None:
    """The index of the first invisible character that is not needed where it stands.

    A joiner or a selector may follow a character of a script that has them, or an emoji; a mark of direction
    may stand in text with right-to-left letters. A control of direction may not stand anywhere: it reorders
    what is shown beside the name.
    """
    if text.isascii() or _INVISIBLE.search(text) is None:
        return None
    right_to_left = any(bidirectional(character) in {"R", "AL"} for character in text)
    base = before = ""
    for index, character in enumerate(text):
        if not _INVISIBLE.match(character):
            if category(character)[0] != "M":
                base = normalize("NFC", character)[0]  # the Kelvin sign is a K
        elif character in _DIRECTION_MARKS:
            if not right_to_left:
                return index
        elif character == before or not _is_needed(character, base):
            return index
        before = character
    return None


def _is_needed(character: str, base: str) -> bool:
    """Whether an invisible character has its use behind a base and its marks."""
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
    """A character by its number and name, as `U+200B ZERO WIDTH SPACE`."""
    return f"U+{ord(character):04X} {name(character, '')}".rstrip()


SHRINKS = 4
"""No normal form of a text has fewer than a fourth of its code points: none decomposes into more that
compose again."""
GROWS_IN_NFC = 3
"""No text has more than three times as many code points in NFC."""

_LONGEST_RUN = 30
"""Marks behind one another that any script needs, and more: the Stream-Safe Text Format of UAX #15."""
_DECOMPOSE_TO_MARKS = frozenset("\u0f73\u0f75\u0f81")
"""What is no mark by its combining class, and two of them in its normal form."""


def length_in_nfc(text: str) -> int:
    """How many code points the text has in NFC, in time that is linear in its length.

    Normalising takes time by the square of a run of marks: text with a run of more than 30 counts as it is.
    """
    if text.isascii() or is_normalized("NFC", text):
        return len(text)
    run = 0
    for character in text:
        run = run + 1 if combining(character) or character in _DECOMPOSE_TO_MARKS else 0
        if run > _LONGEST_RUN:
            return len(text)
    return len(normalize("NFC", text))
