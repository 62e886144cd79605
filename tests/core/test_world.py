"""The reference storage does what a server does with an operation, without a loop and without I/O."""

from datetime import UTC, datetime
from typing import Any

import pytest

from messaging_core import operations
from messaging_core.commands import DeleteMessage, OpenDirectChat, SendMessage
from messaging_core.effects import AppendEvent, Decision, Deliver, StoreUser
from messaging_core.errors import ChatNotFound
from messaging_core.events import CustomSubject, LogEntry, MessageCreated
from messaging_core.ids import ChatId, MessageId, SessionId, UserId
from messaging_core.limits import Limits
from messaging_core.models import Actor, MessageType, User
from messaging_core.operations import Context
from messaging_core.ports import Reader, Transaction
from messaging_core.privacy import Privacy
from messaging_core.world import World

NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
ALICE, BOB = UserId(1), UserId(2)


def context(user_id: UserId) -> Context:
    return Context(Actor(user_id, SessionId(user_id)), NOW, Limits(), Privacy())


def add_people(tx: Transaction) -> None:
    for name in ("alice", "bob"):
        id_, email = tx.next_user_id(), f"{name}@test.com"
        tx.apply(StoreUser(User(id_, email, name.title(), name, None, NOW), "hash", email))


def hello(chat_id: ChatId) -> SendMessage:
    return SendMessage(chat_id, MessageType.TEXT, "Hello", None)


@pytest.fixture
def world() -> World:
    """Alice and Bob, and their direct chat."""
    world = World()
    world.transact(add_people)
    world.do(operations.open_direct_chat(OpenDirectChat(BOB), context(ALICE)))
    return world


def history(reader: Reader) -> list[str | None]:
    return [message.content for message in reader.messages_before(ChatId(1), None, 10)]


def test_an_operation_gives_its_result_and_its_deliveries(world: World) -> None:
    """They are in the order in which a server performs them, and their events are in the log."""
    message, deliveries = world.do(operations.send_message(hello(ChatId(1)), context(ALICE)))
    assert message.id == MessageId(1)
    (delivery,) = deliveries
    assert isinstance(delivery, Deliver)
    assert (delivery.event, set(delivery.audience)) == (MessageCreated(message), {ALICE, BOB})
    assert world.read(lambda reader: reader.log(ChatId(1), 1, 10)) == [delivery.entry]
    gone, deliveries = world.do(operations.delete_message(DeleteMessage(message.id), context(ALICE)))
    assert gone is None
    assert len(deliveries) == 1
    assert world.read(history) == [None]


def test_a_refused_operation_changes_nothing(world: World) -> None:
    """Its refusal is raised, and no delivery escapes."""
    with pytest.raises(ChatNotFound):
        world.do(operations.send_message(hello(ChatId(9)), context(ALICE)))
    assert world.read(history) == []


def test_an_operation_that_fails_between_its_changes_is_undone(world: World) -> None:
    """All or nothing, whatever the exception; identifiers that it drew are not drawn again."""

    def fail(tx: Transaction) -> Decision[Any]:
        sent = operations.send_message(hello(ChatId(1)), context(ALICE))(tx)
        operations.apply_decision(tx, sent)
        assert history(tx) == ["Hello"]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        world.do(fail)
    assert world.read(history) == []
    message, _ = world.do(operations.send_message(hello(ChatId(1)), context(BOB)))
    assert message.id == MessageId(2)


def test_a_log_has_no_gap(world: World) -> None:
    """An entry that does not take the next number of its chat is a defect of the decision, and not kept."""

    def append(tx: Transaction) -> None:
        tx.apply(AppendEvent(LogEntry(ChatId(1), 3, "acme.pinned", CustomSubject({}), NOW)))

    with pytest.raises(ValueError, match="does not follow on the 1 entries"):
        world.transact(append)
    assert len(world.read(lambda reader: reader.log(ChatId(1), 0, 10))) == 1


def test_worlds_are_independent(world: World) -> None:
    """A second world begins empty."""
    assert World().read(lambda reader: reader.user(ALICE)) is None
    assert world.read(lambda reader: reader.user(ALICE)) is not None
