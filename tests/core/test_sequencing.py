"""The order in which signals and commits leave; no event is left out that a socket here must receive."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from messaging_core.effects import Deliver
from messaging_core.events import (
    THE_CHAT,
    ChatDeleted,
    LogEntry,
    MemberAdded,
    MemberRemoved,
    MemberSubject,
    MessageCreated,
    MessageSubject,
)
from messaging_core.ids import ChatId, MessageId, UserId
from messaging_core.models import Chat, Member, Message, MessageType, Role, Tombstone
from messaging_core.positions import Range, Reach
from messaging_core.sequencing import Following, Sequences
from messaging_core.signals import Reference

NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
CHAT, OTHER = ChatId(1), ChatId(2)
ALICE, BOB, CAROL = UserId(1), UserId(2), UserId(3)


def event(sequence: int, *audience: UserId, chat: ChatId = CHAT) -> Deliver:
    message = Message(
        MessageId(sequence),
        chat,
        ALICE,
        MessageType.TEXT,
        "",
        None,
        NOW,
        None,
        None,
        None,
        sequence,
        sequence,
    )
    entry = LogEntry(chat, sequence, "message.created", MessageSubject(message.id), NOW)
    return Deliver(MessageCreated(message), audience or (ALICE, BOB), entry)


def chat(sequence: int, *members: UserId, id_: ChatId = CHAT, joined: Mapping[UserId, int] = {}) -> Chat:
    """A chat of people who were in it from the start, or `joined` it with these numbers."""
    people = tuple(
        Member(user_id, Role.MEMBER, NOW, Range(joined.get(user_id, 1), 1))
        for user_id in members or (ALICE, BOB)
    )
    return Chat(id_, "", True, NOW, people, sequence, NOW, None)


def member_event(
    kind: type[MemberAdded | MemberRemoved], sequence: int, person: UserId, *others: UserId
) -> Deliver:
    member = Member(person, Role.MEMBER, NOW, Range(sequence, 1))
    entry = LogEntry(CHAT, sequence, kind.__name__, MemberSubject(person), NOW)
    return Deliver(kind(member, len(others)), (*others, person), entry)


def added(sequence: int, person: UserId, *others: UserId) -> Deliver:
    """A person joined; the others were members before."""
    return member_event(MemberAdded, sequence, person, *others)


def added_with(first: int, sequence: int, person: UserId, *others: UserId) -> Deliver:
    """A person joined together with others, whose first event has the number `first`."""
    delivery = added(sequence, person, *others)
    assert isinstance(delivery.event, MemberAdded)
    member = evolve(delivery.event.member, range=Range(first, first))
    return evolve(delivery, event=evolve(delivery.event, member=member))


def removed(sequence: int, person: UserId, *others: UserId) -> Deliver:
    """A person left; the others stay."""
    return member_event(MemberRemoved, sequence, person, *others)


def numbers(leaving: Iterable[Deliver] | None) -> list[int] | None:
    return None if leaving is None else [delivery.entry.sequence for delivery in leaving]


def log(*sequences: int) -> list[tuple[int, tuple[Deliver, ...]]]:
    return [(sequence, (event(sequence),)) for sequence in sequences]


@pytest.fixture
def sequences() -> Sequences:
    sequences = Sequences(max_held=3)
    sequences.follow(CHAT, 4)
    return sequences


def take(sequences: Sequences, sequence: int) -> list[int] | None:
    return numbers(sequences.take(CHAT, sequence, (event(sequence),)))


# --- one chat -----------------------------------------------------------------------------------------------


def test_the_next_event_leaves_once(sequences: Sequences) -> None:
    """The event with the next number leaves, whichever source it has; earlier numbers do not leave again."""
    assert take(sequences, 5) == [5]
    assert take(sequences, 5) == take(sequences, 3) == []
    assert take(sequences, 6) == [6]
    assert not sequences.behind


def test_an_event_beyond_a_gap_waits(sequences: Sequences) -> None:
    """An event beyond a gap leaves after the gap is closed; until then the chat is behind."""
    assert take(sequences, 6) == take(sequences, 7) == take(sequences, 7) == []
    assert list(sequences.behind) == [CHAT]
    assert (sequences.position(CHAT), sequences.heard(CHAT), sequences.held) == (4, 7, 2)
    assert take(sequences, 5) == [5, 6, 7]
    assert not sequences.behind
    assert sequences.held == 0


def test_a_reference_is_a_gap(sequences: Sequences) -> None:
    """A reference makes the relay read the log; a signal with the event closes the gap."""
    assert sequences.take(CHAT, 5, None) == []
    assert list(sequences.behind) == [CHAT]
    assert take(sequences, 6) == []
    assert numbers(sequences.read(CHAT, log(5), through=None)) == [5, 6]
    assert not sequences.behind


def test_a_number_without_an_event_is_skipped(sequences: Sequences) -> None:
    """A log entry of a message that is gone yields no event, and does not stop later ones."""
    assert take(sequences, 6) == []
    assert numbers(sequences.take(CHAT, 5, ())) == [6]


def test_held_events_are_bounded(sequences: Sequences) -> None:
    """An event that does not fit is read from the log later; the next event always fits."""
    for sequence in (6, 7, 8, 9, 10):
        assert take(sequences, sequence) == []
    assert sequences.held == 3
    assert sequences.heard(CHAT) == 10
    assert take(sequences, 5) == [5, 6, 7, 8]
    assert list(sequences.behind) == [CHAT]
    assert numbers(sequences.read(CHAT, log(9, 10), through=10)) == [9, 10]
    assert not sequences.behind


def test_the_log_proves_what_was_not_committed(sequences: Sequences) -> None:
    """Known numbers beyond the log's end were never committed, unless they arrived after the read began."""
    take(sequences, 9)
    heard = sequences.heard(CHAT)
    take(sequences, 12)
    assert numbers(sequences.read(CHAT, log(5, 6), through=heard)) == [5, 6]
    assert (sequences.heard(CHAT), sequences.held) == (12, 1)
    assert numbers(sequences.read(CHAT, [], through=12)) == []
    assert not sequences.behind
    assert sequences.held == 0
    assert take(sequences, 7) == [7]


