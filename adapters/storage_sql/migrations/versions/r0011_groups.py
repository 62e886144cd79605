"""Groups have an avatar and a history for new members, and messages the number of their last change.

Nobody has joined a group yet, so every group's history is the default. No row is written but those of changed
messages, whose last change the log has.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

Int64 = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

CHANGED = """
UPDATE messages SET revision = changes.last FROM (
    SELECT message_id, max(sequence) AS last FROM events WHERE message_id IS NOT NULL GROUP BY message_id
) AS changes
WHERE changes.message_id = messages.id
"""


def upgrade() -> None:
    op.add_column("chats", sa.Column("avatar_url", sa.Text))
    op.add_column("chats", sa.Column("history", sa.Text, nullable=False, server_default=sa.text("'joined'")))
    op.add_column("messages", sa.Column("revision", Int64))
    op.execute(CHANGED)
