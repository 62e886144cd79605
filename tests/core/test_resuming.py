"""What a client that comes back is sent, by the numbers of its chats."""

from hypothesis import given
from hypothesis import strategies as st

from messaging_core.ids import ChatId
from messaging_core.limits import Limits
from messaging_core.positions import Reach
from messaging_core.resuming import Resumption, resumption

LIMITS = Limits(resumed_events=10)
A, B, C = ChatId(1), ChatId(2), ChatId(3)


def test_events_that_were_missed_are_sent() -> None:
    """Of each known chat those after the client's number; nothing where there are none."""
    found = resumption(
        {A: 5, B: 7, C: 0}, {A: Reach(5, True), B: Reach(9, True), C: Reach(1, True)}, limits=LIMITS
    )
    assert found == Resumption({A: 5, B: 7, C: 0}, {C: 1, B: 9})


def test_a_chat_that_the_client_does_not_know_is_new() -> None:
    """Unless the user has left it since."""
    found = resumption({}, {A: Reach(5, True), B: Reach(9, False)}, limits=LIMITS)
    assert found == Resumption({}, new=(A,))


def test_a_chat_that_was_left_is_sent_up_to_the_end() -> None:
    """What the client has of it is never compared again once it has everything."""
    found = resumption({A: 5, B: 9}, {A: Reach(7, False), B: Reach(9, False)}, limits=LIMITS)
    assert found == Resumption({A: 5}, {A: 7})


def test_a_chat_with_too_many_missed_events_is_sent_as_it_is() -> None:
    """The shortest come first, so that most chats need no resync; of one that was left the end is sent."""
    reaches = {A: Reach(100, True), B: Reach(6, True), C: Reach(104, False), ChatId(4): Reach(16, True)}
    found = resumption({A: 90, B: 1, C: 4, ChatId(4): 11}, reaches, limits=LIMITS)
    assert found == Resumption(
        {A: 90, B: 1, C: 103, ChatId(4): 11}, {B: 6, ChatId(4): 16, C: 104}, too_long=(A,)
    )


def test_a_number_above_the_log_is_of_another_log() -> None:
    """So is one of a chat that the user was never in."""
    assert resumption({A: 6}, {A: Reach(5, True)}, limits=LIMITS) is None
    assert resumption({A: 6}, {A: Reach(5, False)}, limits=LIMITS) is None
    assert resumption({A: 1}, {B: Reach(5, True)}, limits=LIMITS) is None


chats = st.integers(1, 6).map(ChatId)


@given(
    st.dictionaries(chats, st.integers(0, 30)),
    st.dictionaries(chats, st.builds(Reach, st.integers(1, 30), st.booleans())),
)
def test_every_chat_is_brought_up_to_date(known: dict[ChatId, int], reaches: dict[ChatId, Reach]) -> None:
    """By its events, at most the bound in all, or as a whole; nothing is sent twice or of others."""
    found = resumption(known, reaches, limits=LIMITS)
    if found is None:
        assert any(chat not in reaches or number > reaches[chat].number for chat, number in known.items())
        return
    left = [chat for chat in found.missed if not reaches[chat].is_open and found.accepted[chat] > known[chat]]
    sent = {chat: number - found.accepted[chat] for chat, number in found.missed.items()}
    assert sum(count for chat, count in sent.items() if chat not in left) <= LIMITS.resumed_events
    assert all(sent[chat] == 1 for chat in left)
    for chat, reach in reaches.items():
        ways = [chat in found.missed, chat in found.too_long, chat in found.new]
        behind = known[chat] < reach.number if chat in known else reach.is_open
        assert sum(ways) == behind
        if chat in found.missed:
            assert found.missed[chat] == reach.number
