"""Servers with one thing wrong: the check names the row that it breaks, and no other."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import attrs
import pytest
from attrs import frozen

from adapters.checklist.judging import Verdict
from messaging_core.limits import Limits
from tests.checklist import faults
from tests.checklist.checks import checked, rows, said, spoiled
from tests.checklist.faults import Layer, answers, frames, requests


@frozen
class Broken:
    """A fault, the row that must be blamed, a word of what must be said, and what cannot be judged then."""

    row: str
    layer: Layer | None
    says: str
    not_judged: set[str] = attrs.field(factory=set)
    settings: dict[str, Any] = attrs.field(factory=dict)


def only(keep: Callable[[int, str], bool]) -> Layer:
    """Frames to the users for whom `keep` says so."""
    return frames(lambda user, frame: [frame] if keep(user, frame) else [])


def bare(_: int, frame: str) -> list[str]:
    return [json.dumps(json.loads(frame)["data"])]


def data_with(**changes: Any) -> Layer:
    def change(_: int, frame: str) -> list[str]:
        told = json.loads(frame)
        return [json.dumps({**told, "data": {**told["data"], **changes}})]

    return frames(change)


def renamed(_: int, frame: str) -> list[str]:
    return [frame.replace('"message.created"', '"new_message"')]


def edits_lost(_: int, frame: str) -> list[str]:
    return [] if '"message.updated"' in frame else [frame]


HEARD = {"C10", "P1"}
"""Rows for which messages must be heard, and in the right form."""
ACCEPT = faults.ACCEPT
CLOSE = {"type": "websocket.close", "code": 1008}

BROKEN = {
    "event to the sender only": Broken(
        "C3", only(lambda user, frame: faults.author_of(frame) == user), "Only the author hears it", HEARD
    ),
    "event to all but the author": Broken(
        "C3", only(lambda user, frame: faults.author_of(frame) != user), "The author is left out", HEARD
    ),
    "event to nobody": Broken("C3", only(lambda *_: False), "Nobody hears it", {"C4", *HEARD}),
    "one socket a user": Broken("C3", faults.FirstSocketsOnly, "a second tab or device"),
    "event to everybody": Broken("C3", faults.Eavesdropping, "Carol, who is not in the chat"),
    "message without envelope": Broken("C4", frames(bare), "without the envelope", HEARD),
    "extra greeting frame": Broken("C4", faults.greeting, '{"event": "connected"'),
    "every frame twice": Broken("C4", frames(lambda _, frame: [frame, frame]), "the same event twice"),
    "another event's name": Broken("C4", frames(renamed), "event = 'new_message'", HEARD),
    "local time": Broken("C4", data_with(ts="2024-11-04T14:30:00"), "ts = '2024-11-04T14:30:00'", HEARD),
    "too much in a frame": Broken("C4", data_with(status="sent"), "other keys in data: status", HEARD),
    "no event for edits": Broken("C4", frames(edits_lost), "message.updated after an edit"),
    "close before accept": Broken("C2", faults.door(CLOSE), "The classic mistake"),
    "close with another code": Broken("C2", faults.door(ACCEPT, {**CLOSE, "code": 4401}), "4401"),
    "bad tokens let in": Broken("C2", faults.door(ACCEPT), "it is open"),
    "chat without participants": Broken(
        "C5", answers(faults.without("participants", method="GET")), "without participants"
    ),
    "participants nowhere": Broken(
        "C5", answers(faults.without("participants")), "without participants", {"C8"}
    ),
    "one's own e-mail hidden": Broken("C7", answers(faults.nobodys_email), "email = None"),
    "chats in an object": Broken("C5", answers(faults.wrapped_list), "a bare array"),
    "access token of 1 minute": Broken(
        "C6", None, "JWT exp - iat = 60 s", settings={"access_ttl": timedelta(minutes=1)}
    ),
    "refresh token of 1 hour": Broken(
        "C6", None, "REFRESH_TOKEN_EXPIRE_DAYS", settings={"refresh_ttl": timedelta(hours=1)}
    ),
    "CORS missing on 401": Broken("C1", answers(faults.no_cors_on_401), "HEAD /api/v1/chats → 401"),
    "* with credentials": Broken("C1", answers(faults.star_with_credentials), "Browsers refuse *"),
    "preflight with * headers": Broken("C1", answers(faults.star_for_headers), "never covers Authorization"),
    "CORS by two layers": Broken("C1", answers(faults.cors_twice), "Two layers add the header"),
    "no Vary": Broken("C1", answers(faults.no_vary), "Vary: Origin"),
    "a new chat at every direct call": Broken("C8", faults.a_new_chat_each_time, "the same chat"),
    "direct chats are a 201": Broken("C8", answers(faults.created_at_first), ": 200"),
    "search that wants no @": Broken("C9", requests(faults.search_without_at), "People type the @"),
    "search that answers a list": Broken("C9", answers(faults.search_in_a_list), "an array of 1"),
    "search that answers null": Broken(
        "C9", answers(faults.search_finds_nobody_politely), "nobody has this tag"
    ),
    "/users/me 401 with a good token": Broken(
        "C7", answers(faults.nobody_is_me), "Authorization: Bearer <token>"
    ),
    "/users/me 200 with a bad token": Broken(
        "C7", answers(faults.everybody_is_me), "The server lets this in"
    ),
    "strict rotation": Broken("P2", faults.StrictRotation, "6 refreshes at once"),
    "a 401 uses the key up": Broken("P2", faults.KeysOfRefusals, "same Idempotency-Key"),
    "history oldest first": Broken("P1", answers(faults.oldest_first), "newest first"),
    "no tokens at registration": Broken(
        "C10",
        answers(faults.no_tokens_at_registration),
        "access_token and refresh_token",
        {"C1", "C2", "C3", "C4", "C5", "C6", "C7", "C8", "C9", "P1", "P2"},
    ),
    "messages cannot be sent": Broken(
        "C10", answers(faults.no_messages), "201 and the message", {"C3", "C4", "P1", "P2"}
    ),
    "no docs": Broken("D", None, "an HTML page", settings={"docs": False}),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_the_right_row_is_blamed_and_no_other(name: str) -> None:
    """A fault is caught by the row whose rule it breaks; what cannot be judged is not called broken."""
    broken = BROKEN[name]
    settings = dict(broken.settings)
    spans = {key: settings.pop(key) for key in list(settings) if key.endswith("_ttl")}
    with attrs.validators.disabled():
        limits = Limits(**spans) if spans else None
    async with spoiled(broken.layer, limits, **settings) as server:
        result = await checked(server)
    blamed = rows(result, Verdict.FAILS)
    assert blamed == {broken.row}, {row: said(result, row) for row in blamed}
    assert broken.says in said(result, broken.row)
    assert rows(result, Verdict.NOT_JUDGED) == broken.not_judged
    assert not result.holds
