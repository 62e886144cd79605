"""One socket's protocol as pure state, its frames, and the bounded queue of those not written yet.

A socket whose peer does not read fills its outbox. Ephemeral frames are shed first: one is dropped if the
outbox is half full, and those that wait are dropped for a durable frame that does not fit otherwise. A
durable frame that does not fit even then closes the socket, so that its client reconnects and catches up
instead of missing an event unknowingly.

The protocol performs no I/O. Bundles of frames, the client's messages and the time go in; bytes to write, a
close, effects, and the next deadline come out. `WriteState` says who writes:

    UNOPENED --open--> IDLE --deliver--> (the caller offers the frames at once) --stall, close--> BUSY
    UNOPENED --open, if something waits--> BUSY --next_write: bytes--> BUSY --next_write: nothing--> IDLE
    BUSY --next_write: a close--> ENDED

A socket whose profile counts has `Positions`: it accepts a chat's live events without gaps, and is behind in
a chat whose next event it was not given, or whose next event is shown from the log. Its caller reads the log
from the position on, as fast as the outbox drains. A socket that resumes leaves out every event until its
client has said what it has, and the caller has sent the rest.
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from math import inf

from attrs import define, frozen

from messaging_core.ids import ChatId, UserId
from messaging_core.limits import Limits
from messaging_core.models import Presence, PresenceStatus
from messaging_core.profiles import Carry, Close, Profile, Reply, Resume, SocketEffect, WatchPeople

# --- frames -------------------------------------------------------------------------------------------------

WRITE_BYTES = 65_536
"""Bytes offered or written at a time: a larger write would leave the outbox's bound while it waits."""


def text_frame(payload: bytes) -> bytes:
    """A whole text message from a server (RFC 6455, 5.2): not masked, so the same bytes for every socket."""
    size = len(payload)
    if size < 126:
        head = bytes((FIN_TEXT, size))
    elif size < 1 << 16:
        head = bytes((FIN_TEXT, 126)) + size.to_bytes(2)
    else:
        head = bytes((FIN_TEXT, 127)) + size.to_bytes(8)
    return head + payload


def payloads(frames: bytes) -> Iterator[bytes]:
    """Yields the payloads of concatenated frames from `text_frame`."""
    start = 0
    while start < len(frames):
        size = frames[start + 1]
        start += 2
        wide = {126: 2, 127: 8}.get(size, 0)
        if wide:
            size = int.from_bytes(frames[start : start + wide])
            start += wide
        yield frames[start : start + size]
        start += size


FIN_TEXT = 0x81
"""The first byte of a frame that is a whole text message."""


@frozen
class Span:
    """The numbers of consecutive events in a chat's log, both ends included."""

    chat_id: ChatId
    first: int
    last: int


@define(eq=False)
class Bundle:
    """Frames that are written together, encoded once for all sockets of a profile.

    Not frozen, which would take a microsecond an event.
    """

    frames: Sequence[bytes]
    joined: bytes
    """The frames, concatenated: at most `WRITE_BYTES`, or one frame."""
    is_ephemeral: bool = False
    span: Span | None = None
    """The events of a log that the frames show, those included that the profile does not show."""
    is_deferred: bool = False
    """Whether its event is shown from the log, so that here are no frames of it."""

    @classmethod
    def of(cls, payload: bytes, *, is_ephemeral: bool = False) -> "Bundle":
        """A bundle of one frame that shows no event of a log."""
        frame = text_frame(payload)
        return cls((frame,), frame, is_ephemeral)


def bundles(
    shown: Iterable[tuple[int, bytes | None]], *, log_of: ChatId | None = None, is_ephemeral: bool = False
) -> list[Bundle]:
    """A chat's events in order, in as few bundles as their sizes allow.

    An event is its number and its payload, None where the profile does not show it. With `log_of`, the chat
    that numbers them, each bundle says which numbers it holds, and those without a frame are kept.
    """
    made: list[Bundle] = []
    frames: list[bytes] = []
    size = 0
    first: int | None = None
    last = 0
    for number, payload in shown:
        frame = b"" if payload is None else text_frame(payload)
        if frame and frames and size + len(frame) > WRITE_BYTES:
            made.append(_bundle(frames, is_ephemeral, log_of, first, last))
            frames, size, first = [], 0, None
        if frame:
            frames.append(frame)
            size += len(frame)
        if first is None:
            first = number
        last = number
    if frames or log_of is not None:
        made.append(_bundle(frames, is_ephemeral, log_of, first, last))
    return made