def test_a_hole_in_the_log_is_skipped(sequences: Sequences) -> None:
    """A removed log entry cannot be delivered, and does not stop later ones."""
    take(sequences, 6)
    take(sequences, 9)
    assert numbers(sequences.read(CHAT, log(3, 8), through=None)) == [8, 9]


def test_the_log_of_a_dropped_chat_is_not_delivered(sequences: Sequences) -> None:
    """If a chat is dropped during the read of its log, the read delivers nothing."""
    take(sequences, 6)
    sequences.forget(CHAT)
    assert sequences.held == 0
    assert not sequences.behind
    assert sequences.read(CHAT, log(5), through=None) == ()


def test_a_position_never_moves_back(sequences: Sequences) -> None:
    """A chat moves on to a later number, releasing what is held beyond it; an earlier one changes nothing."""
    sequences.take(CHAT, 7, (event(7),))
    assert numbers(sequences.skip_to(CHAT, 3)) == []
    assert sequences.position(CHAT) == 4
    assert numbers(sequences.skip_to(CHAT, 6)) == [7]
    assert sequences.position(CHAT) == 7


def test_following_again_does_not_change_the_position(sequences: Sequences) -> None:
    """Moving back would deliver twice, and moving on would leave events out."""
    sequences.follow(CHAT, 2)
    sequences.follow(CHAT, 9)
    assert sequences.position(CHAT) == 4
    assert sequences.heard(CHAT) == 4


LAST = 12
ARRIVALS = st.lists(
    st.tuples(st.integers(1, LAST), st.sampled_from(["signal", "reference", "log", "slice"])), max_size=60
)


