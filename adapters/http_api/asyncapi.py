"""The socket's description (AsyncAPI 3.0), built from the tables and classes that make and read its frames.

An event is described by its row of `EVENTS`, another frame by its row of `FRAMES`, a message of clients by
its row of `CLIENT_EVENTS`, and a close by its row of `CLOSES`.
"""

from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from typing import Any, Final, get_args, get_type_hints

from attrs import fields, frozen

from adapters.http_api.closes import CLOSES
from adapters.http_api.examples import CUSTOM, Examples
from adapters.http_api.exchange import JSON
from adapters.http_api.routes import ENDPOINTS
from adapters.http_api.schema import Schema, Schemas
from adapters.http_api.sockets import CLIENT_EVENTS, CLIENT_REF_CHARACTERS, FRAMES, VIEWS, ClientEvent
from adapters.http_api.views import View
from messaging_core.errors import IdempotencyKeyReused, Invalid, Refused, TooManyRequests
from messaging_core.events import CUSTOM_NAME, CUSTOM_NAME_CHARACTERS, EVENTS, OWN_NAMESPACES, EventKind
from messaging_core.frames import FrameKind, PlainFrame, Views
from messaging_core.idempotency import KEY_MAX_CHARACTERS
from messaging_core.ids import MAX_ID
from messaging_core.limits import Limits
from messaging_core.profiles import SILENCE
from messaging_core.sockets import RESUME_SECONDS

Document = dict[str, Any]

PATH = "/ws"

PLAIN_CHANNEL = "plain"
FULL_CHANNEL = "full"

INTRODUCTION = """Live events, catching up after a reconnect, and commands, on one WebSocket.

Every message is a JSON text, `{"event": "...", "data": {...}}`. Ignore names and keys that you do not know:
there will be more. *Profile 1*, the channel `plain`, only shows messages. *Profile 2*, the channel `full`,
shows every event with its number in its chat's log, sends what was missed, and takes commands. Both have one
address; `profile` in the query selects.
"""

PROFILE_1 = """A socket that shows messages, and nothing else: no greeting, no numbers. Whatever its client
sends is ignored.
"""

PROFILE_2 = """A socket that shows every event, in the order of each chat's log. `hello` is its first frame.

An event of a log has `chat_id` and `sequence`, its number in that log, at the root. Store the last `sequence`
of each chat and the `log` of `hello`; to come back, connect with `resume=1` and send `resume` first. The
`sequence` of a chat and the `revision` of a message say up to which number each is true: ignore what is not
newer than what you hold.
"""


def describe_socket(limits: Limits, *, default_profile: str = "1") -> Document:
    """The whole document; every reference in it is to a part of it.

    `default_profile` is that of a socket whose handshake names none.
    """
    schemas = Schemas(limits, _classes_of(VIEWS))
    received = [_of_client(each, schemas) for each in CLIENT_EVENTS.values()]
    greeting, *frames = [_of_frame(each, schemas) for each in FRAMES]
    sent = [greeting, *(_of_event(each, schemas) for each in EVENTS), *frames]
    channels = {
        PLAIN_CHANNEL: (PROFILE_1, list(_of_profile_1(schemas)), "1"),
        FULL_CHANNEL: (PROFILE_2, [*sent, *received], "2"),
    }
    components = dict(sorted(schemas.components.items()))
    examples = Examples(components, limits)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "messaging-core: the socket",
            "version": version("messaging-core"),
            "description": INTRODUCTION,
            "externalDocs": {"url": "/docs", "description": "The API over HTTP"},
        },
        "defaultContentType": JSON,
        "servers": {scheme: _server(scheme) for scheme in ("ws", "wss")},
        "channels": {
            name: {
                "address": PATH,
                "title": f"Profile {profile}",
                "description": description,
                "messages": {
                    each.key: {"$ref": f"#/components/messages/{_component(name, each)}"} for each in messages
                },
                "bindings": {"ws": _handshake(profile, default_profile)},
                "x-close-codes": _closes(),
            }
            for name, (description, messages, profile) in channels.items()
        },
        "operations": {
            "sendMessages": _operation(
                "send",
                PLAIN_CHANNEL,
                "The server shows messages.",
                [each.key for each in channels["plain"][1]],
            ),
            "sendEvents": _operation(
                "send", FULL_CHANNEL, "The server shows events.", [each.key for each in sent]
            ),
            **{
                f"receive{''.join(part.title() for part in name.split('.'))}": {
                    **_operation("receive", FULL_CHANNEL, each.summary, [CLIENT_PREFIX + name]),
                    "reply": _messages(FULL_CHANNEL, each.replies),
                }
                for name, each in CLIENT_EVENTS.items()
            },
        },
        "components": {
            "messages": {
                _component(name, each): {
                    **each.described,
                    "examples": [{"payload": _example(each, examples)}],
                }
                for name, (_, messages, _) in channels.items()
                for each in messages
            },
            "schemas": components,
            "securitySchemes": SECURITY,
        },
        "x-limits": list(_limits(limits)),
    }


