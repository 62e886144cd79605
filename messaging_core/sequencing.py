"""In which order a process delivers what many processes commit, and how it detects a gap.

For each chat with a member here, a process keeps its *position*: the number up to which it has delivered the
chat's log. Its own commits and the signals of others arrive in any order, twice or not at all. The next event
is delivered, an earlier one is dropped, a later one is held until a signal or the log closes the gap. So each
process delivers the events of a chat once, in the order of its log, whichever process committed them.

Where a position starts, and why no event is lost at the start:

- The hub knows a socket, and its user's signals are received, *before* the positions of the user's chats are
  read: the *baseline*. An event that commits after that reading is signalled after it, beyond the baseline;
  one that committed before is below it, and the client could read it before its socket opened.
- A signal that arrives in between is held until the baseline is known, then taken or dropped like any other.
- A chat that is followed already keeps its position: a lower one would deliver events twice, a higher one
  would skip events that other users here still wait for.
- Once all chats of a user are followed, any other chat must be new to the user: it is followed from its
  beginning, because its earlier signals were lost. A user who joined an old chat receives only what was
  logged since (`fanout.replay`), on whichever user's account the log is read.
- A comparison with the storage asks for the chats of users whose baseline was known before it began, so that
  the same holds for what it finds.
- A chat is forgotten when a comparison of all users here has not found it and no user came meanwhile.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from messaging_core.effects import Deliver
from messaging_core.ids import ChatId, UserId
from messaging_core.models import Chat
from messaging_core.signals import Reference

MAX_HELD = 10_000
"""Events held for a gap to close or for a baseline; further ones are read from the log."""

Deliveries = tuple[Deliver, ...] | None
"""What a number of a log stands for: a delivery, none where its subject is gone, or None while unknown
here."""


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
        """The deliveries that are due now that a number of a followed chat has arrived."""
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
        """The deliveries that are due now that the log was read, from the chat's position on or from below
        it.

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

    # --- users come and go ---

    def come(self, user_id: UserId) -> bool:
        """Note a user's socket that the hub knows; whether the user's chats must be read for `settle`."""
        if user_id in self._settled:
            return False
        self._coming[user_id] += 1
        self._came_since.add(user_id)
        return True

    def settle(
        self, user_id: UserId, chats: Iterable[Chat], *, followed: Collection[ChatId] = ()
    ) -> Sequence[Deliver]:
        """The deliveries that are due now that a user's chats were read, after `come`.

        `followed` names those that were followed already: of these nothing else needs to be known.
        """
        self._stop_waiting(user_id)
        self._affirmed.update(followed)
        for chat in chats:
            self._affirmed.add(chat.id)
            if chat.id in self.sequences:
                continue
            new = any(
                member.user_id in self._settled and member.joined_at <= chat.created_at
                for member in chat.members
            )
            # It is new to a settled user: its signals were lost, or are under way.
            self.sequences.follow(chat.id, 0 if new else chat.sequence)
            if new:
                self.sequences.take(chat.id, chat.sequence, None)
        self._settled.add(user_id)
        return self._arrive_again()

    def turn_away(self, user_id: UserId) -> Sequence[Deliver]:
        """The deliveries that are due now that a user's chats could not be read, after `come`."""
        self._stop_waiting(user_id)
        return self._arrive_again()

    def go(self, user_id: UserId) -> None:
        """Note that the user's last socket closed."""
        self._settled.discard(user_id)

    # --- signals ---

    def arrive(self, signal: Deliver | Reference) -> Sequence[Deliver] | None:
        """The deliveries that are due now that an event was committed; None where no user here is
        concerned.
        """
        if isinstance(signal, Deliver):
            chat_id, sequence = signal.entry.chat_id, signal.entry.sequence
            deliveries: Deliveries = (signal,)
        else:
            chat_id, sequence = signal.chat_id, signal.sequence
            deliveries = None
        if chat_id in self.sequences:
            return self.sequences.take(chat_id, sequence, deliveries)
        if signal.audience is None:
            # An older chat with members here is followed already: only a new one is looked up.
            if sequence == 1:
                self._unknown[chat_id] = None
            wanted = bool(self._coming)
        elif any(user_id in self._settled for user_id in signal.audience):
            self.sequences.follow(chat_id, 0)
            return self.sequences.take(chat_id, sequence, deliveries)
        else:
            wanted = any(user_id in self._coming for user_id in signal.audience)
        if not wanted:
            return None
        if len(self._early) < self._max_held:
            self._early.append(signal)
        else:
            self.spilt = True
        return ()

    def take_unknown(self) -> Collection[ChatId]:
        """Remove and return the new chats whose members must be read."""
        unknown, self._unknown = self._unknown, {}
        return unknown

    def looked_up(self, chat: Chat) -> None:
        """Follow a new chat from its beginning, if it has settled members."""
        if chat.id not in self.sequences and any(user_id in self._settled for user_id in chat.member_ids):
            self.sequences.follow(chat.id, 0)
            self.sequences.take(chat.id, chat.sequence, None)

    # --- comparisons ---

    def begin_comparison(self) -> tuple[Collection[UserId], Collection[UserId]]:
        """The users whose positions to read: the settled ones, and those whose baseline is being read."""
        self._came_since.clear()
        self._affirmed.clear()
        self._positions_then = dict(self.sequences.positions)
        self.spilt = False
        return frozenset(self._settled), frozenset(self._coming)

    def compare(self, positions: Mapping[ChatId, int]) -> int:
        """Compare the chats of settled users with the storage; the count of those that moved on."""
        moved = 0
        for chat_id, sequence in positions.items():
            self.sequences.follow(chat_id, 0)
            if sequence > self.sequences.heard(chat_id):
                moved += 1
                self.sequences.take(chat_id, sequence, None)
        return moved

    def forget_others(self, found: Collection[ChatId]) -> None:
        """End a comparison that `found` all chats of all users here: forget the others.

        A chat that moved since the comparison began is kept: the move may be a user's joining. While a user
        comes who was not there when it began, every chat is kept: events of that user's chats, which the
        comparison did not look for, may be delivered already.
        """
        then, self._positions_then = self._positions_then, {}
        if any(user_id in self._coming for user_id in self._came_since):
            return
        for chat_id in then.keys() - set(found) - self._affirmed:
            if self.sequences.position(chat_id) == then[chat_id]:
                self.sequences.forget(chat_id)

    def _stop_waiting(self, user_id: UserId) -> None:
        self._coming[user_id] -= 1
        if not self._coming[user_id]:
            del self._coming[user_id]

    def _arrive_again(self) -> Sequence[Deliver]:
        early, self._early = self._early, []
        return [delivery for signal in early for delivery in self.arrive(signal) or ()]
