"""Checks that a frame is as `/asyncapi.json` describes it, for each frame that a test receives."""

import json
from functools import cache
from typing import Any

import jsonschema_rs

from adapters.http_api.asyncapi import describe_socket
from adapters.http_api.examples import CUSTOM
from adapters.http_api.wire import encode
from messaging_core.limits import Limits


@cache
def description() -> Any:
    """The description of the socket, as a client reads it."""
    return json.loads(encode(describe_socket(Limits())))


def schema_of(channel: str, message: str) -> dict[str, Any]:
    """The schema of a message of a channel; it allows no key that it does not name."""
    described = description()["components"]
    payload = described["messages"][f"{channel}.{message}"]["payload"]
    closed: dict[str, Any] = _closed({**payload, "components": {"schemas": described["schemas"]}})
    return closed


def sent_by_the_server(channel: str) -> set[str]:
    """The keys of the messages of a channel that the server sends, by its operations."""
    return {
        each["$ref"].rpartition("/")[2]
        for operation in description()["operations"].values()
        if operation["action"] == "send" and operation["channel"]["$ref"] == f"#/channels/{channel}"
        for each in operation["messages"]
    }


def check_frame(payload: str | bytes, *, channel: str = "full") -> Any:
    """The decoded frame of a socket of this channel; raises `ValidationError` unless it is described."""
    frame = json.loads(payload)
    _validator(channel, frame["event"]).validate(frame)
    return frame


@cache
def _validator(channel: str, event: str) -> jsonschema_rs.Validator:
    known = event in sent_by_the_server(channel)
    assert known or channel == "full", f"{channel!r} does not send {event!r}"
    return jsonschema_rs.Draft7Validator(
        schema_of(channel, event if known else CUSTOM), validate_formats=True, ignore_unknown_formats=False
    )


def _closed(schema: Any) -> Any:
    """The schema, in which each object has only the properties that it names."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(each) for name, each in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        closed["additionalProperties"] = False
    return closed
