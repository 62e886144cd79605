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

HELD_AT_MOST = 10_000
"""Events that wait for a gap to close, or for a baseline; one that finds no room is read from the log."""

Told = tuple[Deliver, ...] | None
"""What a number of a log stands for: a delivery, nothing that anybody is told of, or None: not known here."""


class Sequences:
    """The positions of chats, and what is held beyond them."""

    def __init__(self, held_at_most: int = HELD_AT_MOST) -> None:
        self._held_at_most = held_at_most
        self._positions: dict[ChatId, int] = {}
        self._heard: dict[ChatId, int] = {}
        """The greatest number heard of, of chats that are behind it."""
        self._held: dict[ChatId, dict[int, tuple[Deliver, ...]]] = {}
        self._count = 0

    def __contains__(self, chat_id: ChatId) -> bool:
        return chat_id in self._positions

    @property
    def held(self) -> int:
        """How many numbers are held."""
        return self._count

    @property
    def behind(self) -> Collection[ChatId]:
        """The chats of which something is missing: read the log from their positions."""
        return self._heard.keys()

    @property
    def positions(self) -> Mapping[ChatId, int]:
        """The numbers up to which each followed chat's log was delivered."""
        return self._positions

    def position(self, chat_id: ChatId) -> int:
        return self._positions[chat_id]

    def heard(self, chat_id: ChatId) -> int:
        """The greatest number that was heard of."""
        return self._heard.get(chat_id, self._positions[chat_id])

    def follow(self, chat_id: ChatId, position: int) -> None:
        """Follow a chat from here; one that is followed already keeps its position."""
        self._positions.setdefault(chat_id, position)

    def forget(self, chat_id: ChatId) -> None:
        """Follow a chat no longer, whatever is held of it."""
        del self._positions[chat_id]
        self._heard.pop(chat_id, None)
        self._count -= len(self._held.pop(chat_id, ()))

    def take(self, chat_id: ChatId, sequence: int, told: Told) -> Sequence[Deliver]:
        """What leaves now that a number of a followed chat has come."""
        position = self._positions[chat_id]
        if sequence <= position:
            return ()
        if sequence == position + 1 and told is not None and chat_id not in self._heard:
            self._positions[chat_id] = sequence
            return told
        self._heard[chat_id] = max(sequence, self._heard.get(chat_id, 0))
        if told is not None:
            held = self._held.setdefault(chat_id, {})
            # What is next finds room in any case: it does not stay.
            if sequence not in held and (self._count < self._held_at_most or sequence == position + 1):
                held[sequence] = told
                self._count += 1
        return self._release(chat_id)

    def read(
        self, chat_id: ChatId, entries: Iterable[tuple[int, tuple[Deliver, ...]]], *, through: int | None
    ) -> Sequence[Deliver]:
        """What leaves now that the log was read from the chat's position on, or from below it.

        `through` is what had been heard of before an end of the log was read, and None where the end was not
        reached. A number up to there that the log does not have was never committed, and is forgotten; and a
        number that is missing in the log was taken from it: what it stood for cannot be told any more.
        """
        if chat_id not in self._positions:
            return ()
        leaving: list[Deliver] = []
        for sequence, told in entries:
            if sequence > self._positions[chat_id]:
                self._drop(chat_id, sequence)
                self._positions[chat_id] = sequence
                leaving += told
        if through is not None:
            self._drop(chat_id, through)
            held = self._held.get(chat_id)
            later = max(held) if held else 0
            if self._heard.get(chat_id, 0) <= through:
                self._heard[chat_id] = later
        leaving += self._release(chat_id)
        return leaving

    def _drop(self, chat_id: ChatId, through: int) -> None:
        held = self._held.get(chat_id, {})
        for sequence in [sequence for sequence in held if sequence <= through]:
            del held[sequence]
            self._count -= 1

    def _release(self, chat_id: ChatId) -> Sequence[Deliver]:
        """What is held and next, taken out."""
        position = self._positions[chat_id]
        held = self._held.get(chat_id, {})
        leaving: list[Deliver] = []
        while (told := held.pop(position + 1, None)) is not None:
            self._count -= 1
            position += 1
            leaving += told
        self._positions[chat_id] = position
        if not held:
            self._held.pop(chat_id, None)
        if self._heard.get(chat_id, 0) <= position:
            self._heard.pop(chat_id, None)
        return leaving


