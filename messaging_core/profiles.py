"""What a socket speaks: a profile is a column of `EVENTS`, and what it makes of its client's messages.

To add a profile: give `EventKind` a column, and the table of profiles a row that reads it. Profile 2 is
completed by an adapter, which knows the views and the JSON of its client's messages: `full`.
"""

from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any, Final, Literal

from attrs import field, frozen
from attrs.validators import max_len

from messaging_core.events import Event, LogEntry, event_name, kind_of
from messaging_core.frames import NOTHING_MORE, ForViewer, Frame, NumberedFrame, Views
from messaging_core.ids import ChatId, UserId
from messaging_core.models import ChatView, UserView

# --- what a client's message asks for -----------------------------------------------------------------------


@frozen
class Close:
    """The code and reason of a close frame (RFC 6455, 7.4); no frame follows it."""

    code: int
    reason: str


@frozen
class Reply:
    """The payload of a frame for the client that has sent the message, never shed."""

    payload: bytes


@frozen
class Carry:
    """A command of the client; the caller of the socket's protocol carries it out."""

    command: object
    in_turn: bool = False
    """Whether it waits until the socket's earlier commands of this kind have ended."""


@frozen
class Resume:
    """The client comes back with its positions; the caller sends what it missed."""

    log: str
    """The incarnation of the log that the positions are numbers of."""
    chats: Mapping[ChatId, int]
    """For each chat the number up to which the client has every event."""


WATCHED_PEOPLE: Final = 100
"""How many people a socket watches at most."""


@frozen
class WatchPeople:
    """From now on the client watches these people, and nobody else; the caller sends their presence."""

    user_ids: tuple[UserId, ...] = field(validator=max_len(WATCHED_PEOPLE))


SocketEffect = Reply | Carry | Resume | WatchPeople | Close


def ignore(message: str | bytes) -> tuple[()]:
    """A client of profile 1 only listens: whatever it sends asks for nothing."""
    del message
    return ()


# --- profiles -----------------------------------------------------------------------------------------------

Refusal = Literal["too_many_commands", "resume_unexpected"]
"""Why a socket does not carry out what its client has sent."""


@frozen(eq=False)
class Profile:
    """What a socket speaks; a profile equals only itself."""

    show: Callable[[Event, LogEntry | None], Any]
    """The frame of an event, to be encoded as JSON; None where the profile does not show it.

    An ephemeral event has no entry.
    """
    receive: Callable[[str | bytes], Sequence[SocketEffect]] = ignore
    """What a client's message asks for, in order."""
    counts: bool = False
    """Whether its sockets count the events of each chat, so that each receives all of them in order.

    See `SocketProtocol.positions`. A profile that counts greets, and can resume.
    """
    defers: Callable[[Event], bool] = lambda _: False
    """Whether an event is shown from the log, for each viewer; only with `counts`."""
    show_to: Callable[[Event, LogEntry, ForViewer], Any] = lambda *_: None
    """The frame of an event for one viewer, for whom `ForViewer` was read."""
    show_chat: Callable[[ChatView], object] = lambda _: None
    """What its frames show of a chat."""
    show_user: Callable[[UserView], object] = lambda _: None
    """What its frames show of a person."""
    refuse: Callable[[Refusal, Carry | Resume], bytes] = lambda *_: b""
    """The payload of the reply to a message that is not carried out."""
    silence: float = inf
    """Seconds without a frame after which `keepalive` is sent."""
    keepalive: bytes = b""
    """The payload of the frame that ends a silence."""


PLAIN: Final = Profile(lambda event, _: kind_of(event).plain(event))
"""Profile 1, the checklist's."""

SILENCE: Final = 45.0
"""Seconds of silence after which a socket of profile 2 sends `keepalive`."""


def full(
    views: Views,
    *,
    receive: Callable[[str | bytes], Sequence[SocketEffect]],
    refuse: Callable[[Refusal, Carry | Resume], bytes],
    keepalive: bytes,
) -> Profile:
    """Profile 2: every event, numbered, and commands."""

    def show_to(event: Event, entry: LogEntry, more: ForViewer) -> NumberedFrame:
        data = kind_of(event).full(event, entry, views, more)
        return NumberedFrame(event_name(event), entry.chat_id, entry.sequence, data)

    def show(event: Event, entry: LogEntry | None) -> Frame | NumberedFrame:
        if entry is not None:
            return show_to(event, entry, NOTHING_MORE)
        return Frame(event_name(event), kind_of(event).full(event, None, views, NOTHING_MORE))

    return Profile(
        show,
        receive=receive,
        counts=True,
        defers=lambda event: kind_of(event).needs is not None,
        show_to=show_to,
        show_chat=views.chat,
        show_user=views.user,
        refuse=refuse,
        silence=SILENCE,
        keepalive=keepalive,
    )
