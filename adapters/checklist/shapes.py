"""The JSON shapes that a frontend relies on, and how a value differs from a shape."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from adapters.checklist.phrases import Phrase, verbatim

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
GREATEST_ID = 2**53 - 1
"""The largest integer that JavaScript represents exactly."""
TYPES = frozenset({"text", "voice", "image", "video", "file", "system"})

Check = tuple[Callable[[Any], bool], Phrase]


def is_id(value: Any) -> bool:
    """Whether this is a positive integer that JavaScript represents exactly."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= GREATEST_ID


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_time(value: Any) -> bool:
    return isinstance(value, str) and TIME.fullmatch(value) is not None


ID: Check = (is_id, Phrase("a positive integer", "целое положительное число"))
TEXT: Check = (_is_text, Phrase("a non-empty string", "непустая строка"))
TEXT_OR_NULL: Check = (
    lambda v: v is None or isinstance(v, str),
    Phrase("a string or null", "строка или null"),
)
MOMENT: Check = (_is_time, Phrase("UTC such as 2024-11-04T14:30:00Z", "UTC вида 2024-11-04T14:30:00Z"))
TRUTH: Check = (lambda v: isinstance(v, bool), verbatim("true / false"))
OBJECT_OR_NULL: Check = (
    lambda v: v is None or isinstance(v, dict),
    Phrase("an object or null", "объект или null"),
)
KIND: Check = (lambda v: v in TYPES, Phrase("a message type", "тип сообщения"))

OWN_USER: Mapping[str, Check] = {
    "id": ID,
    "email": TEXT,
    "display_name": TEXT,
    "tag": TEXT,
    "avatar_url": TEXT_OR_NULL,
    "created_at": MOMENT,
}
USER: Mapping[str, Check] = {**OWN_USER, "email": TEXT_OR_NULL}
"""Any user: a server may hide the e-mail of others."""
CHAT: Mapping[str, Check] = {
    "id": ID,
    "title": (lambda v: isinstance(v, str), Phrase("a string", "строка")),
    "is_group": TRUTH,
    "created_at": MOMENT,
}
"""Without `participants`, which rows C5 and C8 compare separately."""
MESSAGE: Mapping[str, Check] = {
    "id": ID,
    "chat_id": ID,
    "author_id": ID,
    "type": KIND,
    "content": TEXT_OR_NULL,
    "payload": OBJECT_OR_NULL,
    "ts": MOMENT,
}


def differences(value: Any, shape: Mapping[str, Check]) -> list[Phrase]:
    """How the value differs from an object of this shape; additional keys are no difference."""
    if not isinstance(value, dict):
        return [Phrase(f"{brief(value)}, not an object", f"не объект, а {brief(value)}")]
    missing = [key for key in shape if key not in value]
    found = []
    if missing:
        names = ", ".join(missing)
        found.append(Phrase(f"without {names}", f"нет {names}"))
    for key, (fits, wanted) in shape.items():
        if key in value and not fits(value[key]):
            actual = f"{key} = {brief(value[key])}"
            found.append(Phrase(f"{actual}, not {wanted.en}", f"{actual}, а нужно: {wanted.ru}"))
    return found


def brief(value: Any) -> str:
    """The value in at most 60 characters."""
    match value:
        case dict() if value:
            return "{…}"
        case list() if value and not all(isinstance(one, int | str) for one in value):
            return "[…]"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
