"""Converts JSON and query strings to commands, and results to JSON; strict input, one form of output.

A command's class is the only description of its input. Values are never coerced, and a refusal names every
wrong field.
"""

import re
import sys
from codecs import BOM_UTF8
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from functools import cache
from itertools import islice
from operator import attrgetter
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import attrs
import msgspec
from cattrs import BaseValidationError, Converter
from cattrs.errors import AttributeValidationNote

from messaging_core.constraints import CONSTRAINT, AllBut, Identifiers, Unset
from messaging_core.errors import FieldError, Invalid
from messaging_core.ids import MAX_ID, ChatId, MessageId, MessageIdOrZero, SessionId, UserId
from messaging_core.limits import Limits

T = TypeVar("T")

IDENTIFIERS = (UserId, SessionId, ChatId, MessageId, MessageIdOrZero)


def least(identifier: Any) -> int:
    """The smallest value of a kind of identifier."""
    return 0 if identifier is MessageIdOrZero else 1


class MalformedJson(Exception):
    """The bytes are not JSON; the message says where."""


class WrongValue(Exception):
    """A value does not have the type of its field; `path` leads to it inside the field, such as `.2`."""

    def __init__(self, code: str, message: str, *, path: str = "") -> None:
        self.code = code
        self.path = path
        super().__init__(message)


class NoChoice(WrongValue):
    """A value is not among those of its enumeration or literal."""

    def __init__(self, choices: Collection[object]) -> None:
        self._choices = choices
        super().__init__("not_allowed", self.but(()))

    def but(self, withheld: Collection[object]) -> str:
        """The error text that lists all choices except the withheld ones."""
        written = [encode(choice).decode() for choice in self._choices if choice not in withheld]
        return f"must be {'one of ' if len(written) > 1 else ''}{', '.join(written)}"


def decode(body: bytes) -> Any:
    """The JSON value of a body; raises `MalformedJson`, also for nesting too deep and for bad UTF-8.

    Raises `Invalid` for a number that no JSON library reads back: 1e999, or an integer of hundreds of digits.
    """
    try:
        return msgspec.json.decode(body)
    except msgspec.ValidationError:
        message = "has a number that is out of range: beyond 1.8e308, or of hundreds of digits"
        raise Invalid(FieldError(_field_of_number(body), "out_of_range", message)) from None
    except RecursionError:
        raise MalformedJson("The body is nested too deeply.") from None
    except UnicodeDecodeError:
        raise MalformedJson(f"The body is not UTF-8 (byte {_bytes_of_utf8(body)}).") from None
    except msgspec.DecodeError as error:
        reason = "the body is empty" if not body.strip() else str(error)
        if body.startswith(BOM_UTF8):
            reason = "it begins with a byte-order mark (EF BB BF); send it without"
        if "truncated" in reason and _HALF_A_PAIR_AT_THE_END.search(body):
            reason = "it ends with half of an escaped surrogate pair"
        raise MalformedJson(f"The body is not JSON: {reason}.") from None


def _field_of_number(body: bytes) -> str:
    """The name of the field with the number that is out of range; "body" where it is not found."""
    with suppress(msgspec.DecodeError):
        for name, value in islice(_fields_decoder.decode(body).items(), FIELDS_SEARCHED):
            try:
                msgspec.json.decode(value)
            except msgspec.ValidationError:
                return name[:NAME_CHARACTERS]
    return "body"


FIELDS_SEARCHED = 100
NAME_CHARACTERS = 100
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])

_HALF_A_PAIR_AT_THE_END = re.compile(rb"(?<!\\)(?:\\\\)*\\u[dD][89abAB][0-9a-fA-F]{2}.{0,5}\Z", re.DOTALL)


def _bytes_of_utf8(body: bytes) -> int:
    """The number of valid bytes before the first invalid one; msgspec counts from the start of a string."""
    try:
        return len(body.decode())
    except UnicodeDecodeError as error:
        return error.start


