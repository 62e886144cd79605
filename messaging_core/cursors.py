"""Cursors: positions in a list, as opaque text for clients; they contain no secret."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable

from messaging_core.errors import FieldError, Invalid


def encode_cursor(numbers: Iterable[int]) -> str:
    """The cursor of a position."""
    return urlsafe_b64encode(".".join(map(str, numbers)).encode()).decode().rstrip("=")


def decode_cursor(text: str, count: int) -> tuple[int, ...]:
    """The position of a cursor that has `count` numbers; raises `Invalid`."""
    try:
        decoded = urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4)).decode()
        numbers = tuple(map(int, decoded.split(".")))
    except ValueError:
        raise malformed_cursor() from None
    if len(numbers) != count or encode_cursor(numbers) != text:
        raise malformed_cursor()
    return numbers


def malformed_cursor() -> Invalid:
    return Invalid(FieldError("cursor", "malformed", "must be the next_cursor of the page above"))
