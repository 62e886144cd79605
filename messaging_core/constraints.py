"""Constraints on values of the right type, each declared once on the field that it binds.

A command's fields carry their constraints as attrs metadata: `check` applies them, and a transport
writes the same bounds into its schema. A bound is the name of a number in `Limits`.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum, auto
from math import isfinite
from typing import Any, Final, TypeVar, assert_never, cast
from unicodedata import normalize

from attrs import AttrsInstance, evolve, fields, frozen

from messaging_core.characters import (
    GROWS_IN_NFC,
    SHRINKS,
    described,
    is_blank,
    length_in_nfc,
    unsafe_in_address,
    unsafe_in_name,
)
from messaging_core.errors import FieldError, Invalid
from messaging_core.limits import Limits

C = TypeVar("C", bound=AttrsInstance)

CONSTRAINT = "messaging_core.constraint"
"""The metadata key under which a field holds its constraint."""


class Unset(Enum):
    """The type of `UNSET`: the field was not sent, which is not the same as null."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET


class NormalForm(Enum):
    """How a text is normalised before it is measured, compared and stored."""

    AS_SENT = auto()
    """Not at all: it is measured and stored as sent."""
    COUNTED = auto()
    """It is stored as sent, and measured in NFC: spellings that look alike count alike."""
    NAME = auto()
    """NFC, without white space at its ends, and with invisible characters only where a script or an emoji
    needs them."""
    ADDRESS = auto()
    """NFC, without invisible characters."""
    URL = auto()
    """As sent, without invisible characters: another form might be another resource."""
    SECRET = auto()
    """NFKC (NIST SP 800-63B 5.1.1.2): the same keys give the same secret on every device."""


@frozen
class Text:
    """A string of `minimum` to `maximum` code points in its normal form that PostgreSQL and UTF-8 can hold.

    A string of more than four times the maximum is refused before it is normalised: no form is that much
    shorter, and normalising takes time.
    """

    maximum: str
    minimum: str | None = None
    form: NormalForm = NormalForm.AS_SENT
    any_spelling: bool = False
    """Whether the text is only compared with a text that was measured before: any spelling of that passes."""
    lines: bool = False
    """Whether line breaks and other control characters are allowed."""
    blank: bool = False
    """Whether it may be empty or invisible."""
    pattern: str | None = None
    """A regular expression, in the dialect that Python and JavaScript share, for the whole string."""
    expected: str = ""
    """What a value must be, for the error text where it does not match the pattern."""
    example: str | None = ""
    """A value for the API's description, where readers can try it out."""


@frozen
class Identifiers:
    """A list of at most `maximum` identifiers."""

    maximum: str


@frozen
class JsonObject:
    """A JSON object of at most `bytes_maximum` UTF-8 bytes and `depth_maximum` levels.

    Its numbers are finite and its integers fit in signed 64 bits, so that every JSON library and every
    storage reads them back.
    """

    bytes_maximum: str
    depth_maximum: str


@frozen
class Count:
    """An integer from 1 to `maximum`."""

    maximum: str


@frozen
class AllBut:
    """Any value of an enumeration except those in `values`, which clients must not send."""

    values: tuple[Enum, ...]
    expected: str
    """The error text for one of them."""


Constraint = Text | Identifiers | JsonObject | Count | AllBut


def constrained(constraint: Constraint) -> dict[str, Constraint]:
    """The metadata for an attrs field that `constraint` binds."""
    return {CONSTRAINT: constraint}


def check(command: C, limits: Limits) -> C:
    """The command with every text in its normal form.

    None and `UNSET` pass. Checking again changes nothing. Raises `Invalid`, naming each field that breaks a
    constraint.
    """
    errors: list[FieldError] = []
    changed: dict[str, str] = {}
    for attribute in fields(type(command)):
        constraint: Constraint | None = attribute.metadata.get(CONSTRAINT)
        value = getattr(command, attribute.name)
        if constraint is None or value is None or value is UNSET:
            continue
        if isinstance(constraint, Text):
            normal, found = _text(constraint, value, limits)
            if normal is not value:
                changed[attribute.name] = normal
        else:
            found = _violation(constraint, value, limits)
        if found is not None:
            code, message, *path = found
            errors.append(FieldError("".join([attribute.name, *path]), code, message))
    if errors:
        raise Invalid(*errors)
    return cast("C", evolve(cast("Any", command), **changed)) if changed else command


