"""The wire of sockets: profile 2, the messages of its clients, and how their commands are carried out.

A command of a socket is an endpoint's: the same command, operation, rates, Idempotency-Key and refusals as
over HTTP. To add one: write a row of `CLIENT_EVENTS`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any, Final, assert_never, cast

import msgspec
import structlog
from attrs import frozen

from adapters.http_api.dispatch import Dispatcher
from adapters.http_api.endpoints import Endpoint
from adapters.http_api.exchange import HttpRequest, HttpResponse
from adapters.http_api.problem_json import ProblemJson, problem
from adapters.http_api.problems import refused
from adapters.http_api.request_ids import request_id
from adapters.http_api.routes import ENDPOINTS
from adapters.http_api.views import MessageJson, View, chat_json, message_json, user_json
from adapters.http_api.wire import MalformedJson, decode, encode
from adapters.runtime import Subscription
from messaging_core.commands import MarkRead, ReportTyping, SendMessage
from messaging_core.errors import FieldError, Invalid, TooManyRequests
from messaging_core.frames import CONTROL_FRAMES, Frame, FrameKind, KeepaliveData, Views
from messaging_core.ids import MAX_ID, ChatId, UserId
from messaging_core.profiles import (
    PLAIN,
    WATCHED_PEOPLE,
    Carry,
    Profile,
    Refusal,
    Reply,
    Resume,
    SocketEffect,
    WatchPeople,
    full,
)
from messaging_core.sockets import Bundle

log = structlog.get_logger(__name__)

CLIENT_REF_CHARACTERS = 16
"""The shortest `client_ref`: drawn at random, none is drawn twice."""

KEEPALIVE: Final = encode(Frame("keepalive", KeepaliveData()))


class AckJson(View, frozen=True, gc=False):
    """The data of `ack`: the command with this `client_ref` was carried out."""

    client_ref: str
    message: MessageJson


class ErrorJson(View, frozen=True, gc=False):
    """The data of `error`: the command was not carried out, or the message is none."""

    client_ref: str | None
    """Null where it is not known."""
    problem: ProblemJson
    retry_after: int | None
    """Seconds after which the command may be repeated; null where repeating it is of no use."""


FRAMES: Final = (
    *CONTROL_FRAMES,
    FrameKind(
        "ack",
        "The command with this `client_ref` was carried out; sent before the message's event.",
        AckJson,
    ),
    FrameKind("error", "The command was not carried out, or the message was malformed.", ErrorJson),
)
"""The frames of profile 2 that show no event of `EVENTS`."""


@frozen
class SocketCommand:
    """A command of a client, for an endpoint."""

    endpoint: Endpoint
    path_values: Mapping[str, str]
    body: bytes
    client_ref: str | None
    """The Idempotency-Key, and the name of the command in the reply; None where success is not replied to."""


@frozen
class ClientEvent:
    """A row of `CLIENT_EVENTS`."""

    name: str
    summary: str
    """What it is for, for the authors of clients."""
    data: type[Any]
    """The class that describes the data."""
    replies: tuple[str, ...]
    """The names of the frames of which one is sent in reply; `error` alone: only refusals have one."""
    asks: Callable[[msgspec.Raw], Sequence[SocketEffect]]
    """What a message with this data asks for."""
    is_acked: bool = False
    """Whether the data also has a `client_ref`."""


class _Message(msgspec.Struct, gc=False):
    event: str
    data: msgspec.Raw = msgspec.Raw(b"{}")


class ResumeData(msgspec.Struct, gc=False):
    """The data of `resume`: of each chat, by its id, the `sequence` up to which the client has every event.

    `log` is that of the `hello` before those events.
    """

    log: str
    chats: dict[Annotated[int, msgspec.Meta(ge=1, le=MAX_ID)], Annotated[int, msgspec.Meta(ge=0, le=MAX_ID)]]


class WatchData(msgspec.Struct, gc=False):
    """The data of `watch`: the ids of all whom the socket watches from now on."""

    user_ids: Annotated[
        list[Annotated[int, msgspec.Meta(ge=1, le=MAX_ID)]], msgspec.Meta(max_length=WATCHED_PEOPLE)
    ]


_MESSAGE = msgspec.json.Decoder(_Message)
_WATCHED = msgspec.json.Decoder(WatchData)
_POSITIONS = msgspec.json.Decoder(ResumeData)
_MALFORMED = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, MalformedJson, Invalid)


def receive(message: str | bytes) -> Sequence[SocketEffect]:
    """What a client's message asks for; nothing if its name is unknown, and an `error` if it is malformed."""
    try:
        found = _MESSAGE.decode(message)
        kind = CLIENT_EVENTS.get(found.event)
        return () if kind is None else kind.asks(found.data)
    except _MALFORMED as error:
        detail = f'The message is not {{"event": "...", "data": {{...}}}}: {error}.'
        return (Reply(_error(problem(400, "malformed_message", detail, request_id=request_id(None)), None)),)


def _ping(data: msgspec.Raw) -> Sequence[SocketEffect]:
    del data
    return (Reply(KEEPALIVE),)


def _resume(data: msgspec.Raw) -> Sequence[SocketEffect]:
    positions = _POSITIONS.decode(data)
    return (Resume(positions.log, cast("Mapping[ChatId, int]", positions.chats)),)


def _watch(data: msgspec.Raw) -> Sequence[SocketEffect]:
    return (WatchPeople(tuple([UserId(user_id) for user_id in _WATCHED.decode(data).user_ids])),)


