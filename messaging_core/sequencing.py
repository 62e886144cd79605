"""Orders the events that many processes commit by their numbers in each chat's log, and detects gaps.

For each chat with a member here, a process keeps its *position*: the number up to which it has delivered the
chat's log. Its own commits and the signals of others arrive in any order, twice or not at all. The next event
is delivered, an earlier one is dropped, a later one is held until a signal or the log closes the gap. So each
process delivers the events of a chat once, in the order of its log, whichever process committed them.

Where a position starts, and why no event is lost at the start:

- The hub knows a socket, and its user's signals are received, *before* the positions of the user's chats are
  read: the *baseline*. An event that commits after that reading is signalled after it, beyond the baseline;
  one that committed before is below it, and the client could read it before its socket opened.
- A signal that arrives in between is held until the baseline is known, then delivered or dropped like any
  other.
- A chat that is followed already keeps its position: a lower one would deliver events twice, a higher one
  would skip events that other users here still wait for.
- Once all chats of a user are followed, any other chat must be new to the user, who joined it since: their
  `member.added` names them, and the chat is followed from its number, not from its beginning. Where it is not
  the signal at hand, or concerns others here too, the log is read; that reading begins with the first number
  that any user here may see (`positions.first_seen`), so that an old chat's history is not read.
- When the last member here leaves, or the chat is deleted, it is not followed any more; the number up to
  which it was delivered stays, as long as one of its former members is here. So a late signal of what is over
  delivers nothing again, and joining once more is a gap between two ranges, which nobody here reads.
- A membership that began and ended before any signal of it arrived, in a chat that was not followed, may be
  left out whole: its person can read nothing of it any more.

Why a loss is repaired: a comparison reads how far the memberships of the users here reach, those that have
ended included, up to their end. So a removal that was not signalled is found as well as a message. It asks
for users whose baseline was known before it began, so that a chat that it finds is new to them. A chat is
forgotten when a comparison of all users here has not found it and no user came meanwhile.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType

from messaging_core.effects import Deliver
from messaging_core.events import ChatDeleted, MemberAdded, MemberRemoved
from messaging_core.ids import ChatId, UserId
from messaging_core.models import Chat
from messaging_core.positions import Reach
from messaging_core.signals import Reference, person_of

MAX_HELD = 10_000
"""Events held for a gap to close or for a baseline; further ones are read from the log."""

Deliveries = tuple[Deliver, ...] | None
"""What a number of a log stands for: a delivery, none where its subject is gone, or None while unknown
here."""

ENDINGS = (ChatDeleted, MemberRemoved)
"""The events that end memberships."""


class Sequences:
    """The positions of chats, and the events held beyond them."""

    def __init__(self, max_held: int = MAX_HELD) -> None:
        self._max_held = max_held
        self._positions: dict[ChatId, int] = {}
        self._heard: dict[ChatId, int] = {}
        """The greatest known number of each chat whose position is below it."""
        self._held: dict[ChatId, dict[int, tuple[Deliver, ...]]] = {}
        self._count = 0

    def __contains__(self, chat_id: ChatId) -> bool:
        return chat_id in self._positions

    @property
    def held(self) -> int:
        """The count of held numbers."""
        return self._count

    @property
    def behind(self) -> Collection[ChatId]:
        """The chats with a gap: read their logs from their positions."""
        return self._heard.keys()

    @property
    def positions(self) -> Mapping[ChatId, int]:
        """The number up to which each followed chat's log was delivered."""
        return self._positions

    def position(self, chat_id: ChatId) -> int:
        return self._positions[chat_id]

    def heard(self, chat_id: ChatId) -> int:
        """The greatest known number."""
        return self._heard.get(chat_id, self._positions[chat_id])

    def follow(self, chat_id: ChatId, position: int) -> None:
        """Follow a chat from `position`; a followed one keeps its own."""
        self._positions.setdefault(chat_id, position)

    def forget(self, chat_id: ChatId) -> None:
        """Stop following a chat, and drop its held events."""
        del self._positions[chat_id]
        self._heard.pop(chat_id, None)
        self._count -= len(self._held.pop(chat_id, ()))

    def take(self, chat_id: ChatId, sequence: int, deliveries: Deliveries) -> Sequence[Deliver]:
        """Note the arrival of a number of a followed chat; returns the deliveries that are due then."""
        position = self._positions[chat_id]
        if sequence <= position:
            return ()
        if sequence == position + 1 and deliveries is not None and chat_id not in self._heard:
            self._positions[chat_id] = sequence
            return deliveries
        self._heard[chat_id] = max(sequence, self._heard.get(chat_id, 0))
        if deliveries is not None:
            held = self._held.setdefault(chat_id, {})
            # The next number is always accepted: it does not stay.
            if sequence not in held and (self._count < self._max_held or sequence == position + 1):
                held[sequence] = deliveries
                self._count += 1
        return self._release(chat_id)

    def read(
        self, chat_id: ChatId, entries: Iterable[tuple[int, tuple[Deliver, ...]]], *, through: int | None
    ) -> Sequence[Deliver]:
        """Note entries of a chat's log, read from its position or from below; returns the due deliveries.

        `through` is the greatest number known before the read that reached the log's end, and None where the
        end was not reached. A number up to `through` that the log lacks was never committed, or was removed
        from the log, and is forgotten.
        """
        if chat_id not in self._positions:
            return ()
        due: list[Deliver] = []
        for sequence, deliveries in entries:
            if sequence > self._positions[chat_id]:
                self._drop(chat_id, sequence)
                self._positions[chat_id] = sequence
                due += deliveries
        if through is not None:
            self._drop(chat_id, through)
            held = self._held.get(chat_id)
            later = max(held) if held else 0
            if self._heard.get(chat_id, 0) <= through:
                self._heard[chat_id] = later
        due += self._release(chat_id)
        return due

    def skip_to(self, chat_id: ChatId, position: int) -> Sequence[Deliver]:
        """Move a chat's position on; returns the held deliveries that are due then."""
        if position > self._positions[chat_id]:
            self._drop(chat_id, position)
            self._positions[chat_id] = position
        return self._release(chat_id)

    def _drop(self, chat_id: ChatId, through: int) -> None:
        held = self._held.get(chat_id, {})
        for sequence in [sequence for sequence in held if sequence <= through]:
            del held[sequence]
            self._count -= 1

    def _release(self, chat_id: ChatId) -> Sequence[Deliver]:
        """Remove and return the held deliveries that are next."""
        position = self._positions[chat_id]
        held = self._held.get(chat_id, {})
        due: list[Deliver] = []
        while (deliveries := held.pop(position + 1, None)) is not None:
            self._count -= 1
            position += 1
            due += deliveries
        self._positions[chat_id] = position
        if not held:
            self._held.pop(chat_id, None)
        if self._heard.get(chat_id, 0) <= position:
            self._heard.pop(chat_id, None)
        return due


