"""Servers with one fault: the check fails the row whose rule the fault breaks, and no other."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import attrs
import pytest
from attrs import frozen

from adapters.checklist.judging import RowVerdict
from messaging_core.limits import Limits
from tests.checklist import faults
from tests.checklist.checks import checked, findings_text, rows, serving_with
from tests.checklist.faults import Layer, frames, requests, responses


@frozen
class ServerFault:
    """A server's fault."""

    row: str
    """The row that must fail."""
    layer: Layer | None
    says: str
    """A part of a finding's text."""
    not_judged: set[str] = attrs.field(factory=set)
    settings: dict[str, Any] = attrs.field(factory=dict)


def only(keep: Callable[[int, str], bool]) -> Layer:
    """Deliver only the frames for which `keep(user_id, frame)` is true."""
    return frames(lambda user, frame: [frame] if keep(user, frame) else [])


def bare(_: int, frame: str) -> list[str]:
    return [json.dumps(json.loads(frame)["data"])]


def data_with(**changes: Any) -> Layer:
    def change(_: int, frame: str) -> list[str]:
        envelope = json.loads(frame)
        return [json.dumps({**envelope, "data": {**envelope["data"], **changes}})]

    return frames(change)


def renamed(_: int, frame: str) -> list[str]:
    return [frame.replace('"message.created"', '"new_message"')]


def edits_lost(_: int, frame: str) -> list[str]:
    return [] if '"message.updated"' in frame else [frame]


NEED_EVENTS = {"C10", "P1"}
"""Rows that need every event, in the right form."""
ACCEPT = faults.ACCEPT
CLOSE = {"type": "websocket.close", "code": 1008}

FAULTS = {
    "event to the sender only": ServerFault(
        "C3",
        only(lambda user, frame: faults.author_of(frame) == user),
        "Only the author receives it",
        NEED_EVENTS,
    ),
    "event to all but the author": ServerFault(
        "C3",
        only(lambda user, frame: faults.author_of(frame) != user),
        "The author does not receive it",
        NEED_EVENTS,
    ),
    "event to nobody": ServerFault("C3", only(lambda *_: False), "Nobody receives it", {"C4", *NEED_EVENTS}),
    "one socket a user": ServerFault("C3", faults.FirstSocketsOnly, "a second tab or device"),
    "event to everybody": ServerFault("C3", faults.Eavesdropping, "Carol, who is not in the chat"),
    "message without envelope": ServerFault("C4", frames(bare), "without the envelope", NEED_EVENTS),
    "extra greeting frame": ServerFault("C4", faults.greeting, '{"event": "connected"'),
    "every frame twice": ServerFault("C4", frames(lambda _, frame: [frame, frame]), "the same event twice"),
    "another event's name": ServerFault("C4", frames(renamed), "event = 'new_message'", NEED_EVENTS),
    "local time": ServerFault(
        "C4", data_with(ts="2024-11-04T14:30:00"), "ts = '2024-11-04T14:30:00'", NEED_EVENTS
    ),
    "too much in a frame": ServerFault(
        "C4", data_with(status="sent"), "other keys in data: status", NEED_EVENTS
    ),
    "no event for edits": ServerFault("C4", frames(edits_lost), "message.updated after an edit"),
    "close before accept": ServerFault("C2", faults.own_handshake(CLOSE), "The classic mistake"),
    "close with another code": ServerFault(
        "C2", faults.own_handshake(ACCEPT, {**CLOSE, "code": 4401}), "4401"
    ),
    "bad tokens accepted": ServerFault("C2", faults.own_handshake(ACCEPT), "the socket is open"),
    "chat without participants": ServerFault(
        "C5", responses(faults.without("participants", method="GET")), "without participants"
    ),
    "participants nowhere": ServerFault(
        "C5", responses(faults.without("participants")), "without participants", {"C8"}
    ),
    "the caller's own e-mail hidden": ServerFault("C7", responses(faults.own_email_hidden), "email = None"),
    "chats in an object": ServerFault("C5", responses(faults.wrapped_list), "an array at the root"),
    "access token of 1 minute": ServerFault(
        "C6", None, "JWT exp - iat = 60 s", settings={"access_ttl": timedelta(minutes=1)}
    ),
    "refresh token of 1 hour": ServerFault(
        "C6", None, "REFRESH_TOKEN_EXPIRE_DAYS", settings={"refresh_ttl": timedelta(hours=1)}
    ),
    "CORS missing on 401": ServerFault("C1", responses(faults.no_cors_on_401), "HEAD /api/v1/chats → 401"),
    "* with credentials": ServerFault("C1", responses(faults.star_with_credentials), "Browsers refuse *"),
    "preflight with * headers": ServerFault(
        "C1", responses(faults.star_for_headers), "never covers Authorization"
    ),
    "CORS by two layers": ServerFault("C1", responses(faults.cors_twice), "Two layers add the header"),
    "no Vary": ServerFault("C1", responses(faults.no_vary), "Vary: Origin"),
    "a new chat at every direct call": ServerFault("C8", faults.a_new_chat_each_time, "the same chat"),
    "direct chats are a 201": ServerFault("C8", responses(faults.created_at_first), ": 200"),
    "search without support for @": ServerFault(
        "C9", requests(faults.search_without_at), "People type the @"
    ),
    "search that returns a list": ServerFault("C9", responses(faults.search_in_a_list), "an array of 1"),
    "search that returns null": ServerFault(
        "C9", responses(faults.search_finds_nobody_politely), "nobody has this tag"
    ),
    "/users/me 401 with a good token": ServerFault(
        "C7", responses(faults.nobody_is_me), "Authorization: Bearer <token>"
    ),
    "/users/me 200 with a bad token": ServerFault(
        "C7", responses(faults.everybody_is_me), "The server accepts this"
    ),
    "strict rotation": ServerFault("P2", faults.StrictRotation, "6 concurrent refreshes"),
    "a stored 401": ServerFault("P2", faults.StoredRefusals, "same Idempotency-Key"),
    "history oldest first": ServerFault("P1", responses(faults.oldest_first), "newest first"),
    "no tokens at registration": ServerFault(
        "C10",
        responses(faults.no_tokens_at_registration),
        "access_token and refresh_token",
        {"C1", "C2", "C3", "C4", "C5", "C6", "C7", "C8", "C9", "P1", "P2"},
    ),
    "messages cannot be sent": ServerFault(
        "C10", responses(faults.no_messages), "201 and the message", {"C3", "C4", "P1", "P2"}
    ),
    "no docs": ServerFault("D", None, "an HTML page", settings={"docs": False}),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_the_right_row_is_blamed_and_no_other(name: str) -> None:
    """The row whose rule a fault breaks fails; rows that need it are not judged instead of failing."""
    fault = FAULTS[name]
    settings = dict(fault.settings)
    spans = {key: settings.pop(key) for key in list(settings) if key.endswith("_ttl")}
    with attrs.validators.disabled():
        limits = Limits(**spans) if spans else None
    async with serving_with(fault.layer, limits, **settings) as server:
        result = await checked(server)
    blamed = rows(result, RowVerdict.FAILS)
    assert blamed == {fault.row}, {row: findings_text(result, row) for row in blamed}
    assert fault.says in findings_text(result, fault.row)
    assert rows(result, RowVerdict.NOT_JUDGED) == fault.not_judged
    assert not result.holds
