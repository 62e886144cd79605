"""The people of one run: accounts made for it, their chats, their sockets and what they say.

Each is made when a row first asks for it, and kept for the others. Where that fails, it is a finding of the
row which judges that very thing.
"""

import base64
import binascii
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from attrs import frozen

from adapters.checklist.client import Answer, Client, new_key
from adapters.checklist.recording import Exchange
from adapters.checklist.shapes import is_id
from adapters.checklist.socket_client import Socket
from adapters.checklist.stopping import Finding, Stopped
from adapters.checklist.words import Text, same

PASSWORD = "password123"  # noqa: S105 - the checklist's own, for accounts that nobody uses afterwards

REGISTRATION, SIGN_IN, OPENING_CHATS, SENDING, OPENING_SOCKETS = "C10", "C7", "C8", "C10", "C2"
"""The rows that judge what every other row needs."""


@frozen
class Tokens:
    """A pair, and the answer that brought it."""

    access_token: str
    refresh_token: str
    """Empty where the server gave none."""
    answer: Answer


@frozen(eq=False)
class Person:
    """Somebody with an account, signed in."""

    name: str
    email: str
    user: dict[str, Any]
    tokens: Tokens

    @property
    def id(self) -> int:
        return int(self.user["id"])

    @property
    def token(self) -> str:
        return self.tokens.access_token


class World:
    """Everybody and everything that this run has made; `timeout` is seconds for an event."""

    def __init__(self, client: Client, *, run: str, timeout: float) -> None:
        self.client = client
        self.run = run
        self.timeout = timeout
        self.facts: dict[str, str] = {}
        """What the server's log should tell of, for row L."""
        self._people: dict[str, Person | Finding] = {}
        self._chats: dict[frozenset[int], int | Finding] = {}
        self._markers = count(1)
        client.secrets.add(PASSWORD, "password")

    def marker(self) -> str:
        """A few characters that no other message holds."""
        return f"{self.run}-{next(self._markers)}."

    async def person(self, name: str) -> Person:
        """The account of this name, made at the first call."""
        kept = self._people.get(name)
        if kept is None:
            try:
                kept = await self._register(name)
            except Stopped as stopped:
                kept = stopped.finding
            self._people[name] = kept
        if isinstance(kept, Finding):
            raise Stopped(kept)
        return kept

    async def log_in(self, person: Person) -> Tokens:
        """Another session of theirs."""
        answer = await self.client.request(
            "POST", "/auth/login", key=new_key(), body={"email": person.email, "password": PASSWORD}
        )
        return _tokens(answer, owner=SIGN_IN, statuses="200")

    async def chat_of(self, one: Person, other: Person) -> int:
        """The direct chat of these two, opened by the first."""
        pair = frozenset({one.id, other.id})
        kept = self._chats.get(pair)
        if kept is None:
            answer = await self.open_chat(one, other)
            body = answer.json
            usable = answer.ok and isinstance(body, dict) and is_id(body.get("id"))
            wanted = Text("200 and a chat with an id", "200 и чат с id")
            kept = body["id"] if usable else _found(answer, wanted, owner=OPENING_CHATS)
            self._chats[pair] = kept
        if isinstance(kept, Finding):
            raise Stopped(kept)
        return kept

    async def open_chat(self, one: Person, other: Person) -> Answer:
        """The bare call."""
        body = {"user_id": other.id}
        return await self.client.request("POST", "/chats/direct", token=one.token, key=new_key(), body=body)

    async def say(self, author: Person, chat_id: int, content: str) -> tuple[Answer, dict[str, Any]]:
        """Send a text message; the answer and the message in it."""
        body = {"chat_id": chat_id, "type": "text", "content": content}
        answer = await self.client.request("POST", "/messages", token=author.token, key=new_key(), body=body)
        message = answer.json
        if not answer.ok or not isinstance(message, dict) or not is_id(message.get("id")):
            wanted = Text("201 and the message with its id", "201 и сообщение с id")
            raise Stopped(_found(answer, wanted, owner=SENDING))
        return answer, message

    @asynccontextmanager
    async def socket(self, person: Person, tab: str = "", token: str = "") -> AsyncIterator[Socket]:
        """An open socket of theirs."""
        query = f"?token={token or person.token}"
        async with self.client.socket(query, whose=f"{person.name}{tab}") as socket:
            if not socket.opened or not await socket.answers(self.timeout):
                expected = Text(
                    "/ws?token=<access_token> opens a socket that stays open",
                    "/ws?token=<access_token> открывает сокет, и он остаётся открытым",
                )
                raise Stopped(
                    Finding(expected, socket.outcome, None, (socket.exchange,), owner=OPENING_SOCKETS)
                )
            yield socket

    async def _register(self, name: str) -> Person:
        email = f"{name.lower()}-{self.run}@test.com"
        body = {"email": email, "password": PASSWORD, "display_name": name}
        answer = await self.client.request("POST", "/auth/register", key=new_key(), body=body)
        tokens = _tokens(answer, owner=REGISTRATION, statuses="201")
        user = answer.json.get("user")
        if not isinstance(user, dict) or not is_id(user.get("id")):
            told = await self.client.request("GET", "/users/me", token=tokens.access_token)
            user = told.json
            if not told.ok or not isinstance(user, dict) or not is_id(user.get("id")):
                wanted = Text("200 and the user with their id", "200 и пользователь с id")
                raise Stopped(_found(told, wanted, owner=SIGN_IN))
        return Person(name, email, user, tokens)


def token_pair(body: Any) -> tuple[str, str] | None:
    """The access token and the refresh token at the body's root or under `tokens`; None without the first."""
    if not isinstance(body, dict):
        return None
    for place in (body, body.get("tokens")):
        if isinstance(place, dict) and isinstance(place.get("access_token"), str) and place["access_token"]:
            refresh = place.get("refresh_token")
            return place["access_token"], refresh if isinstance(refresh, str) else ""
    return None


def claims(token: str) -> dict[str, Any] | None:
    """What a JWT says, unverified; None for a token that is not one."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        told = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error):
        return None
    return told if isinstance(told, dict) else None


def altered(token: str) -> str:
    """The token with another signature, or for an opaque one with another end."""
    head, dot, tail = token.rpartition(".")
    middle = len(tail) // 2
    other = "A" if tail[middle : middle + 1] != "A" else "B"
    return f"{head}{dot}{tail[:middle]}{other}{tail[middle + 1 :]}"


def _tokens(answer: Answer, *, owner: str, statuses: str) -> Tokens:
    pair = token_pair(answer.json) if answer.ok else None
    if pair is None:
        wanted = Text(
            f"{statuses}, access_token and refresh_token", f"{statuses}, access_token и refresh_token"
        )
        raise Stopped(_found(answer, wanted, owner=owner))
    return Tokens(*pair, answer)


def _found(answer: Answer, wanted: Text, *, owner: str) -> Finding:
    exchanges: tuple[Exchange, ...] = (answer.exchange,)
    rejected = answer.status == 401 and answer.signed_in
    expected = same(f"{answer.request}: ") + wanted
    return Finding(expected, answer.came, None, exchanges, owner=SIGN_IN if rejected else owner)