def encode(value: object) -> bytes:
    """The JSON of a view or a plain value: times in RFC 3339 with `Z`, without white space."""
    return _encoder.encode(value)


def joined(arrays: Sequence[bytes], before: bytes = b"", after: bytes = b"") -> bytes:
    """Joins encoded arrays into one, between the bytes `before` and `after`; copies once."""
    if len(arrays) == 1 and not before and not after:
        return arrays[0]
    pieces: list[bytes | memoryview] = [before]
    separator = b"["
    for array in arrays:
        if array != b"[]":
            pieces += (separator, memoryview(array)[1:-1])
            separator = b","
    return b"".join((*pieces, b"]" if separator == b"," else b"[]", after))


def canonical(command: attrs.AttrsInstance) -> bytes:
    """The encoding of a command without secrets, the same for every spelling of the request's body.

    A field that has its default is left out, so that a release which adds an optional one changes nothing.
    """
    names, defaults, values_of = _fields_by_default(type(command))
    given = {
        name: value
        for name, default, value in zip(names, defaults, values_of(command), strict=True)
        if value is not default and value != default
    }
    return _canonical_encoder.encode(given)


@cache
def _fields_by_default(
    command: type[attrs.AttrsInstance],
) -> tuple[tuple[str, ...], tuple[object, ...], Callable[[attrs.AttrsInstance], tuple[object, ...]]]:
    """The fields that are not secret, their defaults, and the getter of their values."""
    fields = [each for each in attrs.fields(command) if each.repr]
    names = tuple([each.name for each in fields])
    if len(names) == 1:
        return names, (fields[0].default,), lambda command: (getattr(command, names[0]),)
    values_of = attrgetter(*names) if names else lambda _: ()
    return names, tuple([each.default for each in fields]), values_of


def structure(values: object, command: type[T], limits: Limits) -> T:
    """A command from decoded JSON; raises `Invalid`, which names every field that is missing or wrong.

    A list beyond its bound in `limits` is cut to one entry more than the bound: enough for the refusal.
    """
    if not isinstance(values, dict):
        raise Invalid(FieldError("body", "wrong_type", "must be a JSON object"))
    for name, bound in _lists(cast("Hashable", command)):
        maximum = getattr(limits, bound)
        if isinstance(value := values.get(name), list) and len(value) > maximum:
            values = {**values, name: value[: maximum + 1]}
    try:
        return _converter.structure(values, command)
    except BaseValidationError as error:
        raise Invalid(*_field_errors(error, command)) from None


@cache
def _lists(command: Any) -> tuple[tuple[str, str], ...]:
    """The command's fields that are lists, each with the name of the bound of its length."""
    constraints = ((each.name, each.metadata.get(CONSTRAINT)) for each in attrs.fields(command))
    return tuple((name, found.maximum) for name, found in constraints if isinstance(found, Identifiers))


def from_strings(values: Mapping[str, str], command: type[attrs.AttrsInstance]) -> dict[str, object]:
    """Path and query values, with well-formed values of integer fields as integers."""
    if not values:
        return {}
    integers = integer_fields(command)
    return {
        name: int(value) if name in integers and _INTEGER.fullmatch(value) else value
        for name, value in values.items()
    }


_INTEGER = re.compile(f"-?[0-9]{{1,{sys.int_info.str_digits_check_threshold}}}")
"""With at most as many digits as `int` accepts under every setting of the interpreter."""


@cache
def integer_fields(command: type[attrs.AttrsInstance]) -> frozenset[str]:
    """The names of the command's integer fields."""
    return frozenset(name for name, type_ in get_type_hints(command).items() if _is_integer(type_))


def _is_integer(type_: Any) -> bool:
    return any(part is int or part in IDENTIFIERS for part in without_none(type_))