def _classes_of(views: Views) -> Mapping[Any, type[View]]:
    """The class that the views make of each model, by the model's."""
    signatures = [get_type_hints(function) for function in (views.user, views.chat, views.message)]
    return {each["found"]: each["return"] for each in signatures}


# --- messages -----------------------------------------------------------------------------------------------


@frozen
class _Described:
    """A message of a channel."""

    key: str
    """In its channel."""
    described: Document
    event: str
    """The value of `event` in the example."""


def _of_event(kind: EventKind, schemas: Schemas) -> _Described:
    data = schemas.of(kind.data)
    if kind.name is None:
        own = "|".join(sorted(OWN_NAMESPACES))
        event: Schema = {
            "type": "string",
            "pattern": f"^{CUSTOM_NAME}$",
            "maxLength": CUSTOM_NAME_CHARACTERS,
            "not": {"pattern": f"^({own})\\."},
        }
        return _described(CUSTOM, event, data, kind.summary, numbered=kind.is_durable, name="acme.pinned")
    return _described(kind.name, {"const": kind.name}, data, kind.summary, numbered=kind.is_durable)


def _of_frame(kind: FrameKind, schemas: Schemas) -> _Described:
    data = schemas.of(kind.data)
    return _described(kind.name, {"const": kind.name}, data, kind.summary, numbered=kind.is_numbered)


def _of_client(kind: ClientEvent, schemas: Schemas) -> _Described:
    key, event = CLIENT_PREFIX + kind.name, {"const": kind.name}
    if not issubclass(kind.data, COMMANDS):
        return _described(key, event, schemas.of(kind.data), kind.summary, name=kind.name)
    names = [each.name for each in fields(kind.data)]
    properties = schemas.properties(kind.data, names)
    required = schemas.required(kind.data, names)
    if kind.is_acked:
        properties["client_ref"] = CLIENT_REF
        required.append("client_ref")
    data = {"type": "object", "properties": properties, "required": required}
    described = _described(key, event, data, kind.summary, name=kind.name)
    described.described["x-error-codes"] = _codes(kind)
    return described


def _codes(kind: ClientEvent) -> list[str]:
    """The codes of the problems with which a command may be refused."""
    (endpoint,) = (each for each in ENDPOINTS if each.command is kind.data)
    refusals: list[type[Refused]] = [*endpoint.refusals, Invalid, TooManyRequests]
    codes = [each.code for each in refusals if kind.is_acked or each is not IdempotencyKeyReused]
    return list(dict.fromkeys([*codes, *endpoint.unavailable]))


CLIENT_PREFIX: Final = "client."
"""Begins the keys of the messages of clients, of which some have the name of an event."""

COMMANDS: Final = tuple(each.command for each in ENDPOINTS)
"""The classes of commands, whose fields have constraints and defaults."""


def _of_profile_1(schemas: Schemas) -> Iterator[_Described]:
    types = get_type_hints(PlainFrame)
    for name in get_args(types["event"]):
        yield _described(name, {"const": name}, schemas.of(types["data"]), SUMMARIES_1[name])


SUMMARIES_1: Final = {
    "message.created": "A message was sent.",
    "message.updated": 'A message was edited, or deleted: then `payload` is `{"deleted": true}`.',
}
"""What the events of profile 1 mean."""

CLIENT_REF: Final = {
    "type": "string",
    "minLength": CLIENT_REF_CHARACTERS,
    "maxLength": KEY_MAX_CHARACTERS,
    "description": "Random, and the same when the command is repeated: it is carried out only once.",
}