class Deferred(Enum):
    """In place of a payload: the event is shown from the log."""

    DEFERRED = "deferred"


DEFERRED = Deferred.DEFERRED


def counted_bundles(shown: Iterable[tuple[int, bytes | Deferred | None]], chat_id: ChatId) -> list[Bundle]:
    """The `bundles` of a profile that counts; each deferred event is one of its own."""
    made: list[Bundle] = []
    run: list[tuple[int, bytes | None]] = []
    for number, payload in shown:
        if payload is DEFERRED:
            if run:
                made += bundles(run, log_of=chat_id)
                run = []
            made.append(Bundle((), b"", span=Span(chat_id, number, number), is_deferred=True))
        else:
            run.append((number, payload))
    return made + bundles(run, log_of=chat_id) if run else made


def _bundle(
    frames: Sequence[bytes], is_ephemeral: bool, log_of: ChatId | None, first: int | None, last: int
) -> Bundle:
    span = None if log_of is None or first is None else Span(log_of, first, last)
    return Bundle(frames, b"".join(frames), is_ephemeral, span)


# --- the outbox ---------------------------------------------------------------------------------------------


class PutResult(Enum):
    """The result of `Outbox.put`."""

    QUEUED = "queued"
    SHED = "shed"
    """An ephemeral frame was dropped."""
    FULL = "full"
    """A durable frame does not fit: close the socket as a slow consumer."""


class Outbox:
    """The frames queued for one socket, oldest first; bounded by `outbox_frames` and `outbox_bytes`.

    Ephemeral frames may fill half of it, and make room for durable ones.
    """

    __slots__ = ("_ephemeral", "_frames", "_max_bytes", "_max_frames", "_size", "_taken")

    def __init__(self, limits: Limits) -> None:
        self._max_frames = limits.outbox_frames
        self._max_bytes = limits.outbox_bytes
        self._frames: deque[bytes] = deque()
        self._size = 0
        self._taken = 0
        """The count of frames that were taken or shed."""
        self._ephemeral: list[int] = []
        """Which frames are ephemeral, counted from the first one that was ever queued."""

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def size(self) -> int:
        """Queued bytes."""
        return self._size

    def put(self, frame: bytes, *, ephemeral: bool = False) -> PutResult:
        """Append a frame, unless it does not fit; a durable one has the ephemeral ones shed before."""
        if ephemeral:
            if not self._fits(frame, 2):
                return PutResult.SHED
            self._ephemeral.append(self._taken + len(self._frames))
        elif not self._fits(frame, 1):
            self._shed()
            if not self._fits(frame, 1):
                return PutResult.FULL
        self._frames.append(frame)
        self._size += len(frame)
        return PutResult.QUEUED

    def _fits(self, frame: bytes, share: int) -> bool:
        """Whether the frame fits into the outbox's part of one in `share`."""
        return (
            len(self._frames) + 1 <= self._max_frames // share
            and self._size + len(frame) <= self._max_bytes // share
        )

    def _shed(self) -> None:
        """Drop the ephemeral frames."""
        shed = set(self._ephemeral)
        waiting = self._frames
        self._frames = deque(frame for number, frame in enumerate(waiting, self._taken) if number not in shed)
        self._size = sum(map(len, self._frames))
        self._taken += len(waiting) - len(self._frames)
        self._ephemeral = []

    def take(self, size: int = 0) -> bytes:
        """Remove and join the oldest frames: all that fit in `size` bytes, and at least one.

        Returns no bytes when the outbox is empty.
        """
        waiting = len(self._frames)
        batch = self._frames.popleft() if self._frames else b""
        if self._frames and len(batch) + len(self._frames[0]) <= size:
            frames = [batch]
            length = len(batch)
            while self._frames and length + len(self._frames[0]) <= size:
                frames.append(self._frames.popleft())
                length += len(frames[-1])
            batch = b"".join(frames)
        self._size -= len(batch)
        self._taken += waiting - len(self._frames)
        if self._ephemeral:
            self._ephemeral = [number for number in self._ephemeral if number >= self._taken]
        return batch


