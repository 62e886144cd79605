"""The accounts of one run, their chats, sockets and messages.

The first row that needs an account or a chat creates it, and later rows reuse it. If that fails, the
finding's owner is the row that judges this step.
"""

import base64
import binascii
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from attrs import frozen

from adapters.checklist.client import HttpClient, Response, new_key
from adapters.checklist.findings import Finding, Stopped
from adapters.checklist.phrases import Phrase, verbatim
from adapters.checklist.recording import Exchange
from adapters.checklist.shapes import is_id
from adapters.checklist.socket_client import RecordedSocket

PASSWORD = "password123"  # noqa: S105 - the checklist's password, for accounts that are not used afterwards

REGISTRATION, SIGN_IN, OPENING_CHATS, SENDING, OPENING_SOCKETS = "C10", "C7", "C8", "C10", "C2"
"""The rows that judge the steps which every other row needs."""


@frozen
class Tokens:
    """An access and a refresh token, and the response that held them."""

    access_token: str
    refresh_token: str
    """Empty if the response held none."""
    response: Response


@frozen(eq=False)
class RegisteredAccount:
    """An account that the check has registered and signed in."""

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


class CheckRun:
    """The accounts and chats that this run has created; `timeout` is the seconds for an event."""

    def __init__(self, client: HttpClient, *, run_id: str, timeout: float) -> None:
        self.client = client
        self.run_id = run_id
        self.timeout = timeout
        self.facts: dict[str, str] = {}
        """Ids that the server's log must contain, for row L."""
        self._accounts: dict[str, RegisteredAccount | Finding] = {}
        self._chats: dict[frozenset[int], int | Finding] = {}
        self._markers = count(1)
        client.secrets.add(PASSWORD, "password")

    def marker(self) -> str:
        """A short text that no other message contains."""
        return f"{self.run_id}-{next(self._markers)}."

    async def account(self, name: str) -> RegisteredAccount:
        """The account of this name, which the first call registers. Raises `Stopped`."""
        account = self._accounts.get(name)
        if account is None:
            try:
                account = await self._register(name)
            except Stopped as stopped:
                account = stopped.finding
            self._accounts[name] = account
        if isinstance(account, Finding):
            raise Stopped(account)
        return account

    async def log_in(self, account: RegisteredAccount) -> Tokens:
        """Start another session of the account. Raises `Stopped`."""
        response = await self.client.request(
            "POST", "/auth/login", key=new_key(), body={"email": account.email, "password": PASSWORD}
        )
        return _tokens(response, owner=SIGN_IN, statuses="200")

    async def chat_of(self, one: RegisteredAccount, other: RegisteredAccount) -> int:
        """The id of the direct chat of these two, which the first call opens as `one`. Raises `Stopped`."""
        pair = frozenset({one.id, other.id})
        chat = self._chats.get(pair)
        if chat is None:
            response = await self.open_chat(one, other)
            body = response.json
            usable = response.ok and isinstance(body, dict) and is_id(body.get("id"))
            wanted = Phrase("200 and a chat with an id", "200 и чат с id")
            chat = body["id"] if usable else _finding(response, wanted, owner=OPENING_CHATS)
            self._chats[pair] = chat
        if isinstance(chat, Finding):
            raise Stopped(chat)
        return chat

    async def open_chat(self, one: RegisteredAccount, other: RegisteredAccount) -> Response:
        """Call `POST /chats/direct`, whatever the response."""
        body = {"user_id": other.id}
        return await self.client.request("POST", "/chats/direct", token=one.token, key=new_key(), body=body)

    async def say(
        self, author: RegisteredAccount, chat_id: int, content: str
    ) -> tuple[Response, dict[str, Any]]:
        """Send a text message; returns the response and its message. Raises `Stopped`."""
        body = {"chat_id": chat_id, "type": "text", "content": content}
        response = await self.client.request(
            "POST", "/messages", token=author.token, key=new_key(), body=body
        )
        message = response.json
        if not response.ok or not isinstance(message, dict) or not is_id(message.get("id")):
            wanted = Phrase("201 and the message with its id", "201 и сообщение с id")
            raise Stopped(_finding(response, wanted, owner=SENDING))
        return response, message

    @asynccontextmanager
    async def socket(
        self, account: RegisteredAccount, tab: str = "", token: str = ""
    ) -> AsyncIterator[RecordedSocket]:
        """An open socket of the account. Raises `Stopped` if it does not open or does not answer a ping."""
        query = f"?token={token or account.token}"
        async with self.client.socket(query, label=f"{account.name}{tab}") as socket:
            if not socket.opened or not await socket.ping(self.timeout):
                expected = Phrase(
                    "/ws?token=<access_token> opens a socket that stays open",
                    "/ws?token=<access_token> открывает сокет, и он остаётся открытым",
                )
                raise Stopped(
                    Finding(expected, socket.outcome, None, (socket.exchange,), owner=OPENING_SOCKETS)
                )
            yield socket

    async def _register(self, name: str) -> RegisteredAccount:
        email = f"{name.lower()}-{self.run_id}@test.com"
        body = {"email": email, "password": PASSWORD, "display_name": name}
        response = await self.client.request("POST", "/auth/register", key=new_key(), body=body)
        tokens = _tokens(response, owner=REGISTRATION, statuses="201")
        user = response.json.get("user")
        if not isinstance(user, dict) or not is_id(user.get("id")):
            me = await self.client.request("GET", "/users/me", token=tokens.access_token)
            user = me.json
            if not me.ok or not isinstance(user, dict) or not is_id(user.get("id")):
                wanted = Phrase("200 and the user with an id", "200 и пользователь с id")
                raise Stopped(_finding(me, wanted, owner=SIGN_IN))
        return RegisteredAccount(name, email, user, tokens)


def token_pair(body: Any) -> tuple[str, str] | None:
    """The access and refresh token at the body's root or under `tokens`; None without an access token."""
    if not isinstance(body, dict):
        return None
    for place in (body, body.get("tokens")):
        if isinstance(place, dict) and isinstance(place.get("access_token"), str) and place["access_token"]:
            refresh = place.get("refresh_token")
            return place["access_token"], refresh if isinstance(refresh, str) else ""
    return None


def claims(token: str) -> dict[str, Any] | None:
    """The claims of a JWT, unverified; None for a token of another form."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error):
        return None
    return payload if isinstance(payload, dict) else None


def altered(token: str) -> str:
    """The token with a wrong signature; an opaque token gets another end."""
    head, dot, tail = token.rpartition(".")
    middle = len(tail) // 2
    other = "A" if tail[middle : middle + 1] != "A" else "B"
    return f"{head}{dot}{tail[:middle]}{other}{tail[middle + 1 :]}"


def _tokens(response: Response, *, owner: str, statuses: str) -> Tokens:
    pair = token_pair(response.json) if response.ok else None
    if pair is None:
        wanted = Phrase(
            f"{statuses}, access_token and refresh_token", f"{statuses}, access_token и refresh_token"
        )
        raise Stopped(_finding(response, wanted, owner=owner))
    return Tokens(*pair, response)


def _finding(response: Response, wanted: Phrase, *, owner: str) -> Finding:
    exchanges: tuple[Exchange, ...] = (response.exchange,)
    rejected = response.status == 401 and response.signed_in
    expected = verbatim(f"{response.request}: ") + wanted
    return Finding(expected, response.summary, None, exchanges, owner=SIGN_IN if rejected else owner)
