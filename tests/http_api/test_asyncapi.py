"""The description of the socket is valid AsyncAPI, complete, and true of the frames that are made."""

import gzip
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator

import adapters.http_api.asyncapi
import adapters.http_api.closes
import adapters.runtime.hub
import messaging_core.sockets
from adapters.http_api.asyncapi import describe_socket
from adapters.http_api.closes import CLOSES
from adapters.http_api.examples import CUSTOM
from adapters.http_api.sockets import CLIENT_EVENTS, FRAMES, FULL, receive
from adapters.http_api.wire import encode
from messaging_core.events import EVENTS, EventKind, Facts, event_name, kind_of, log_entry
from messaging_core.frames import ForViewer
from messaging_core.ids import UserId
from messaging_core.limits import Limits
from messaging_core.models import ChatView, Role, UserView
from messaging_core.profiles import PLAIN, Carry, Close, Reply, Resume, WatchPeople
from messaging_core.sockets import GONE
from messaging_core.testing import strategies as values
from tests.frames import check_frame, description, schema_of, sent_by_the_server

NOW = datetime(2026, 11, 29, 12, 30, 38, tzinfo=UTC)
OFFICIAL = Path(__file__).with_name("asyncapi-3.0.0.json.gz")
"""The JSON Schema of AsyncAPI 3.0.0, unchanged: `schemas/3.0.0-without-$id.json` of the npm package
@asyncapi/specs 6.11.1. Copyright 2016-2025 AsyncAPI Initiative, Apache-2.0; compressed from 370 KiB."""


def references(part: Any) -> Iterator[str]:
    """Yields every reference in a part of the document."""
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for each in part.values():
            yield from references(each)
    elif isinstance(part, list):
        for each in part:
            yield from references(each)


@pytest.mark.parametrize("profile", ["1", "2"])
def test_it_is_valid(profile: str) -> None:
    """By AsyncAPI's own JSON Schema, whatever profile is the default."""
    official = Draft7Validator(json.loads(gzip.decompress(OFFICIAL.read_bytes())))
    document = json.loads(encode(describe_socket(Limits(), default_profile=profile)))
    assert document["asyncapi"] == "3.0.0"
    assert [error.message for error in official.iter_errors(document)] == []
    document["channels"]["full"]["messages"] = "none"
    assert not official.is_valid(document)


def test_references_resolve() -> None:
    """Every reference is to a part of the document, and every schema and message is referred to."""
    found = set(references(description()))
    for reference in found:
        part = description()
        for name in reference.removeprefix("#/").split("/"):
            part = part[name]
    components = description()["components"]
    named = {f"#/components/{kind}/{name}" for kind, each in components.items() for name in each}
    assert named <= found


def test_each_kind_has_a_message() -> None:
    """Each event, each other frame and each message of clients is described, and nothing else."""
    events = {kind.name or CUSTOM for kind in EVENTS}
    frames = {kind.name for kind in FRAMES}
    assert sent_by_the_server("full") == events | frames
    clients = {f"client.{name}" for name in CLIENT_EVENTS}
    assert set(description()["channels"]["full"]["messages"]) == events | frames | clients
    assert sent_by_the_server("plain") == set(description()["channels"]["plain"]["messages"])
    assert all(not schema_of("full", name)["properties"].keys() - ROOTS for name in events | frames)


ROOTS = {"event", "chat_id", "sequence", "data"}


@frozen
class Waved:
    """An event that this project does not have."""

    user_id: UserId


@frozen(slots=False)
class WavedData:
    """The data of `waved`."""

    user_id: UserId
    role: Role | None


def test_a_row_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more row of EVENTS is one more message, with the schema of its data's class."""
    row = EventKind(
        "waved",
        Waved,
        "Somebody waved.",
        subject=None,
        audience=lambda _, chat: chat.member_ids,
        facts=lambda _: Facts(),
        replay=lambda _, __: None,
        plain=lambda _: None,
        data=WavedData,
        full=lambda event, *_: WavedData(event.user_id, None),
    )
    monkeypatch.setattr(adapters.http_api.asyncapi, "EVENTS", (*EVENTS, row))
    document = describe_socket(Limits())
    message = document["components"]["messages"]["full.waved"]
    assert message["summary"] == "Somebody waved."
    assert list(message["payload"]["properties"]) == ["event", "data"]
    data = document["components"]["schemas"]["WavedData"]
    assert data["properties"]["role"] == {"type": ["string", "null"], "enum": ["owner", "admin", "member"]}
    assert {"$ref": "#/channels/full/messages/waved"} in document["operations"]["sendEvents"]["messages"]


