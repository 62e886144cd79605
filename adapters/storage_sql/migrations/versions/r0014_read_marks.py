"""Messages have an ordinal in their chat, chats count their messages, and members have read marks.

What was sent before is read: otherwise everybody would see years of unread messages.
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"

Int64 = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

NUMBER = """
UPDATE messages SET ordinal = numbered.ordinal FROM (
    SELECT id, row_number() OVER (PARTITION BY chat_id ORDER BY sequence) AS ordinal FROM messages
) AS numbered
WHERE numbered.id = messages.id
"""
COUNT = """
UPDATE chats SET message_count = last.ordinal FROM messages AS last WHERE last.id = chats.last_message_id
"""
READ_DIRECT_CHATS = """
UPDATE chats SET first_read_up_to = last_message_id, first_read_count = message_count,
    second_read_up_to = last_message_id, second_read_count = message_count
WHERE message_count > 0 AND NOT is_group
"""
READ_GROUPS = """
UPDATE members SET read_up_to = chats.last_message_id, read_count = chats.message_count FROM chats
WHERE chats.id = members.chat_id AND chats.message_count > 0 AND chats.is_group
"""


def upgrade() -> None:
    _add("messages", "ordinal")
    _add("chats", "message_count")
    for person in ("first", "second"):
        _add("chats", f"{person}_read_up_to", f"{person}_read_count")
    _add("members", "read_up_to", "read_count")
    for statement in (NUMBER, COUNT, READ_DIRECT_CHATS, READ_GROUPS):
        op.execute(statement)


def _add(table: str, *names: str) -> None:
    for name in names:
        op.add_column(table, sa.Column(name, Int64, nullable=False, server_default=sa.text("0")))
