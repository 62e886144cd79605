"""The forms that a frontend relies on, and how a value differs from one, in a few words."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from adapters.checklist.words import Text, same

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
GREATEST_ID = 2**53 - 1
"""The largest number that JavaScript holds exactly."""
TYPES = frozenset({"text", "voice", "image", "video", "file", "system"})

Check = tuple[Callable[[Any], bool], Text]


def is_id(value: Any) -> bool:
    """A positive integer that JavaScript can hold."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= GREATEST_ID


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_time(value: Any) -> bool:
    return isinstance(value, str) and TIME.fullmatch(value) is not None


ID: Check = (is_id, Text("a positive integer", "целое положительное число"))
TEXT: Check = (_is_text, Text("a string that is not empty", "непустая строка"))
TEXT_OR_NULL: Check = (lambda v: v is None or isinstance(v, str), Text("a string or null", "строка или null"))
MOMENT: Check = (_is_time, Text("UTC like 2024-11-04T14:30:00Z", "UTC вида 2024-11-04T14:30:00Z"))
TRUTH: Check = (lambda v: isinstance(v, bool), same("true / false"))
OBJECT_OR_NULL: Check = (
    lambda v: v is None or isinstance(v, dict),
    Text("an object or null", "объект или null"),
)
KIND: Check = (lambda v: v in TYPES, Text("a type of message", "тип сообщения"))

OWN_USER: Mapping[str, Check] = {
    "id": ID,
    "email": TEXT,
    "display_name": TEXT,
    "tag": TEXT,
    "avatar_url": TEXT_OR_NULL,
    "created_at": MOMENT,
}
USER: Mapping[str, Check] = {**OWN_USER, "email": TEXT_OR_NULL}
"""Somebody else, whose e-mail a server may hide."""
CHAT: Mapping[str, Check] = {
    "id": ID,
    "title": (lambda v: isinstance(v, str), Text("a string", "строка")),
    "is_group": TRUTH,
    "created_at": MOMENT,
}
"""Without the participants, which are looked at by themselves."""
MESSAGE: Mapping[str, Check] = {
    "id": ID,
    "chat_id": ID,
    "author_id": ID,
    "type": KIND,
    "content": TEXT_OR_NULL,
    "payload": OBJECT_OR_NULL,
    "ts": MOMENT,
}


def differences(value: Any, form: Mapping[str, Check]) -> list[Text]:
    """What keeps a value from being an object of this form; keys beyond it are no difference."""
    if not isinstance(value, dict):
        return [Text(f"no object but {brief(value)}", f"не объект, а {brief(value)}")]
    missing = [key for key in form if key not in value]
    found = []
    if missing:
        names = ", ".join(missing)
        found.append(Text(f"without {names}", f"нет {names}"))
    for key, (fits, wanted) in form.items():
        if key in value and not fits(value[key]):
            told = f"{key} = {brief(value[key])}"
            found.append(Text(f"{told}, not {wanted.en}", f"{told}, а нужно: {wanted.ru}"))
    return found


def brief(value: Any) -> str:
    """A value in a few characters."""
    match value:
        case dict() if value:
            return "{…}"
        case list() if value and not all(isinstance(one, int | str) for one in value):
            return "[…]"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