@given(st.integers(0, LAST), ARRIVALS, st.integers(0, 4))
def test_every_event_leaves_once_and_in_order(start: int, arrivals: list[tuple[int, str]], room: int) -> None:
    """Every event leaves once and in order, whatever signals are lost, duplicated or reordered."""
    sequences = Sequences(room)
    sequences.follow(CHAT, start)
    left: list[int] = []

    def read(through: int | None, count: int) -> None:
        position = sequences.position(CHAT)
        entries = log(*range(position + 1, LAST + 1)[:count])
        left.extend(numbers(sequences.read(CHAT, entries, through=through)) or ())

    for sequence, how in arrivals:
        match how:
            case "signal":
                left += take(sequences, sequence) or ()
            case "reference":
                left += numbers(sequences.take(CHAT, sequence, None)) or ()
            case "log":
                read(sequences.heard(CHAT), LAST)
            case _:
                read(None, 2)
        assert left == list(range(start + 1, start + 1 + len(left)))
        assert sequences.position(CHAT) == start + len(left)
        assert sequences.held <= room
        assert (CHAT in sequences.behind) == (sequences.heard(CHAT) > sequences.position(CHAT))
    sequences.take(CHAT, LAST, None)
    read(sequences.heard(CHAT), LAST)
    assert left == list(range(start + 1, LAST + 1))
    assert not sequences.behind
    assert sequences.held == 0


# --- the chats of users with a socket here ------------------------------------------------------------------


def settled(*users: UserId, chats: Sequence[Chat] = ()) -> Following:
    following = Following(max_held=3)
    for user_id in users:
        assert following.come(user_id)
        assert not following.settle(user_id, chats)
    return following


def test_events_without_a_socket_here_are_not_stored() -> None:
    """Neither the event nor its chat is stored."""
    following = settled(CAROL)
    assert following.arrive(event(5)) is None
    assert following.arrive(Reference(CHAT, 5, (ALICE,))) is None
    assert following.arrive(Reference(CHAT, 5, None)) is None
    assert not following.sequences.positions


def test_a_user_receives_events_after_the_baseline() -> None:
    """Events up to the baseline are not delivered, later ones are."""
    following = settled(ALICE, chats=[chat(4)])
    assert list(following.settled) == [ALICE]
    assert following.arrive(event(4)) == ()
    assert numbers(following.arrive(event(5))) == [5]
    assert not following.come(ALICE), "another socket of hers needs no baseline"


def test_a_signal_before_the_baseline_waits_for_it() -> None:
    """The baseline decides whether an early signal is past, next or beyond a gap."""
    following = Following()
    following.come(ALICE)
    for signal in (event(4), event(6), Reference(CHAT, 7, None), event(5), event(5, chat=OTHER)):
        assert following.arrive(signal) == ()
    assert numbers(following.settle(ALICE, [chat(4)])) == [5, 6]
    assert list(following.sequences.behind) == [CHAT, OTHER]
    assert following.sequences.heard(CHAT) == 7
    assert following.sequences.position(OTHER) == 0, "it was not among her chats: it is new"


def test_an_early_signal_waits_for_every_arriving_user() -> None:
    """It leaves with the baseline that has its chat, and is dropped if the user is turned away."""
    following = Following()
    for user_id in (ALICE, BOB, BOB):
        following.come(user_id)
    following.arrive(event(5))
    following.arrive(event(3, CAROL, BOB, chat=OTHER))
    assert numbers(following.settle(ALICE, [chat(4)])) == [5]
    assert following.turn_away(BOB) == []
    assert numbers(following.settle(BOB, [chat(2, BOB, CAROL, id_=OTHER)])) == [3]
    following.come(CAROL)
    following.arrive(event(1, CAROL, chat=ChatId(3)))
    assert following.turn_away(CAROL) == []
    assert ChatId(3) not in following.sequences


def test_early_signals_are_bounded() -> None:
    """Early signals beyond the bound are dropped, and a comparison is requested to find them."""
    following = Following(max_held=1)
    following.come(ALICE)
    spilt = [following.arrive(event(number)) is not None and following.spilt for number in (5, 6)]
    assert spilt == [False, True]
    assert numbers(following.settle(ALICE, [chat(4)])) == [5]
    following.begin_comparison()
    assert following.compare({CHAT: Reach(6, is_open=True)}) == 1
    assert list(following.sequences.behind) == [CHAT]


def test_a_new_chat_is_delivered_from_its_first_event() -> None:
    """Members with a socket here receive all events of a new chat; missing ones are read from the log."""
    following = settled(ALICE, BOB)
    assert numbers(following.arrive(event(1))) == [1]
    assert numbers(following.arrive(event(2))) == [2]
    assert following.arrive(event(3, chat=OTHER)) == []
    assert list(following.sequences.behind) == [OTHER]
    assert following.sequences.position(OTHER) == 0