# --- positions ----------------------------------------------------------------------------------------------


class Positions:
    """The number up to which a socket has accepted each chat's events: in order, without gaps.

    A chat without a position begins with its next event.
    """

    __slots__ = ("_accepted", "_behind", "has_shed", "is_held")

    def __init__(self, *, is_held: bool = False) -> None:
        self.is_held = is_held
        """Whether every event is left out, because the client is still sent what it missed."""
        self.has_shed = False
        """Whether an ephemeral event was left out since the caller has set it to false."""
        self._accepted: dict[ChatId, int] = {}
        self._behind: dict[ChatId, int] = {}

    @property
    def accepted(self) -> Mapping[ChatId, int]:
        return self._accepted

    @property
    def behind(self) -> Mapping[ChatId, int]:
        """The last number that was left out of each chat whose log must be read from the position on.

        A chat without a position here was new while all events were held.
        """
        return self._behind

    def accept(self, span: Span) -> bool:
        """Whether these events are the next ones, which counts them as accepted."""
        position = self._accepted.get(span.chat_id)
        if not self.is_held and (
            span.first == position + 1 if position is not None else span.chat_id not in self._behind
        ):
            self._accepted[span.chat_id] = span.last
            return True
        if position is None or span.last > position:
            self._behind[span.chat_id] = max(span.last, self._behind.get(span.chat_id, 0))
        return False

    def defer(self, span: Span) -> None:
        """Leave out events that are to be read from the log; a chat without a position begins with them."""
        if not self.is_held and span.chat_id not in self._behind:
            self._accepted.setdefault(span.chat_id, span.first - 1)
        if span.last > self._accepted.get(span.chat_id, 0):
            self._behind[span.chat_id] = max(span.last, self._behind.get(span.chat_id, 0))

    def resume(self, accepted: Mapping[ChatId, int], behind: Mapping[ChatId, int]) -> None:
        """Note what the client of a held socket has, and the chats with more."""
        self._accepted.update(accepted)
        for chat_id, number in behind.items():
            self._behind[chat_id] = max(number, self._behind.get(chat_id, 0))
        for chat_id, number in list(self._behind.items()):
            if number <= self._accepted.get(chat_id, 0):
                del self._behind[chat_id]

    def catch_up(self, chat_id: ChatId, position: int) -> None:
        """Note that the socket has accepted a chat's events up to `position`, by replay for example.

        The chat stays behind if a later event was left out meanwhile.
        """
        self._accepted[chat_id] = position
        if self._behind.get(chat_id, 0) <= position:
            self._behind.pop(chat_id, None)

    def begin_anew(self) -> None:
        """Forget everything: each chat begins with its next event."""
        self._accepted.clear()
        self._behind.clear()
        self.is_held = False


# --- presence -----------------------------------------------------------------------------------------------


class WatchList:
    """The people whom a socket watches, and what was last found of each."""

    __slots__ = ("_noted",)

    def __init__(self, user_ids: Iterable[UserId]) -> None:
        self._noted: dict[UserId, Presence | None] = dict.fromkeys(user_ids)

    @property
    def user_ids(self) -> Collection[UserId]:
        return self._noted.keys()

    def news(self, found: Mapping[UserId, Presence]) -> list[Presence]:
        """What of `found` is about watched people, and differs from what was noted.

        Of people who are online, when they were last seen is no news.
        """
        return [
            presence
            for user_id, noted in self._noted.items()
            if (presence := found.get(user_id)) is not None and _differs(presence, noted)
        ]

    def note(self, presence: Presence) -> None:
        """Note that this presence is no news any more."""
        self._noted[presence.user_id] = presence


def _differs(presence: Presence, noted: Presence | None) -> bool:
    if noted is None or presence.status is not noted.status:
        return True
    return presence.status is PresenceStatus.OFFLINE and presence.last_seen != noted.last_seen


# --- the protocol -------------------------------------------------------------------------------------------

GONE = Close(1006, "")
"""Never sent: the connection is over without a close of ours."""
OUR_FAULT = Close(1011, "internal_error")
RESTARTING = Close(1012, "restarting")
SLOW_CONSUMER = Close(4408, "slow_consumer")
TOO_BIG = Close(1009, "message_too_big")
RESUME_LATE = Close(4410, "resume_late")
"""The client, which asked to resume, has sent nothing in time; it may connect again."""
RESUME_EXPECTED = Close(4510, "resume_expected")
"""The first message of a client that asked to resume was another one, or malformed: a fault of the client."""