class Following:
    """The chats that a process follows for the users who have a socket here."""

    def __init__(self, max_held: int = MAX_HELD) -> None:
        self.sequences = Sequences(max_held)
        self._max_held = max_held
        self._coming: Counter[UserId] = Counter()
        """Users whose baseline is being read, each with the count of sockets that wait for it."""
        self._settled: set[UserId] = set()
        """Users all of whose chats are followed."""
        self._early: list[Deliver | Reference] = []
        """Signals that arrived before the baseline that decides whether they are wanted."""
        self._unknown: dict[ChatId, None] = {}
        self._came_since: set[UserId] = set()
        """Users who came since the comparison began."""
        self._affirmed: set[ChatId] = set()
        """The chats of users who were settled since then."""
        self._positions_then: dict[ChatId, int] = {}
        self._over: dict[ChatId, int] = {}
        """The chats that only former members here know, each with the number up to which it was delivered, or
        which is below the baseline."""
        self._loose: dict[ChatId, int] = {}
        """Chats that are followed from a position below the first event that concerns a user here, with that
        position: the next reading of the log finds the event."""
        self.spilt = False
        """Whether an early signal was dropped for want of room: a comparison must find its event."""

    @property
    def settled(self) -> Collection[UserId]:
        """The users all of whose chats are followed."""
        return self._settled

    @property
    def has_to_look(self) -> bool:
        """Whether a log, or the members of a chat, must be read from the storage."""
        return bool(self.sequences.behind or self._unknown)

    def follows(self, chat_id: ChatId) -> bool:
        """Whether a chat's position is one from which a user who comes may go on."""
        return self.sequences.positions.get(chat_id) not in (None, self._loose.get(chat_id))

    # --- users come and go ---

    def come(self, user_id: UserId) -> bool:
        """Note that a user's socket opened; returns whether the user's chats must be read for `settle`."""
        if user_id in self._settled:
            return False
        self._coming[user_id] += 1
        self._came_since.add(user_id)
        return True

    def settle(
        self,
        user_id: UserId,
        chats: Iterable[Chat],
        *,
        followed: Collection[ChatId] = (),
        over: Mapping[ChatId, int] = MappingProxyType({}),
    ) -> Sequence[Deliver]:
        """Follow a user's chats, which were read after `come`; returns the deliveries that are due then.

        `followed` names the user's chats that were followed already, and so were not read. `over` has the
        ends of the user's memberships of other chats.
        """
        due: list[Deliver] = []
        self._stop_waiting(user_id)
        self._affirmed.update(followed)
        for chat in chats:
            self._affirmed.add(chat.id)
            if self.follows(chat.id):
                continue
            since = self._over.pop(chat.id, 0)
            joined = [each.range.first for each in chat.members if each.user_id in self._settled]
            # It is new to settled users: their signals were lost, or are under way.
            due += self._anchor(chat.id, max(since, min(joined) - 1) if joined else chat.sequence)
            if joined:
                due += self.sequences.take(chat.id, chat.sequence, None)
        for chat_id, last in over.items():
            self._affirmed.add(chat_id)
            if chat_id not in self.sequences:
                self._over[chat_id] = max(last, self._over.get(chat_id, 0))
        self._settled.add(user_id)
        return due + self._arrive_again()

    def _anchor(self, chat_id: ChatId, position: int) -> Sequence[Deliver]:
        """Follow a chat from a position that concerns a user here; what was held beyond it may be due."""
        self._loose.pop(chat_id, None)
        if chat_id not in self.sequences:
            self.sequences.follow(chat_id, position)
            return ()
        return self.sequences.skip_to(chat_id, position)

    def turn_away(self, user_id: UserId) -> Sequence[Deliver]:
        """Note that a user's chats could not be read after `come`; returns the due deliveries."""
        self._stop_waiting(user_id)
        return self._arrive_again()

    def go(self, user_id: UserId) -> None:
        """Note that the user's last socket closed."""
        self._settled.discard(user_id)

    # --- signals ---

    def arrive(self, signal: Deliver | Reference) -> Sequence[Deliver] | None:
        """Note a signal; returns the deliveries that are due then, or None if it concerns no user here."""
        if isinstance(signal, Deliver):
            chat_id, sequence = signal.entry.chat_id, signal.entry.sequence
            deliveries: Deliveries = (signal,)
        else:
            chat_id, sequence = signal.chat_id, signal.sequence
            deliveries = None
        if chat_id in self.sequences:
            return self._leaving(self.sequences.take(chat_id, sequence, deliveries))
        people = self._named(signal)
        if any(user_id in self._settled for user_id in people):
            return self._begin(signal, chat_id, sequence, deliveries)
        if signal.audience is None:
            wanted = bool(self._coming)
        else:
            wanted = any(user_id in self._coming for user_id in people)
        if not wanted:
            return None
        if len(self._early) < self._max_held:
            self._early.append(signal)
        else:
            self.spilt = True
        return ()

    def _named(self, signal: Deliver | Reference) -> Collection[UserId]:
        """The users whom a signal names."""
        if isinstance(signal, Deliver) or signal.audience is not None:
            return signal.audience or ()
        # An older chat with members here is followed already: only a new one is looked up.
        if signal.sequence == 1:
            self._unknown[signal.chat_id] = None
        return () if signal.person is None else (signal.person,)

    def _begin(
        self, signal: Deliver | Reference, chat_id: ChatId, sequence: int, deliveries: Deliveries
    ) -> Sequence[Deliver]:
        """Follow a chat that is new to a settled user."""
        since = self._over.get(chat_id, 0)
        if sequence <= since:
            return ()  # a late signal of what is over
        self._over.pop(chat_id, None)
        if isinstance(signal, Deliver) and isinstance(signal.event, MemberAdded):
            person = person_of(signal)
            if all(user_id == person or user_id not in self._settled for user_id in signal.audience):
                # Who joins with others receives the events of all of them, from the first one on.
                since = signal.event.member.range.first - 1
        self._begin_loosely(chat_id, since)
        return self._leaving(self.sequences.take(chat_id, sequence, deliveries))

    def _begin_loosely(self, chat_id: ChatId, position: int) -> None:
        self.sequences.follow(chat_id, position)
        self._loose[chat_id] = position

    def read(
        self, chat_id: ChatId, entries: Iterable[tuple[int, tuple[Deliver, ...]]], *, through: int | None
    ) -> Sequence[Deliver]:
        """Note that a chat's log was read, as `Sequences.read` does; returns the due deliveries."""
        self._loose.pop(chat_id, None)
        return self._leaving(self.sequences.read(chat_id, entries, through=through))

    def skip(self, chat_id: ChatId, *, through: int) -> None:
        """Note that no settled user may see an event of a chat beyond its position.

        `through` is the greatest number known before this was read. While a user comes, who may be a member,
        the gap stays.
        """
        if chat_id in self.sequences and not self._coming:
            self.sequences.read(chat_id, (), through=through)
            self._stop_if_idle(chat_id)

    def _leaving(self, due: Sequence[Deliver]) -> Sequence[Deliver]:
        """Return the deliveries; stop following a chat if the last of them ends the last membership here."""
        if due and isinstance(due[-1].event, ENDINGS):
            last = due[-1]
            staying = () if isinstance(last.event, ChatDeleted) else last.audience
            gone = person_of(last)
            if not any(user_id != gone and user_id in self._settled for user_id in staying):
                self._stop_if_idle(last.entry.chat_id)
        return due

    def _stop_if_idle(self, chat_id: ChatId) -> None:
        """Stop following a chat, unless a later number or a user who may be a member is expected.

        Otherwise the next comparison decides.
        """
        if not self._coming and chat_id not in self.sequences.behind:
            self._stop(chat_id)

    def _stop(self, chat_id: ChatId) -> None:
        """Stop following a chat that only former members here know."""
        self._over[chat_id] = self.sequences.position(chat_id)
        self._forget(chat_id)

    def _forget(self, chat_id: ChatId) -> None:
        self.sequences.forget(chat_id)
        self._loose.pop(chat_id, None)

    def take_unknown(self) -> Collection[ChatId]:
        """Remove and return the new chats whose members must be read."""
        unknown, self._unknown = self._unknown, {}
        return unknown

    def looked_up(self, chat: Chat) -> None:
        """Follow a new chat, if it has settled members."""
        if chat.id not in self.sequences and any(user_id in self._settled for user_id in chat.member_ids):
            self._begin_loosely(chat.id, self._over.pop(chat.id, 0))
            self.sequences.take(chat.id, chat.sequence, None)

    # --- comparisons ---

    def begin_comparison(self) -> tuple[Collection[UserId], Collection[UserId]]:
        """The users whose positions to read: the settled ones, and those whose baseline is being read."""
        self._came_since.clear()
        self._affirmed.clear()
        self._positions_then = dict(self.sequences.positions)
        self.spilt = False
        return frozenset(self._settled), frozenset(self._coming)

    def compare(self, reaches: Mapping[ChatId, Reach]) -> int:
        """Compare the chats of settled users with the storage; the count of those that moved on."""
        moved = 0
        for chat_id, reach in reaches.items():
            if chat_id not in self.sequences:
                if not reach.is_open and reach.number <= self._over.get(chat_id, 0):
                    continue
                self._begin_loosely(chat_id, self._over.pop(chat_id, 0))
            if reach.number > self.sequences.heard(chat_id):
                moved += 1
                self.sequences.take(chat_id, reach.number, None)
        return moved

    def forget_others(self, found: Mapping[ChatId, Reach]) -> None:
        """End a comparison that `found` all chats of all users here: forget the others.

        A chat that moved since the comparison began is kept: the move may be a user's joining. While a user
        comes who was not there when it began, every chat is kept: events of that user's chats, which the
        comparison did not look for, may be delivered already.
        """
        then, self._positions_then = self._positions_then, {}
        if any(user_id in self._coming for user_id in self._came_since):
            return
        for chat_id, position in then.items():
            if chat_id in self._affirmed or self.sequences.positions.get(chat_id) != position:
                continue
            reach = found.get(chat_id)
            if reach is None:
                self._forget(chat_id)
            elif not reach.is_open and reach.number <= position:
                self._stop(chat_id)
        for chat_id in self._over.keys() - found.keys() - self._affirmed:
            del self._over[chat_id]

    def _stop_waiting(self, user_id: UserId) -> None:
        self._coming[user_id] -= 1
        if not self._coming[user_id]:
            del self._coming[user_id]

    def _arrive_again(self) -> list[Deliver]:
        early, self._early = self._early, []
        return [delivery for signal in early for delivery in self.arrive(signal) or ()]