def test_a_chat_is_new_even_if_a_baseline_shows_it_first() -> None:
    """If another member's baseline shows a new chat first, earlier members still receive all its events."""
    following = settled(ALICE)
    following.come(BOB)
    assert following.settle(BOB, [chat(2)]) == []
    assert following.sequences.position(CHAT) == 0
    assert list(following.sequences.behind) == [CHAT]
    assert numbers(following.arrive(event(1))) == [1]
    assert numbers(following.arrive(event(2))) == [2]


def test_an_old_chat_of_an_arriving_user_is_not_delivered_from_its_start() -> None:
    """The history of a chat is not delivered to a member who opens a socket."""
    following = settled(ALICE)
    following.come(BOB)
    following.settle(BOB, [chat(200, BOB, CAROL, joined={BOB: 150})])
    assert following.sequences.position(CHAT) == 200


def test_an_old_chat_that_a_baseline_shows_first_is_delivered_from_the_joining() -> None:
    """If another member's baseline shows it first, a member who joined unheard receives what came since."""
    following = settled(ALICE)
    following.come(BOB)
    assert following.settle(BOB, [chat(200, joined={ALICE: 150})]) == []
    assert (following.sequences.position(CHAT), following.sequences.heard(CHAT)) == (149, 200)
    assert list(following.sequences.behind) == [CHAT]


def test_a_new_chat_of_a_reference_without_audience_is_looked_up() -> None:
    """A new chat is looked up once; an old one need not be, because its members here would be followed."""
    following = settled(ALICE)
    assert following.arrive(Reference(OTHER, 2, None)) is None
    assert following.arrive(Reference(CHAT, 1, None)) is None
    looks = [following.has_to_look, list(following.take_unknown()), following.has_to_look]
    assert looks == [True, [CHAT], False]
    following.looked_up(chat(2, BOB, CAROL, id_=OTHER))
    assert OTHER not in following.sequences
    following.looked_up(chat(3))
    following.looked_up(chat(5))
    assert (following.sequences.position(CHAT), following.sequences.heard(CHAT)) == (0, 3)
    assert following.arrive(event(3)) == []


def test_a_comparison_finds_missed_events() -> None:
    """A comparison finds chats with new events and new chats, and does not count known gaps again."""
    following = settled(ALICE, chats=[chat(4), chat(4, id_=OTHER)])
    following.arrive(event(7))
    users, _ = following.begin_comparison()
    assert users == {ALICE}
    numbers = {CHAT: 7, OTHER: 4, ChatId(3): 2}
    assert following.compare({chat_id: Reach(number, True) for chat_id, number in numbers.items()}) == 1
    assert list(following.sequences.behind) == [CHAT, ChatId(3)]


def test_a_comparison_drops_chats_without_sockets_here() -> None:
    """Chats without an open socket here are dropped, others stay."""
    following = settled(ALICE, chats=[chat(4), chat(4, ALICE, CAROL, id_=OTHER)])
    following.come(BOB)
    following.settle(BOB, [chat(4)])
    following.go(ALICE)
    following.begin_comparison()
    following.forget_others({CHAT: Reach(4, is_open=True)})
    assert list(following.sequences.positions) == [CHAT]


def test_a_comparison_drops_no_chat_that_was_used_since_its_start() -> None:
    """Chats that are new, have new events, or have arriving users stay; none is dropped during an arrival."""
    following = settled(ALICE, chats=[chat(4), chat(4, id_=OTHER)])
    following.begin_comparison()
    following.arrive(event(1, chat=ChatId(3)))
    following.arrive(event(5))
    following.come(BOB)
    following.settle(BOB, [chat(4, id_=OTHER)])
    following.forget_others({})
    assert set(following.sequences.positions) == {CHAT, OTHER, ChatId(3)}
    following.begin_comparison()
    following.come(CAROL)
    following.forget_others({})
    assert set(following.sequences.positions) == {CHAT, OTHER, ChatId(3)}
    following.turn_away(CAROL)
    users, coming = following.begin_comparison()
    assert (users, coming) == ({ALICE, BOB}, set())
    following.forget_others({})
    assert not following.sequences.positions


# --- members come and go ------------------------------------------------------------------------------------