RESUME_SECONDS = 10.0
"""Time in which a client that asked to resume must send its positions."""


class WriteState(Enum):
    """Who writes a socket's frames."""

    UNOPENED = "unopened"
    """Nobody yet: frames wait."""
    IDLE = "idle"
    """Nothing waits: a frame may be offered at once."""
    BUSY = "busy"
    """A writer writes what `next_write` returns, until nothing waits."""
    ENDED = "ended"
    """The close was handed to the writer, or the connection is over."""


# Looked up in the class, a state takes longer than the rest of a delivery.
UNOPENED = WriteState.UNOPENED
IDLE = WriteState.IDLE
BUSY = WriteState.BUSY
ENDED = WriteState.ENDED


class SocketProtocol:
    """The state of one socket.

    A method that returns true asks for a writer: a loop that writes what `next_write` returns.
    """

    __slots__ = (
        "_commands",
        "_limits",
        "_outbox",
        "_resume_by",
        "_spoke_at",
        "_state",
        "awaits_resume",
        "closing",
        "is_carrying",
        "positions",
        "profile",
        "watch_list",
    )

    def __init__(self, profile: Profile, limits: Limits, *, resumes: bool = False) -> None:
        self.profile = profile
        self.closing: Close | None = None
        """The close that is due; from then on no frame is accepted."""
        self.positions = Positions(is_held=resumes) if profile.counts else None
        self.is_carrying = False
        """Whether a command that others wait for is carried out."""
        self.watch_list: WatchList | None = None
        """None while the socket watches nobody."""
        self._limits = limits
        self._outbox: Outbox | None = None
        self._state = UNOPENED
        self._spoke_at = inf
        """When the socket last accepted a frame, or was opened."""
        self.awaits_resume = resumes and profile.counts
        """Whether the client's first message, its positions, is due."""
        self._resume_by = inf
        self._commands: deque[Carry] | None = None
        """The commands that wait for their turn."""

    @property
    def deadline(self) -> float:
        """When `tick` is due, by the caller's clock; infinite where it is not."""
        if self.closing is not None:
            return inf
        due = self._spoke_at + self.profile.silence
        return min(due, self._resume_by) if self.awaits_resume else due

    @property
    def waiting(self) -> int:
        """The count of frames in the outbox."""
        return 0 if self._outbox is None else len(self._outbox)

    @property
    def is_behind(self) -> bool:
        """Whether logs must be read, and their events put, for live events to be accepted again."""
        positions = self.positions
        return (
            positions is not None
            and bool(positions.behind)
            and not positions.is_held
            and self.closing is None
        )

    def has_room(self, bundle: Bundle) -> bool:
        """Whether a bundle may be put that is not live: half of the outbox is for live events.

        A single frame may, whatever its size, while nothing waits.
        """
        waiting, size = (0, 0) if self._outbox is None else (len(self._outbox), self._outbox.size)
        if not waiting and len(bundle.frames) == 1:
            return True
        return (
            waiting + len(bundle.frames) <= self._limits.outbox_frames // 2
            and size + len(bundle.joined) <= self._limits.outbox_bytes // 2
        )

    def open(self, now: float) -> bool:
        """Note that frames can be written from now on."""
        if self._state is ENDED:
            return False
        self._spoke_at = now
        self._resume_by = now + RESUME_SECONDS
        waits = self._outbox is not None or self.closing is not None
        self._state = BUSY if waits else IDLE
        return waits

    def deliver(self, bundle: Bundle, now: float) -> bytes | None:
        """The bytes of live events to offer to the connection now; none where they wait, or are left out.

        Report an offer that was not accepted whole to `stall`. None, once, if a durable frame does not fit:
        from then on the socket is closing as a slow consumer.
        """
        if self.closing is not None:
            return b""
        if self.positions is not None and not self._accepts(bundle, self.positions):
            return b""
        self._spoke_at = now
        return bundle.joined if self._state is IDLE else self._queue(bundle)

    def put(self, bundle: Bundle, now: float) -> bytes | None:
        """The same for frames that are not live: replies, and what was missed."""
        if self.closing is not None:
            return b""
        self._spoke_at = now
        return bundle.joined if self._state is IDLE else self._queue(bundle)

    @staticmethod
    def _accepts(bundle: Bundle, positions: Positions) -> bool:
        if bundle.span is None:
            if positions.is_held:
                positions.has_shed = True
            return not positions.is_held
        if bundle.is_deferred:
            positions.defer(bundle.span)
            return False
        return positions.accept(bundle.span) and bool(bundle.frames)

    def stall(self, bundle: Bundle, accepted: int) -> bytes | None:
        """Note that the connection accepted only `accepted` bytes of an offer; start a writer then.

        The writer's first bytes are the rest of an offer that was accepted in part. None as in `deliver`.
        """
        self._state = BUSY
        return b"" if accepted else self._queue(bundle)

    def _queue(self, bundle: Bundle) -> bytes | None:
        if self._outbox is None:
            self._outbox = Outbox(self._limits)
        for frame in bundle.frames:
            if self._outbox.put(frame, ephemeral=bundle.is_ephemeral) is PutResult.FULL:
                self.closing = SLOW_CONSUMER
                return None
        return b""

    def receive(self, message: str | bytes) -> Sequence[SocketEffect]:
        """What a message of the client asks for; nothing once the socket is closing."""
        if self.closing is not None:
            return ()
        if self.positions is None:
            return self.profile.receive(message)
        limits = self._limits
        if _size(message) > (limits.resume_bytes if self.awaits_resume else limits.command_bytes):
            return (TOO_BIG,)
        effects = self.profile.receive(message)
        if self.awaits_resume:
            if [type(effect) for effect in effects] != [Resume]:
                return (RESUME_EXPECTED,)
            self.awaits_resume = False
            return effects
        return tuple([due for effect in effects if (due := self._due(effect)) is not None])

    def _due(self, effect: SocketEffect) -> SocketEffect | None:
        """The effect, or a reply in its place; None if it waits."""
        if isinstance(effect, Resume):
            return Reply(self.profile.refuse("resume_unexpected", effect))
        if isinstance(effect, WatchPeople):
            self.watch_list = WatchList(effect.user_ids) if effect.user_ids else None
            return effect
        if not isinstance(effect, Carry) or not effect.in_turn:
            return effect
        if not self.is_carrying:
            self.is_carrying = True
            return effect
        if self._commands is None:
            self._commands = deque()
        if len(self._commands) == self._limits.commands_queued:
            return Reply(self.profile.refuse("too_many_commands", effect))
        self._commands.append(effect)
        return None

    def carried(self) -> Carry | None:
        """Note that the command in turn has ended; the next one, if one waits and the socket stays open."""
        if self.closing is None and self._commands:
            return self._commands.popleft()
        self._commands = None
        self.is_carrying = False
        return None

    def tick(self, now: float) -> Bundle | Close | None:
        """The bundle to put because the socket has been silent, or the close because its client was."""
        if now < self.deadline:
            return None
        if self.awaits_resume and now >= self._resume_by:
            return RESUME_LATE
        return Bundle.of(self.profile.keepalive, is_ephemeral=True)

    def close(self, close: Close) -> bool:
        """Close the socket after the frames that wait; the first of several closes counts."""
        if self.closing is not None:
            return False
        self.closing = close
        if self._state is not IDLE:
            return False
        self._state = BUSY
        return True

    def end(self) -> None:
        """Note that the connection is over; nothing is written or accepted any more."""
        self._state = ENDED
        if self.closing is None:
            self.closing = GONE

    def next_write(self) -> bytes | Close | None:
        """What the writer writes next: frames, then a close that is due; None where nothing waits.

        The frames of a slow consumer are dropped.
        """
        if self._state is ENDED:
            return None
        if self._outbox is not None and self.closing is not SLOW_CONSUMER:
            frames = self._outbox.take(WRITE_BYTES)
            if frames:
                return frames
        self._outbox = None
        self._state = IDLE if self.closing is None else ENDED
        return self.closing


def _size(message: str | bytes) -> int:
    """Bytes of a message, in UTF-8."""
    return len(message) if isinstance(message, bytes) or message.isascii() else len(message.encode())