_Violation = tuple[str, str] | tuple[str, str, str]
"""A code, a message, and the path inside the value, such as `.a.0`."""


def _violation(
    constraint: Identifiers | JsonObject | Count | AllBut, value: Any, limits: Limits
) -> _Violation | None:
    match constraint:
        case Identifiers():
            maximum = getattr(limits, constraint.maximum)
            return ("too_long", f"has more than {maximum} entries") if len(value) > maximum else None
        case Count():
            maximum = getattr(limits, constraint.maximum)
            return None if 1 <= value <= maximum else ("out_of_range", f"must be 1 to {maximum}")
        case JsonObject():
            return _json_violation(constraint, value, limits)
        case AllBut():
            return ("not_allowed", constraint.expected) if value in constraint.values else None
        case _:
            assert_never(constraint)


_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def longest_as_sent(constraint: Text, limits: Limits) -> int:
    """The most code points that a text may have before it is normalised, without white space at its ends."""
    maximum: int = getattr(limits, constraint.maximum)
    is_measured_as_sent = constraint.form in _AS_SENT and not constraint.any_spelling
    return maximum if is_measured_as_sent else SHRINKS * maximum


def _text(constraint: Text, sent: str, limits: Limits) -> tuple[str, _Violation | None]:
    """A text in its normal form, and its violation of the constraint."""
    maximum = getattr(limits, constraint.maximum)
    form = constraint.form
    value, start = sent, 0
    if form is _NAME:
        value = sent.lstrip()
        start = len(sent) - len(value)
        value = value.rstrip()
    if len(value) > maximum and len(value) > longest_as_sent(constraint, limits):
        return sent, _too_long(len(value), maximum)
    found = _character_violation(constraint, value, start)
    if found is not None:
        return sent, found
    if form is _COUNTED:  # most texts
        length = length_in_nfc(value) if len(value) * GROWS_IN_NFC > maximum else len(value)
    else:
        value = normalised(form, value)
        length = len(value)
    if length > maximum and not constraint.any_spelling:
        return sent, _too_long(length, maximum)
    if constraint.blank and constraint.minimum is None and constraint.pattern is None:
        return value, None
    return value, _shortness(constraint, sent, value, limits) or _shape_violation(constraint, value)


_COUNTED = NormalForm.COUNTED
_NAME = NormalForm.NAME
_ADDRESSES = frozenset([NormalForm.ADDRESS, NormalForm.URL])
_AS_SENT = frozenset([NormalForm.AS_SENT, NormalForm.URL])


def normalised(form: NormalForm, text: str) -> str:
    """A text in its normal form; normalising it again changes nothing."""
    match form:
        case NormalForm.AS_SENT | NormalForm.COUNTED | NormalForm.URL:
            return text
        case NormalForm.NAME:
            return normalize("NFC", text.strip())
        case NormalForm.ADDRESS:
            return normalize("NFC", text)
        case NormalForm.SECRET:
            return normalize("NFKC", text)
        case _:
            assert_never(form)


def _too_long(length: int, maximum: int) -> tuple[str, str]:
    return "too_long", f"has {_characters(length)}, at most {maximum} are allowed"


def _characters(count: int) -> str:
    return "1 character" if count == 1 else f"{count} characters"


def _shortness(constraint: Text, sent: str, value: str, limits: Limits) -> _Violation | None:
    if not sent and not constraint.blank:
        return "too_short", "is empty"
    if not constraint.minimum:
        return None
    minimum = getattr(limits, constraint.minimum)
    # A ligature that normalises to eight letters was typed as one, and a letter with its accent counts as
    # one.
    length = min(len(sent), len(value))
    if length >= minimum:
        return None
    return "too_short", f"has {_characters(length)}, at least {minimum} are needed" if sent else "is empty"