def test_an_old_chat_is_followed_from_the_joining() -> None:
    """A process that hears of a joining follows the old chat from there, not from its beginning."""
    following = settled(ALICE)
    assert numbers(following.arrive(added(50_000, ALICE, BOB, CAROL))) == [50_000]
    assert following.sequences.position(CHAT) == 50_000
    assert not following.has_to_look
    assert numbers(following.arrive(event(50_001, ALICE))) == [50_001]


def test_who_joined_with_others_receives_the_events_of_all() -> None:
    """If their own event arrives first, those of the people who joined before them are read from the log."""
    following = settled(ALICE)
    assert following.arrive(added_with(50_000, 50_001, ALICE, BOB, CAROL)) == []
    assert (following.sequences.position(CHAT), following.sequences.heard(CHAT)) == (49_999, 50_001)


def test_others_here_who_joined_unheard_are_not_skipped() -> None:
    """If a joining concerns another user here, whose own was not heard, the log is read for both."""
    following = settled(ALICE, BOB)
    assert following.arrive(added(50_000, ALICE, BOB, CAROL)) == []
    assert list(following.sequences.behind) == [CHAT]
    read = [(49_000, (added(49_000, BOB, CAROL),)), (50_000, (added(50_000, ALICE, BOB, CAROL),))]
    assert numbers(following.read(CHAT, read, through=50_000)) == [49_000, 50_000]
    assert following.sequences.position(CHAT) == 50_000


def test_a_reference_names_the_person() -> None:
    """A reference without its audience makes the process read the log for the person whom it names."""
    following = settled(ALICE)
    assert following.arrive(Reference(CHAT, 50_000, None, BOB)) is None
    assert following.arrive(Reference(CHAT, 50_000, None, ALICE)) == []
    assert list(following.sequences.behind) == [CHAT]


def test_the_own_removal_is_the_last_thing() -> None:
    """After the last member here has left, later events, and late earlier ones, are not delivered."""
    following = settled(ALICE, chats=[chat(4)])
    assert numbers(following.arrive(removed(5, ALICE, BOB))) == [5]
    assert CHAT not in following.sequences
    assert following.arrive(event(6, BOB)) is None
    for late in (event(3, ALICE), added(2, ALICE, BOB), removed(5, ALICE, BOB)):
        assert following.arrive(late) == ()
    assert CHAT not in following.sequences


def test_joining_again_is_delivered_from_there() -> None:
    """The numbers between two memberships are skipped."""
    following = settled(ALICE, chats=[chat(4)])
    following.arrive(removed(5, ALICE, BOB))
    assert numbers(following.arrive(added(90, ALICE, BOB))) == [90]
    assert numbers(following.arrive(event(91, ALICE))) == [91]


def test_a_chat_is_followed_while_somebody_here_stays() -> None:
    """A removal does not end the chat for other members here; a deletion does, for all."""
    following = settled(ALICE, BOB, chats=[chat(4)])
    assert numbers(following.arrive(removed(5, ALICE, BOB))) == [5]
    assert numbers(following.arrive(event(6, BOB))) == [6]
    entry = LogEntry(CHAT, 7, "chat.deleted", THE_CHAT, NOW)
    deleted = Deliver(ChatDeleted(Tombstone(CHAT, 7, NOW, None)), (BOB, CAROL), entry)
    assert numbers(following.arrive(deleted)) == [7]
    assert CHAT not in following.sequences


def test_a_chat_is_followed_while_more_of_it_is_to_come() -> None:
    """While a later number is known, or a user comes who may be a member, the chat stays."""
    following = settled(ALICE, chats=[chat(4)])
    following.arrive(added(7, ALICE, BOB))
    assert numbers(following.arrive(removed(5, ALICE, BOB))) == [5]
    assert numbers(following.arrive(event(6, BOB))) == [6, 7]
    following.come(BOB)
    assert numbers(following.arrive(removed(8, ALICE, BOB))) == [8]
    assert following.settle(BOB, [], followed=[CHAT]) == []
    assert numbers(following.arrive(event(9, BOB))) == [9]


