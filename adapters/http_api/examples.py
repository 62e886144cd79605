"""Examples of what the schemas of the wire describe."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from adapters.http_api.problem_json import FieldErrorJson, ProblemJson
from adapters.http_api.schema import Schema
from adapters.http_api.views import SUFFIX, ChatViewJson, MessageJson, UserViewJson, View
from adapters.http_api.wire import encode
from messaging_core.frames import PlainMessage
from messaging_core.ids import ChatId, MessageId, UserId
from messaging_core.models import History, MessageType, Role

CUSTOM: Final = "custom"
"""The key of the message that stands for the events of extensions."""

_THEN = datetime(2026, 11, 29, 12, 30, 38, tzinfo=UTC)
_ALICE = UserViewJson(UserId(1), "alice@test.com", "Alice", "alice", None, _THEN)
_BOB = UserViewJson(UserId(2), "bob@test.com", "Bob", "bob", None, _THEN)
_HELLO = MessageJson(
    MessageId(7), ChatId(5), UserId(1), MessageType.TEXT, "Hello", None, _THEN, None, None, None, 12
)
_PLAIN = PlainMessage(MessageId(7), ChatId(5), UserId(1), MessageType.TEXT, "Hello", None, _THEN)
_CHAT = ChatViewJson(
    ChatId(5),
    "Weekend",
    True,
    _THEN,
    [_ALICE, _BOB],
    2,
    Role.MEMBER,
    _HELLO,
    0,
    MessageId(7),
    MessageId(7),
    12,
    _THEN,
    History.JOINED,
    None,
)
_PROBLEM = ProblemJson(
    "about:blank",
    "Unprocessable Entity",
    422,
    "content: must not be blank",
    "validation_failed",
    "09e23c24ef29124d",
    [FieldErrorJson("content", "blank", "must not be blank")],
)


def _plain(view: View | PlainMessage) -> Any:
    return msgspec.json.decode(encode(view))


_VIEWS: Final = {
    type(view).__name__.removesuffix(SUFFIX): _plain(view)
    for view in (_ALICE, _HELLO, _PLAIN, _CHAT, _PROBLEM)
}
"""Examples of views, by the names of their schemas."""

_EVENTS: Final[Mapping[str, Mapping[str, object]]] = {
    CUSTOM: {"message_id": 7},
    "message.deleted": {
        "content": None,
        "payload": {"deleted": True},
        "deleted_at": _VIEWS["UserView"]["created_at"],
    },
    "message.updated": {"edited_at": _VIEWS["UserView"]["created_at"]},
}
"""What is different in the data of examples of events, by the keys of their messages."""

_VALUES: Final[Mapping[str, object]] = {
    "author_id": 1,
    "avatar_url": None,
    "chat_id": 5,
    "client_ref": "b2a7c1de-94f3-4a5e-8d1c-2f6b7a9e0c13",
    "content": "Hello",
    "deleted_by": 1,
    "frame_bytes": 65_536,
    "id": 5,
    "log": "5f0c2b7e9a4d4c1e8b3a6d5f7c9e1a2b",
    "payload": None,
    "participants_count": 2,
    "retry_after": None,
    "role": "member",
    "sequence": 12,
    "title": "Weekend",
    "user_id": 2,
}
"""Examples of properties of other objects, by their names."""


class Examples:
    """Makes an example of a schema; `numbers` has values for integers by their names, as attributes."""

    def __init__(self, components: Mapping[str, Schema], numbers: object) -> None:
        self._components = components
        self._numbers = numbers

    def message(self, key: str, payload: Schema) -> dict[str, Any]:
        """An example of a message, by the schema of its payload."""
        example: dict[str, Any] = self.of(payload)
        changed = {
            name: value
            for name, value in _EVENTS.get(key, {}).items()
            if key == CUSTOM or name in example["data"]
        }
        return {**example, "data": {**example["data"], **changed}}

    def of(self, schema: Schema, name: str = "") -> Any:
        """A value that the schema allows, as the property of this name."""
        if "$ref" in schema:
            view = schema["$ref"].rpartition("/")[2]
            return _VIEWS[view] if view in _VIEWS else self.of(self._components[view], name)
        if "const" in schema:
            return schema["const"]
        if name in _VALUES and _fits(_VALUES[name], schema):
            return _VALUES[name]
        for word in ("examples", "enum"):
            if word in schema:
                return schema[word][0]
        if "anyOf" in schema:
            return self.of(schema["anyOf"][0], name)
        return self._by_kind(schema, name)

    def _by_kind(self, schema: Schema, name: str) -> Any:
        match _kind(schema):
            case "object" if "additionalProperties" in schema:
                return {"5": 12}
            case "object":
                return {
                    key: self.of(each, key)
                    for key, each in schema.get("properties", {}).items()
                    if key in schema["required"] or "examples" in each
                }
            case "array":
                return [self.of(schema["items"])]
            case "integer":
                return getattr(self._numbers, name, 12)
            case "boolean":
                return True
            case _ if schema.get("format") == "date-time":
                return _VIEWS["UserView"]["created_at"]
            case _:
                return "..."


def _kind(schema: Schema) -> Any:
    """The schema's type other than null."""
    kind = schema.get("type")
    return kind[0] if isinstance(kind, list) else kind


def _fits(value: object, schema: Schema) -> bool:
    """Whether an example by name suits the type of the property, too."""
    names = {type(None): "null", bool: "boolean", int: "integer", str: "string"}
    kinds = schema.get("type", "enum")
    return kinds == "enum" or names[type(value)] in ([kinds] if isinstance(kinds, str) else kinds)