class Following:
    """What a process follows on account of the users who have a socket here."""

    def __init__(self, held_at_most: int = HELD_AT_MOST) -> None:
        self.sequences = Sequences(held_at_most)
        self._held_at_most = held_at_most
        self._coming: Counter[UserId] = Counter()
        """Whose baseline is being read, and for how many sockets."""
        self._settled: set[UserId] = set()
        """All of whose chats are followed."""
        self._early: list[Deliver | Reference] = []
        """What has come before the baseline that says whether it is wanted."""
        self._unknown: dict[ChatId, None] = {}
        self._came_since: set[UserId] = set()
        """Who has come since a comparison began."""
        self._affirmed: set[ChatId] = set()
        """The chats of those who have been settled since then."""
        self._positions_then: dict[ChatId, int] = {}
        self.spilt = False
        """Whether something that came early found no room: a comparison must find it."""

    @property
    def settled(self) -> Collection[UserId]:
        """The users all of whose chats are followed."""
        return self._settled

    @property
    def has_to_look(self) -> bool:
        """Whether the storage must be asked for something: a log, or who is in a chat."""
        return bool(self.sequences.behind or self._unknown)

    # --- users come and go ---

    def come(self, user_id: UserId) -> bool:
        """A user's socket is known to the hub; whether the user's chats must be read for `settle`."""
        if user_id in self._settled:
            return False
        self._coming[user_id] += 1
        self._came_since.add(user_id)
        return True

    def settle(self, user_id: UserId, chats: Iterable[Chat]) -> Sequence[Deliver]:
        """What leaves now that the chats of a user were read, after `come`."""
        self._leave_door(user_id)
        for chat in chats:
            self._affirmed.add(chat.id)
            if chat.id in self.sequences:
                continue
            new = any(
                member.user_id in self._settled and member.joined_at <= chat.created_at
                for member in chat.members
            )
            # To somebody here it is new, and the signals of it were lost, or are under way.
            self.sequences.follow(chat.id, 0 if new else chat.sequence)
            if new:
                self.sequences.take(chat.id, chat.sequence, None)
        self._settled.add(user_id)
        return self._arrive_again()

    def turn_away(self, user_id: UserId) -> Sequence[Deliver]:
        """What leaves now that a user's chats could not be read, after `come`."""
        self._leave_door(user_id)
        return self._arrive_again()

    def go(self, user_id: UserId) -> None:
        """The user's last socket is closed."""
        self._settled.discard(user_id)

    # --- signals ---

    def arrive(self, signal: Deliver | Reference) -> Sequence[Deliver] | None:
        """What leaves now that an event was committed, here or elsewhere; None: it is for nobody here."""
        if isinstance(signal, Deliver):
            chat_id, sequence = signal.entry.chat_id, signal.entry.sequence
            told: Told = (signal,)
        else:
            chat_id, sequence = signal.chat_id, signal.sequence
            told = None
        if chat_id in self.sequences:
            return self.sequences.take(chat_id, sequence, told)
        if signal.audience is None:
            # A chat that was there before is followed if it has members here: only a new one is looked up.
            if sequence == 1:
                self._unknown[chat_id] = None
            wanted = bool(self._coming)
        elif any(user_id in self._settled for user_id in signal.audience):
            self.sequences.follow(chat_id, 0)
            return self.sequences.take(chat_id, sequence, told)
        else:
            wanted = any(user_id in self._coming for user_id in signal.audience)
        if not wanted:
            return None
        if len(self._early) < self._held_at_most:
            self._early.append(signal)
        else:
            self.spilt = True
        return ()

    def take_unknown(self) -> Collection[ChatId]:
        """New chats of which the members must be looked up; they are told once."""
        unknown, self._unknown = self._unknown, {}
        return unknown

    def looked_up(self, chat: Chat) -> None:
        """Follow a new chat from its beginning, if it has members here."""
        if chat.id not in self.sequences and any(user_id in self._settled for user_id in chat.member_ids):
            self.sequences.follow(chat.id, 0)
            self.sequences.take(chat.id, chat.sequence, None)

    # --- comparisons ---

    def begin_comparison(self) -> tuple[Collection[UserId], Collection[UserId]]:
        """Whose chats to read the positions of: those settled, and those whose baseline is being read."""
        self._came_since.clear()
        self._affirmed.clear()
        self._positions_then = dict(self.sequences.positions)
        self.spilt = False
        return frozenset(self._settled), frozenset(self._coming)

    def compare(self, positions: Mapping[ChatId, int]) -> int:
        """Hold chats of users who were settled against the storage; how many of them have moved on."""
        moved = 0
        for chat_id, sequence in positions.items():
            self.sequences.follow(chat_id, 0)
            if sequence > self.sequences.heard(chat_id):
                moved += 1
                self.sequences.take(chat_id, sequence, None)
        return moved

    def forget_others(self, found: Collection[ChatId]) -> None:
        """End a comparison that has `found` all chats of everybody: forget the others.

        Not those in which something has happened since it began, for it may be somebody's coming. And none
        while somebody comes who was not there then: they may be told already of what happens in chats not
        found.
        """
        then, self._positions_then = self._positions_then, {}
        if any(user_id in self._coming for user_id in self._came_since):
            return
        for chat_id in then.keys() - set(found) - self._affirmed:
            if self.sequences.position(chat_id) == then[chat_id]:
                self.sequences.forget(chat_id)

    def _leave_door(self, user_id: UserId) -> None:
        self._coming[user_id] -= 1
        if not self._coming[user_id]:
            del self._coming[user_id]

    def _arrive_again(self) -> Sequence[Deliver]:
        early, self._early = self._early, []
        return [delivery for signal in early for delivery in self.arrive(signal) or ()]