def without_none(type_: Any) -> tuple[Any, ...]:
    """The alternatives of a type for a JSON value other than null."""
    if get_origin(type_) in (Union, UnionType):
        return tuple(part for part in get_args(type_) if part not in (NoneType, Unset))
    return (type_,)


def _field_errors(error: BaseValidationError, command: Any) -> Iterator[FieldError]:
    for cause in error.exceptions:
        (note,) = (n for n in cause.__notes__ if isinstance(n, AttributeValidationNote))
        match cause:
            case NoChoice():
                constraint = attrs.fields_dict(command)[note.name].metadata.get(CONSTRAINT)
                withheld = constraint.values if isinstance(constraint, AllBut) else ()
                yield FieldError(note.name, cause.code, cause.but(withheld))
            case WrongValue():
                yield FieldError(note.name + cause.path, cause.code, str(cause))
            case KeyError():
                yield FieldError(note.name, "required", "is required")
            case _:
                raise cause


def _strict(type_: type, name: str) -> Any:
    def hook(value: object, _: Any) -> object:
        if type(value) is not type_:
            raise WrongValue("wrong_type", f"must be {name}")
        return value

    return hook


def _identifier(minimum: int) -> Any:
    def hook(value: object, _: Any) -> int:
        if type(value) is not int:
            raise WrongValue("wrong_type", "must be an integer")
        if not minimum <= value <= MAX_ID:
            raise WrongValue("out_of_range", f"must be {minimum} to {MAX_ID}")
        return value

    return hook


def _choice(value: object, type_: Any) -> object:
    choices = _choices(type_)
    choice = choices.get(value) if isinstance(value, (str, int)) else None
    if choice is not None and type(value) in (type(choice), str):
        return choice
    raise NoChoice(choices.values())


@cache
def _choices(type_: Any) -> Mapping[object, Any]:
    return {choice: choice for choice in (get_args(type_) if get_origin(type_) is Literal else type_)}


def _object(value: object, _: Any) -> object:
    if not isinstance(value, dict):
        raise WrongValue("wrong_type", "must be a JSON object")
    return value


def _has_origin(*origins: Any) -> Callable[[Any], bool]:
    return lambda type_: get_origin(type_) in origins


def _make_converter() -> Converter:
    converter = Converter(detailed_validation=True)
    converter.register_structure_hook(int, _strict(int, "an integer"))
    converter.register_structure_hook(str, _strict(str, "a string"))
    converter.register_structure_hook(bool, _strict(bool, "true or false"))
    for identifier in IDENTIFIERS:
        converter.register_structure_hook(identifier, _identifier(least(identifier)))
    # By class: a predicate would rank after the hook for str, a base of StrEnum.
    converter.register_structure_hook(StrEnum, _choice)
    converter.register_structure_hook_func(_has_origin(Literal), _choice)
    converter.register_structure_hook_func(_has_origin(Mapping), _object)

    def union(type_: Any) -> Any:
        nullable = NoneType in get_args(type_)
        (inner,) = without_none(type_)

        def hook(value: object, _: Any) -> object:
            if value is None and nullable:
                return None
            return converter.structure(value, inner)

        return hook

    def array(type_: Any) -> Any:
        inner = get_args(type_)[0]

        def hook(value: object, _: Any) -> object:
            if not isinstance(value, list):
                raise WrongValue("wrong_type", "must be an array")
            return tuple(_item(converter, item, inner, position) for position, item in enumerate(value))

        return hook

    converter.register_structure_hook_factory(_has_origin(Union, UnionType), union)
    converter.register_structure_hook_factory(_has_origin(tuple), array)
    return converter


def _item(converter: Converter, item: object, type_: Any, position: int) -> object:
    try:
        return converter.structure(item, type_)
    except WrongValue as error:
        raise WrongValue(error.code, str(error), path=f".{position}") from None


_converter = _make_converter()
_encoder = msgspec.json.Encoder()
_canonical_encoder = msgspec.json.Encoder(order="sorted")