def _command(data: msgspec.Raw, *, endpoint: Endpoint, is_acked: bool) -> Sequence[SocketEffect]:
    values = decode(bytes(data)) if endpoint.path_names or is_acked else {}
    if not isinstance(values, dict):
        raise MalformedJson("the data is not an object")
    client_ref = values.get("client_ref") if is_acked else None
    if is_acked and not (isinstance(client_ref, str) and len(client_ref) >= CLIENT_REF_CHARACTERS):
        wrong = f"must be a string of at least {CLIENT_REF_CHARACTERS} random characters"
        error = FieldError("client_ref", "required" if client_ref is None else "malformed", wrong)
        return (Reply(_error(refused(Invalid(error), request_id=request_id(None)), None)),)
    path_values = {name: str(values.get(name)) for name in endpoint.path_names}
    return (Carry(SocketCommand(endpoint, path_values, bytes(data), client_ref), in_turn=True),)


def _carries(name: str, summary: str, command: type[Any], *, is_acked: bool) -> ClientEvent:
    """A row for the endpoint of this command; `is_acked`: whether the data has a `client_ref`."""
    endpoint = next(each for each in ENDPOINTS if each.command is command)
    asks = partial(_command, endpoint=endpoint, is_acked=is_acked)
    replies = ("ack", "error") if is_acked else ("error",)
    return ClientEvent(name, summary, command, replies, asks, is_acked)


CLIENT_EVENTS: Final[Mapping[str, ClientEvent]] = MappingProxyType(
    {
        each.name: each
        for each in (
            ClientEvent("ping", "Asks for a sign of life.", KeepaliveData, ("keepalive",), _ping),
            ClientEvent(
                "resume",
                "Asks for what was missed: the first message of a client that connected with `resume=1`.",
                ResumeData,
                ("resumed", "resync_required", "error"),
                _resume,
            ),
            _carries(
                "message.send",
                "Sends a message; `client_ref` is the Idempotency-Key of `POST /messages`.",
                SendMessage,
                is_acked=True,
            ),
            _carries(
                "typing",
                "Reports that the user types in a chat, or has stopped: repeat it every five seconds or so.",
                ReportTyping,
                is_acked=False,
            ),
            _carries(
                "read",
                "Reports that the user has read a chat up to a message, or all of it.",
                MarkRead,
                is_acked=False,
            ),
            ClientEvent(
                "watch",
                "Watches these people, and nobody else: their presence is sent now, and when it changes.",
                WatchData,
                ("presence", "error"),
                _watch,
            ),
        )
    }
)
"""What clients may send, by its `event`."""


def _error(response: HttpResponse, client_ref: str | None) -> bytes:
    headers = dict(response.headers)
    retry_after = int(headers["retry-after"]) if "retry-after" in headers else None
    body = cast("ProblemJson", msgspec.Raw(response.body))
    return encode(Frame("error", ErrorJson(client_ref, body, retry_after)))


def _refuse(reason: Refusal, effect: Carry | Resume) -> bytes:
    client_ref = None
    if isinstance(effect, Carry) and isinstance(effect.command, SocketCommand):
        client_ref = effect.command.client_ref
    match reason:
        case "too_many_commands":
            response = refused(TooManyRequests(1), request_id=request_id(None))
        case "resume_unexpected":
            detail = "Connect with resume=1, and send resume as the first message."
            response = problem(409, reason, detail, request_id=request_id(None))
        case _:
            assert_never(reason)
    return _error(response, client_ref)


VIEWS: Final = Views(user_json, chat_json, message_json)

FULL: Final = full(VIEWS, receive=receive, refuse=_refuse, keepalive=KEEPALIVE)
"""Profile 2."""

PROFILES: Final[Mapping[str, Profile]] = MappingProxyType({"1": PLAIN, "2": FULL})
"""The profiles by the value of `profile` in the handshake's query."""


class SocketCommands:
    """Carries out the commands of sockets."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def carry_out(self, socket: Subscription, command: object) -> None:
        """Begin to carry out a command; replies to its client with `ack`, before its event, or `error`."""
        if not isinstance(command, SocketCommand):
            raise TypeError(f"{type(command).__name__} is no command of a socket")
        socket.start_soon(partial(self._carry_out, socket, command))

    async def _carry_out(self, socket: Subscription, command: SocketCommand) -> None:
        host, address = socket.caller
        key = command.client_ref
        named = {"host": host, "idempotency-key": key}
        headers = {name: value for name, value in named.items() if value is not None}
        endpoint = command.endpoint
        request = HttpRequest(endpoint.method, endpoint.path, b"", headers, command.body, address)
        replied: list[HttpResponse] = []

        def reply(response: HttpResponse) -> None:
            replied.append(response)
            if key is None and response.status < 400:
                return
            try:
                socket.put(Bundle.of(_reply(response, key)))
            except Exception:
                log.exception("A WebSocket could not be replied to", user_id=socket.actor.user_id)

        response = await self._dispatcher.carry_out(
            endpoint,
            request,
            command.path_values,
            socket.actor,
            request_id=request_id(None),
            committed=reply,
        )
        if not replied:
            reply(response)
        socket.carried()


def _reply(response: HttpResponse, client_ref: str | None) -> bytes:
    if client_ref is None or response.status >= 400:
        return _error(response, client_ref)
    return encode(Frame("ack", AckJson(client_ref, cast("MessageJson", msgspec.Raw(response.body)))))