def _character_violation(constraint: Text, value: str, start: int) -> _Violation | None:
    if _UNSTORABLE.search(value):
        return "unstorable_character", "has a NUL character or half a surrogate pair"
    if not constraint.lines and _CONTROL.search(value):
        return "control_character", "has a control character or a line break"
    if constraint.form is _NAME:
        index = unsafe_in_name(value)
    elif constraint.form in _ADDRESSES:
        index = unsafe_in_address(value)
    else:
        return None
    # A blank name is reported as blank, by `_shape_violation`.
    if index is None or (constraint.form is _NAME and is_blank(value)):
        return None
    position = start + index + 1
    return (
        "invisible_character",
        f"has the invisible character {described(value[index])} at position {position}",
    )


def _shape_violation(constraint: Text, value: str) -> _Violation | None:
    if not constraint.blank and is_blank(value):
        return "blank", "is blank"
    if constraint.pattern and not re.fullmatch(constraint.pattern, value):
        return "malformed", f"must be {constraint.expected}"
    return None


INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1

PATH_CHARACTERS = 100
"""The longest path that a refusal names; a longer one is cut after as many characters."""


def _json_violation(constraint: JsonObject, value: Mapping[str, Any], limits: Limits) -> _Violation | None:
    deepest = getattr(limits, constraint.depth_maximum)
    maximum = getattr(limits, constraint.bytes_maximum)
    least = 0
    for item, level in _items(value):
        least += _least_bytes(item)
        if least > maximum:
            return _too_many_bytes(maximum)
        found = _item_violation(item, level, deepest)
        if found is not None:
            return (*found, _path(value, item))
    encoded = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _too_many_bytes(maximum) if len(encoded.encode()) > maximum else None


def _too_many_bytes(maximum: int) -> tuple[str, str]:
    return "too_long", f"has more than {maximum} bytes as JSON"


def _least_bytes(item: Any) -> int:
    """A lower bound of an item's bytes, from its length alone: an entry takes two bytes, with its comma."""
    if isinstance(item, str):
        return len(item)
    return 2 * len(item) if isinstance(item, (Mapping, Sequence)) else 0


def _item_violation(item: Any, level: int, deepest: int) -> _Violation | None:
    if isinstance(item, str):
        if _UNSTORABLE.search(item):
            return "unstorable_character", "has a NUL character or half a surrogate pair"
    elif isinstance(item, float):
        if not isfinite(item):
            return "out_of_range", "must be a number that JSON can hold"
    elif isinstance(item, int):
        if not INT64_MIN <= item <= INT64_MAX:
            return "out_of_range", f"must be {INT64_MIN} to {INT64_MAX} (signed 64 bits), or a string"
    elif item is not None and level > deepest:
        return "too_deep", f"is nested deeper than {deepest} levels"
    return None


def _items(value: Any) -> Iterator[tuple[Any, int]]:
    """Yields every key and value in `value`, itself first, with its nesting level; without recursion.

    The parts of an item are read only when the caller asks for the next item.
    """
    pending = [(value, 1)]
    while pending:
        item, level = pending.pop()
        yield item, level
        if isinstance(item, Mapping):
            pending.extend((part, level + 1) for pair in item.items() for part in pair)
        elif isinstance(item, Sequence) and not isinstance(item, str):
            pending.extend((part, level + 1) for part in item)


def _path(value: Any, wanted: Any) -> str:
    """The path to this very object in `value`, such as `.a.0`; for a key, the path to its object."""
    pending: list[tuple[Any, _Step | None]] = []
    item, step = value, None
    while item is not wanted:
        if isinstance(item, Mapping):
            pending.extend((part, (key, step)) for key, part in item.items())
            pending.extend((key, step) for key in item)
        elif isinstance(item, Sequence) and not isinstance(item, str):
            pending.extend((part, (position, step)) for position, part in enumerate(item))
        item, step = pending.pop()
    return _joined(step)


_Step = tuple[str | int, Any]
"""A key or a position, and the step before it."""


def _joined(step: _Step | None) -> str:
    parts: list[str] = []
    while step is not None:
        part, step = step
        parts.append(f".{_UNSTORABLE.sub('?', str(part))}")
    return "".join(reversed(parts))[:PATH_CHARACTERS]