def test_a_membership_that_was_over_before_the_baseline_is_not_delivered() -> None:
    """A late signal of it, and a comparison, find nothing new; joining again does."""
    following = Following()
    following.come(ALICE)
    assert following.settle(ALICE, [], over={CHAT: 5}) == []
    assert following.arrive(removed(5, ALICE, BOB)) == ()
    following.begin_comparison()
    assert following.compare({CHAT: Reach(5, is_open=False)}) == 0
    following.forget_others({CHAT: Reach(5, is_open=False)})
    assert following.arrive(added(4, ALICE, BOB)) == ()
    assert not following.sequences.positions
    assert numbers(following.arrive(added(9, ALICE, BOB))) == [9]


def test_a_comparison_finds_a_lost_removal() -> None:
    """The end of a membership is read from the log; then the chat is not followed any more."""
    following = settled(ALICE, chats=[chat(4)])
    following.begin_comparison()
    over = {CHAT: Reach(6, is_open=False)}
    assert following.compare(over) == 1
    following.forget_others(over)
    read = [(5, (event(5),)), (6, (removed(6, ALICE, BOB),))]
    assert numbers(following.read(CHAT, read, through=6)) == [5, 6]
    assert CHAT not in following.sequences
    following.begin_comparison()
    assert following.compare(over) == 0


def test_a_comparison_finds_a_membership_that_was_never_heard_of() -> None:
    """Also one that has ended since: it is read from where the process left the chat, if it knew it."""
    following = settled(ALICE)
    following.begin_comparison()
    assert following.compare({CHAT: Reach(9, is_open=False)}) == 1
    assert (following.sequences.position(CHAT), following.sequences.heard(CHAT)) == (0, 9)
    again = settled(ALICE, chats=[chat(4)])
    again.arrive(removed(5, ALICE, BOB))
    assert again.compare({CHAT: Reach(9, is_open=True)}) == 1
    assert again.sequences.position(CHAT) == 5


def test_a_comparison_stops_chats_that_are_over() -> None:
    """A chat with former members here only is not followed; once they are gone, nothing of it stays."""
    following = settled(ALICE, BOB, chats=[chat(4)])
    following.arrive(removed(5, ALICE, BOB))
    following.go(BOB)
    over = {CHAT: Reach(5, is_open=False)}
    following.begin_comparison()
    following.forget_others(over)
    assert CHAT not in following.sequences
    assert following.arrive(removed(5, ALICE, BOB)) == ()
    following.go(ALICE)
    following.begin_comparison()
    following.forget_others({})
    following.come(ALICE)
    following.settle(ALICE, [])
    assert following.arrive(event(1)) != (), "the chat is as new as one that was never known"


def test_a_chat_that_nobody_here_may_see_any_further_is_skipped() -> None:
    """A gap without a reader is forgotten, unless a user comes who may be one."""
    following = settled(ALICE, chats=[chat(4)])
    following.come(BOB)
    following.arrive(event(9, BOB))
    following.skip(CHAT, through=9)
    assert list(following.sequences.behind) == [CHAT]
    following.turn_away(BOB)
    following.skip(CHAT, through=9)
    following.skip(CHAT, through=9)
    assert CHAT not in following.sequences


def test_a_user_who_comes_does_not_receive_an_old_chat_from_its_beginning() -> None:
    """A chat whose log is still to be read for a new member has no position for an old member who comes."""
    joined, over = settled(ALICE), settled(ALICE)
    for following in (joined, over):
        following.arrive(Reference(CHAT, 50_000, None, ALICE))
        following.arrive(event(50_001, ALICE, BOB))
        assert CHAT in following.sequences
        assert not following.follows(CHAT)
        following.come(BOB)
    assert joined.settle(BOB, [chat(50_000, joined={ALICE: 50_000})]) == []
    assert (joined.sequences.position(CHAT), joined.sequences.heard(CHAT)) == (49_999, 50_001)
    assert joined.follows(CHAT)
    assert numbers(joined.read(CHAT, log(50_000), through=None)) == [50_000, 50_001]
    assert numbers(over.settle(BOB, [chat(50_000, BOB, CAROL)])) == [50_001]
    assert over.follows(CHAT)


def test_a_former_membership_changes_nothing_while_others_here_are_members() -> None:
    """A chat that is followed for others keeps its position when a former member comes."""
    following = settled(ALICE, chats=[chat(9)])
    following.come(CAROL)
    following.settle(CAROL, [], followed=[], over={CHAT: 4})
    assert numbers(following.arrive(event(10))) == [10]
