"""A large database of schema 0008, filled by the engine itself: 100,000 memberships and as many messages."""

from collections.abc import Callable

from messaging_core.ids import ChatId, UserId
from messaging_core.marks import NOTHING_READ, Mark
from messaging_core.ports import Reader, Storage
from messaging_core.positions import FOUNDER

# Chats 1 to 50 are direct ones of user 1, chats 51 to 100 are groups of all 2,000 users, and chat 101 is a
# group without messages. Each of the others has 1,000 messages; those of different chats alternate.
NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < LAST)"
FILL = {
    "INSERT INTO users NUMBERS SELECT i, i || '@test.com', 'Name', 'tag' || i, NULL, 5 FROM n": 2000,
    """INSERT INTO chats NUMBERS SELECT i, 'Chat', i > 50, 5, 1001, 5,
    CASE WHEN i <= 100 THEN 99900 + i END, 1, CASE WHEN i > 50 THEN 2000 ELSE 2 END FROM n""": 101,
    "INSERT INTO members NUMBERS SELECT i, 1, 1, 'member', 5 FROM n": 50,
    "INSERT INTO members NUMBERS SELECT i, 2, i + 1, 'member', 5 FROM n": 50,
    """INSERT INTO members NUMBERS
    SELECT 51 + (i - 1) / 2000, 1 + (i - 1) % 2000, 1 + (i - 1) % 2000, 'member', 5 FROM n""": 100_000,
    "INSERT INTO members NUMBERS SELECT 101, i, i, 'owner', 5 FROM n": 1,
    "INSERT INTO events NUMBERS SELECT i, 1, 'chat.created', NULL, 5, NULL FROM n": 101,
    """INSERT INTO messages NUMBERS
    SELECT i, 1 + (i - 1) % 100, 1, 'text', 'hello', NULL, 5, NULL, NULL, NULL, 2 + (i - 1) / 100
    FROM n""": 100_000,
}


def fill_large(execute: Callable[[str], object]) -> None:
    for statement, last in FILL.items():
        execute(statement.replace("NUMBERS", NUMBERS).replace("LAST", str(last)))


async def check_large(storage: Storage) -> None:
    """Each message has its ordinal, and everybody has read what was sent, and is a founder."""

    def look(reader: Reader) -> None:
        for number in (1, 50, 51, 100, 101):
            chat = reader.chat(ChatId(number))
            assert chat is not None
            assert {member.range for member in chat.members} == {FOUNDER}
            history = reader.messages_before(chat.id, None, 1001)
            last = Mark(history[0].id, 1000) if history else NOTHING_READ
            assert chat.message_count == last.ordinal == len(history)
            assert reader.marks(chat.id) == dict.fromkeys(chat.member_ids, last)
            for ordinal, message in list(enumerate(reversed(history), 1))[::99]:
                assert reader.mark_at(chat.id, message.id) == (message.id, ordinal)
        chats = [ChatId(number) for number in range(1, 103)]
        assert len(reader.own_marks(UserId(1), chats)) == 101

    await storage.read(look)