def _described(
    key: str, event: Schema, data: Schema, summary: str, *, numbered: bool = False, name: str | None = None
) -> _Described:
    root = {"event": event, **(NUMBERS if numbered else {}), "data": data}
    payload = {"type": "object", "properties": root, "required": list(root)}
    return _Described(key, {"name": name or key, "summary": summary, "payload": payload}, name or key)


NUMBERS: Final = {
    "chat_id": {"type": "integer", "minimum": 1, "maximum": MAX_ID},
    "sequence": {
        "type": "integer",
        "minimum": 1,
        "maximum": MAX_ID,
        "description": "The number in the chat's log.",
    },
}


def _example(message: _Described, examples: Examples) -> Document:
    payload = examples.message(message.key, message.described["payload"])
    return {**payload, "event": message.event}


def _component(channel: str, message: _Described) -> str:
    return f"{channel}.{message.key}"


# --- the handshake ------------------------------------------------------------------------------------------

SECURITY: Final = {
    "query": {
        "type": "httpApiKey",
        "in": "query",
        "name": "token",
        "description": "The access token in the query, for browsers.",
    },
    "header": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "`Authorization: Bearer <access token>`, which keeps the token out of addresses.",
    },
    "subprotocol": {
        "type": "httpApiKey",
        "in": "header",
        "name": "Sec-WebSocket-Protocol",
        "description": "The subprotocols `bearer` and the token: `new WebSocket(url, ['bearer', token])`.",
    },
}


def _server(scheme: str) -> Document:
    return {
        "host": "{host}",
        "protocol": scheme,
        "description": "A token in any one of these ways. A refused one closes the open socket with 1008.",
        "variables": {"host": {"default": "localhost:8000", "description": "The server's host and port."}},
        "security": [{"$ref": f"#/components/securitySchemes/{name}"} for name in SECURITY],
    }


def _handshake(profile: str, default_profile: str) -> Document:
    query: dict[str, Schema] = {
        "token": {"type": "string", "description": "The access token, unless it is sent in another way."},
        "profile": {"const": profile, "description": f"The default is {default_profile}."},
    }
    if profile == "2":
        resume = "Receive what was missed: send `resume` as the first message."
        query["resume"] = {"const": "1", "description": resume}
    return {
        "method": "GET",
        "query": {
            "type": "object",
            "properties": query,
            "required": [] if profile == default_profile else ["profile"],
        },
        "bindingVersion": "0.1.0",
    }


# --- operations, closes and limits --------------------------------------------------------------------------


def _operation(action: str, channel: str, summary: str, names: Iterable[str]) -> Document:
    return {"action": action, "summary": summary, **_messages(channel, names)}


def _messages(channel: str, names: Iterable[str]) -> Document:
    return {
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in names],
    }


def _closes() -> list[Document]:
    return [
        {"codes": list(each.codes), "reasons": list(each.reasons), "description": each.advice}
        for each in CLOSES
    ]


LIMITS: Final = {
    "command_bytes": "bytes of a message that a client sends; 1009 beyond",
    "commands_queued": "commands of a socket that wait for their turn; 429 `too_many_requests` beyond",
    "resume_bytes": "bytes of a `resume`; 1009 beyond",
    "resumed_events": "events that a resumption sends; `chat.resync` for the chats with more",
    "resumed_bytes": "bytes that a resumption sends; `chat.resync` for the chats with more",
    "sockets_per_user": "open sockets of a user in a process; 4429 beyond",
    "outbox_frames": "frames that wait for a client that reads slowly; 4408 beyond",
    "outbox_bytes": "bytes of them; 4408 beyond",
}
"""The bounds of sockets by their names in `Limits`."""


def _limits(limits: Limits) -> Iterator[Document]:
    for name, meaning in LIMITS.items():
        yield {"name": name, "value": getattr(limits, name), "description": meaning}
    rate = "messages a second of a user, over HTTP and sockets; 429 `too_many_requests` beyond"
    yield {"name": "message_rate", "value": limits.message_rate.per_second, "description": rate}
    asked = "messages of clients and requests a second of a user; 4429 beyond, in profile 2"
    yield {"name": "request_rate", "value": limits.request_rate.per_second, "description": asked}
    sent = "seconds within which the first message of a client with `resume=1` must come; 4410 beyond"
    yield {"name": "resume_seconds", "value": int(RESUME_SECONDS), "description": sent}
    silence = "seconds without a frame after which the server sends `keepalive`"
    yield {"name": "keepalive_seconds", "value": int(SILENCE), "description": silence}
