"""What a value of the right type must also satisfy, declared once on the field that it binds.

A command's fields carry their constraints as attrs metadata: `check` applies them, and a transport
writes the same bounds into its schema. A bound is the name of a number in `Limits`.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from math import isfinite
from typing import Any, Final, assert_never
from unicodedata import category

from attrs import AttrsInstance, fields, frozen

from messaging_core.errors import FieldError, Invalid
from messaging_core.limits import Limits

CONSTRAINT = "messaging_core.constraint"
"""The metadata key under which a field holds its constraint."""


class Unset(Enum):
    """The type of `UNSET`: the field was not sent, which is not the same as null."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET


@frozen
class Text:
    """A string of `minimum` to `maximum` code points that PostgreSQL and UTF-8 can hold."""

    maximum: str
    minimum: str | None = None
    lines: bool = False
    """Whether line breaks and other control characters may stand in it."""
    blank: bool = False
    """Whether it may be empty or invisible."""
    pattern: str | None = None
    """A regular expression, in the dialect that Python and JavaScript share, for the whole string."""
    expected: str = ""
    """What to tell a person whose value does not match the pattern."""
    example: str = ""
    """A value that a reader of the API's description can try out."""


@frozen
class Identifiers:
    """A list of at most `maximum` identifiers."""

    maximum: str


@frozen
class JsonObject:
    """A JSON object of at most `bytes_maximum` UTF-8 bytes and `depth_maximum` levels.

    Its numbers are finite and its integers fit in signed 64 bits: what every JSON library, and every storage,
    reads back.
    """

    bytes_maximum: str
    depth_maximum: str


@frozen
class Count:
    """An integer from 1 to `maximum`."""

    maximum: str


@frozen
class AllBut:
    """Any value of an enumeration but those that nobody may ask for."""

    values: tuple[Enum, ...]
    expected: str
    """What to tell a person who asks for one."""


Constraint = Text | Identifiers | JsonObject | Count | AllBut


def constrained(constraint: Constraint) -> dict[str, Constraint]:
    """The metadata of an attrs field that `constraint` binds."""
    return {CONSTRAINT: constraint}


def check(command: AttrsInstance, limits: Limits) -> None:
    """Raise `Invalid`, naming every field of `command` that breaks its constraint; None and `UNSET` pass."""
    errors: list[FieldError] = []
    for attribute in fields(type(command)):
        constraint: Constraint | None = attribute.metadata.get(CONSTRAINT)
        value = getattr(command, attribute.name)
        if constraint is not None and value is not None and value is not UNSET:
            found = _violation(constraint, value, limits)
            if found is not None:
                code, message, *place = found
                errors.append(FieldError("".join([attribute.name, *place]), code, message))
    if errors:
        raise Invalid(*errors)


_Violation = tuple[str, str] | tuple[str, str, str]
"""A code, a message, and the place inside the value, such as `.a.0`."""


def _violation(constraint: Constraint, value: Any, limits: Limits) -> _Violation | None:
    match constraint:
        case Text():
            return _text_violation(constraint, value, limits)
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


def _text_violation(constraint: Text, value: str, limits: Limits) -> tuple[str, str] | None:
    maximum = getattr(limits, constraint.maximum)
    minimum = getattr(limits, constraint.minimum) if constraint.minimum else int(not constraint.blank)
    if len(value) > maximum:
        return "too_long", f"has {len(value)} characters, at most {maximum} are allowed"
    if len(value) < minimum:
        told = f"has {len(value)} characters, at least {minimum} are needed"
        return "too_short", told if value else "is empty"
    if _UNSTORABLE.search(value):
        return "unstorable_character", "has a NUL character or half a surrogate pair"
    if not constraint.lines and _CONTROL.search(value):
        return "control_character", "has a control character or a line break"
    if not constraint.blank and is_blank(value):
        return "blank", "is blank"
    if constraint.pattern and not re.fullmatch(constraint.pattern, value):
        return "malformed", f"must be {constraint.expected}"
    return None


def is_blank(text: str) -> bool:
    """Whether nothing in the text is visible: white space, control and format characters only."""
    return all(category(character)[0] in "CZ" for character in text)


INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1

PLACE_CHARACTERS = 100
"""The longest place that is named; of a longer one this much, from its beginning."""


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
            return (*found, _place(value, item))
    encoded = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _too_many_bytes(maximum) if len(encoded.encode()) > maximum else None


def _too_many_bytes(maximum: int) -> tuple[str, str]:
    return "too_long", f"has more than {maximum} bytes as JSON"


def _least_bytes(item: Any) -> int:
    """What an item takes at least, told by its length alone: an entry takes two bytes, with its comma."""
    if isinstance(item, str):
        return len(item)
    return 2 * len(item) if isinstance(item, (Mapping, Sequence)) else 0


def _item_violation(item: Any, level: int, deepest: int) -> tuple[str, str] | None:
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
    """Every key and value in `value`, itself first, with the level on which it stands; without recursion.

    The parts of an item are not looked at before the next is asked for.
    """
    pending = [(value, 1)]
    while pending:
        item, level = pending.pop()
        yield item, level
        if isinstance(item, Mapping):
            pending.extend((part, level + 1) for pair in item.items() for part in pair)
        elif isinstance(item, Sequence) and not isinstance(item, str):
            pending.extend((part, level + 1) for part in item)


def _place(value: Any, wanted: Any) -> str:
    """Where in `value` this very object stands, such as `.a.0`; for a key, where its object stands."""
    pending: list[tuple[Any, _Step | None]] = [(value, None)]
    while pending:
        item, step = pending.pop()
        if item is wanted:
            return _spelled(step)
        if isinstance(item, Mapping):
            pending.extend((part, (key, step)) for key, part in item.items())
            pending.extend((key, step) for key in item)
        elif isinstance(item, Sequence) and not isinstance(item, str):
            pending.extend((part, (position, step)) for position, part in enumerate(item))
    return ""


_Step = tuple[str | int, Any]
"""A key or a position, and the step before it."""


def _spelled(step: _Step | None) -> str:
    parts: list[str] = []
    while step is not None:
        part, step = step
        parts.append(f".{_UNSTORABLE.sub('?', str(part))}")
    return "".join(reversed(parts))[:PLACE_CHARACTERS]
