"""Operations with two users, their chat and their messages; the contract suite tests the decisions."""

from datetime import UTC, datetime

from attrs import evolve

from messaging_core.effects import AdvanceChat, StoreChat, StoreMessage, StoreUser
from messaging_core.events import LogEntry, MessageSubject
from messaging_core.ids import ChatId, MessageId, UserId
from messaging_core.models import Chat, Member, Message, MessageType, Role, User
from messaging_core.ports import Reader, Transaction

NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
CHAT = ChatId(1)
OTHER_CHAT = ChatId(2)
ALICE = UserId(1)
BOB = UserId(2)


def prepare(tx: Transaction) -> None:
    """Create Alice, Bob, their direct chat, and a group."""
    for _ in range(2):
        number = tx.next_user_id()
        email = f"{number}@test.com"
        tx.apply(StoreUser(User(number, email, "Name", f"tag{number}", None, NOW), "hash", email))
    members = tuple(Member(user_id, Role.MEMBER, NOW) for user_id in (ALICE, BOB))
    for is_group in (False, True):
        tx.apply(StoreChat(Chat(tx.next_chat_id(), "", is_group, NOW, members, 0, NOW, None)))


def send(tx: Transaction, content: str = "hello", chat_id: ChatId = CHAT) -> tuple[int, MessageId]:
    """Store a message; its sequence in the chat's log, and its id."""
    chat = tx.lock_chat(chat_id)
    assert chat is not None
    number = chat.sequence + 1
    message = Message(
        tx.next_message_id(),
        chat_id,
        ALICE,
        MessageType.TEXT,
        content,
        None,
        NOW,
        None,
        None,
        None,
        number,
        number,
    )
    tx.apply(StoreMessage(message, number))
    tx.apply(AdvanceChat(evolve(chat, sequence=number, last_message_id=message.id)))
    return number, message.id


def message_of(entry: LogEntry) -> MessageId | None:
    return entry.subject.message_id if isinstance(entry.subject, MessageSubject) else None


def written(reader: Reader) -> list[tuple[int, MessageId | None]]:
    """The chat's log, which must agree with its history."""
    log = [(entry.sequence, message_of(entry)) for entry in reader.log(CHAT, 0, 100_000)]
    history = [message.id for message in reader.messages_after(CHAT, MessageId(0), 100_000)]
    assert [number for number, _ in log] == list(range(1, len(log) + 1))
    assert [message_id for _, message_id in log] == history
    return log
