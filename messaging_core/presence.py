"""Who is there, and who types.

Users with a socket are held in the storage by the lease of their process, which prolongs it for all at once.
If the process falls silent, its lease expires. A user who leaves counts as being there for `presence_grace`,
so that a restart, or a connection that is lost for a moment, changes nobody's presence.

Who types is announced to the others of a small chat, remembered for some seconds, and never stored.
"""

from collections import deque
from datetime import datetime, timedelta
from itertools import islice

from attrs import frozen

from messaging_core.commands import ReportTyping
from messaging_core.effects import (
    Decision,
    Effect,
    EndPresence,
    HoldPresence,
    StoreLease,
    StoreSighting,
)
from messaging_core.events import Typing
from messaging_core.fanout import announce_ephemeral
from messaging_core.ids import ChatId, UserId
from messaging_core.limits import Limits
from messaging_core.models import Chat, Presence, PresenceStatus, Sighting

LEASE = timedelta(seconds=60)
"""How long a process that has fallen silent still holds its users."""
OLD_LEASE = timedelta(minutes=10)
"""How long ago a lease has expired that may be deleted."""
RENEW_AFTER = timedelta(seconds=20)
"""How old a lease is when it is renewed."""
CHANGES_AT_ONCE = 250
"""Arrivals and departures in one transaction: some 5 ms."""

# --- who is there -------------------------------------------------------------------------------------------


def presence_of(user_id: UserId, sighting: Sighting | None, now: datetime) -> Presence:
    """The presence of a user, as those see it who may."""
    if sighting is None:
        return Presence(user_id, PresenceStatus.OFFLINE, None)
    if sighting.until > now:
        return Presence(user_id, PresenceStatus.ONLINE, now)
    return Presence(user_id, PresenceStatus.OFFLINE, sighting.at)


def heartbeat(user_id: UserId, known: Sighting | None, *, now: datetime, limits: Limits) -> Decision[None]:
    """Note that a user is there without a socket; stores nothing while the last heartbeat is young."""
    until = now + limits.heartbeat_time
    if known is not None and known.until > until - limits.heartbeat_time / 10:
        return Decision(None)
    return Decision(None, (StoreSighting(user_id, Sighting(now, until)),))


@frozen
class Changes:
    """Users whose first socket in a process has opened, and whose last one has closed."""

    came: tuple[UserId, ...] = ()
    left: tuple[UserId, ...] = ()


def update_lease(
    holder: str, changes: Changes, *, is_new: bool, now: datetime, limits: Limits
) -> Decision[None]:
    """Hold and end what has changed, by a lease that was just renewed, or by a new one."""
    effects: list[Effect] = [StoreLease(holder, now + LEASE)] if is_new else []
    effects += [HoldPresence(holder, user_id) for user_id in sorted(changes.came)]
    seen = Sighting(now, now + limits.presence_grace)
    for user_id in sorted(changes.left):
        effects += (EndPresence(holder, user_id), StoreSighting(user_id, seen))
    return Decision(None, tuple(effects))


class Attendance:
    """Who has a socket in this process, and whom the storage holds for it."""

    def __init__(self) -> None:
        self._present: set[UserId] = set()
        self._held: set[UserId] = set()
        self._changed: dict[UserId, None] = {}
        """Those who are in one of the two sets only, the oldest change first."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nobody to hold, so that no lease is needed."""
        return not (self._present or self._held)

    @property
    def has_changed(self) -> bool:
        return bool(self._changed)

    def come(self, user_id: UserId) -> None:
        """A user has opened a socket, perhaps a further one."""
        self._present.add(user_id)
        self._compare(user_id)

    def go(self, user_id: UserId) -> None:
        """A user has closed their last socket."""
        self._present.discard(user_id)
        self._compare(user_id)

    def changes(self) -> Changes:
        """The oldest changes that the storage does not have, at most `CHANGES_AT_ONCE`."""
        some = tuple(islice(self._changed, CHANGES_AT_ONCE))
        return Changes(
            tuple([user_id for user_id in some if user_id in self._present]),
            tuple([user_id for user_id in some if user_id in self._held]),
        )

    def stored(self, changes: Changes) -> None:
        """The storage has these changes."""
        self._held.update(changes.came)
        self._held.difference_update(changes.left)
        for user_id in (*changes.came, *changes.left):
            self._compare(user_id)

    def begin_anew(self) -> None:
        """The lease has expired: the storage holds nobody for this process any more."""
        self._held.clear()
        self._changed = dict.fromkeys(self._present)

    def _compare(self, user_id: UserId) -> None:
        if (user_id in self._present) == (user_id in self._held):
            self._changed.pop(user_id, None)
        else:
            self._changed.setdefault(user_id)


# --- who types ----------------------------------------------------------------------------------------------


def report_typing(command: ReportTyping, chat: Chat, *, actor: UserId, limits: Limits) -> Decision[None]:
    """Announce it to the others of the actor's chat; in a large chat, to nobody."""
    if chat.member_count > limits.typing_members:
        return Decision(None)
    return Decision(None, (announce_ephemeral(chat, Typing(chat.id, actor, command.is_typing)),))


def others_who_type(chat: Chat, typists: tuple[UserId, ...], *, actor: UserId) -> tuple[UserId, ...]:
    """Those of `typists` whom the actor, a member of the chat, sees typing."""
    return tuple([user_id for user_id in typists if user_id != actor and chat.member(user_id) is not None])


class Typists:
    """Who types in which chat, by the events that a process has received.

    It holds at most the events of the last `typing_time`.
    """

    def __init__(self, limits: Limits) -> None:
        self._lasts = limits.typing_time
        self._chats: dict[ChatId, dict[UserId, datetime]] = {}
        """When each was last said to type, in this order."""
        self._reports: deque[tuple[datetime, ChatId, UserId]] = deque()

    def note(self, event: Typing, now: datetime) -> None:
        """Take the event into account; `now` never decreases by more than a moment."""
        self._forget(now)
        typists = self._chats.setdefault(event.chat_id, {})
        typists.pop(event.user_id, None)
        if event.is_typing:
            typists[event.user_id] = now
            self._reports.append((now, event.chat_id, event.user_id))
        elif not typists:
            del self._chats[event.chat_id]

    def of_chat(self, chat_id: ChatId, now: datetime) -> tuple[UserId, ...]:
        """Who types in the chat now, those who began or repeated it last at the end."""
        self._forget(now)
        return tuple(self._chats.get(chat_id, ()))

    def _forget(self, now: datetime) -> None:
        reports = self._reports
        while reports and now - reports[0][0] >= self._lasts:
            at, chat_id, user_id = reports.popleft()
            typists = self._chats.get(chat_id, {})
            if typists.get(user_id) == at:
                del typists[user_id]
                if not typists:
                    del self._chats[chat_id]