def test_examples_are_valid() -> None:
    """Each message has an example that its own schema allows."""
    for name, message in description()["components"]["messages"].items():
        (example,) = message["examples"]
        channel, _, key = name.partition(".")
        jsonschema_rs.validate(schema_of(channel, key), example["payload"])


def test_examples_of_clients_are_understood() -> None:
    """The server does what each example of a client's message asks for."""
    for name in CLIENT_EVENTS:
        (example,) = description()["components"]["messages"][f"full.client.{name}"]["examples"]
        (effect,) = receive(json.dumps(example["payload"]))
        assert isinstance(effect, (Carry, Resume, Reply, WatchPeople))
        assert not isinstance(effect, Reply) or b'"error"' not in effect.payload


@given(values.events() | values.ephemeral_events, values.users, values.chats(), st.booleans())
def test_the_frame_of_each_event_is_as_described(event: Any, user: Any, chat: Any, is_shown: bool) -> None:
    """In both profiles, whatever the event; with a person who has an account, and without."""
    person = UserView(user.id, None, user.display_name, user.tag, user.avatar_url, user.created_at)
    view = ChatView(chat, (person,), Role.MEMBER, None)
    needs_chat = is_shown or event_name(event) == "chat.created"
    more = ForViewer(person if is_shown else None, view if needs_chat else None)
    if kind_of(event).is_durable:
        frame = FULL.show_to(event, log_entry(chat.id, 5, event, NOW), more)
    else:
        frame = FULL.show(event, None)
    assert check_frame(encode(frame))["event"] == event_name(event)
    plain = PLAIN.show(event, None)
    if plain is not None:
        check_frame(encode(plain), channel="plain")


@pytest.mark.parametrize(
    "frame",
    [
        {"event": "chat.created", "chat_id": 5, "sequence": 1, "data": None},
        {"event": "typing", "data": {"chat_id": 5, "user_id": 2, "is_typing": 1}},
        {"event": "typing", "data": {"chat_id": 5, "user_id": 2, "is_typing": True, "more": 1}},
        {"event": "typing", "data": {"chat_id": 5, "user_id": 2}},
        {"event": "chat.deleted", "data": {"id": 5, "deleted_by": 1}},
        {"event": "message.seen", "chat_id": 5, "sequence": 1, "data": {}},
        {"event": "ping", "data": {}},
        {"event": "presence", "data": {"user_id": 2, "status": "asleep", "last_seen": None}},
        {"event": "client.watch", "data": {"user_ids": [1] * 101}},
    ],
)
def test_the_check_of_frames_finds_faults(frame: Any) -> None:
    """A wrong type, a key too many or too few, an unnumbered event, and a name that is not described."""
    with pytest.raises(jsonschema_rs.ValidationError):
        check_frame(json.dumps(frame))


def test_each_close_is_described() -> None:
    """Every close of the code is in the table, with its reason."""
    described = {(code, reason) for each in CLOSES for code in each.codes for reason in each.reasons}
    modules = (messaging_core.sockets, adapters.runtime.hub, adapters.http_api.closes)
    found = {
        (each.code, each.reason)
        for module in modules
        for each in vars(module).values()
        if isinstance(each, Close) and each is not GONE
    }
    assert len(found) >= 9
    assert found <= described


def test_texts_are_complete() -> None:
    """Each summary is a sentence, each limit has a value, and docstrings of fields describe properties."""
    components = description()["components"]
    for message in components["messages"].values():
        assert re.fullmatch(r"[A-Z][^\n]*\.", message["summary"])
    assert all(limit["value"] > 0 and limit["description"] for limit in description()["x-limits"])
    log = components["schemas"]["HelloData"]["properties"]["log"]
    assert log["description"].startswith("The incarnation of the log")


def test_commands_name_their_refusals() -> None:
    """Each command has the codes with which its endpoint refuses it, and those of its form and its rate."""
    codes = description()["components"]["messages"]["full.client.message.send"]["x-error-codes"]
    assert {"validation_failed", "too_many_requests", "not_a_participant", "storage_unavailable"} <= set(
        codes
    )
