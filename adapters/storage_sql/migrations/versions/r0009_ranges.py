"""Memberships are ranges of their chat's log, and stay when they have ended; deleted chats leave a row.

Everybody who is a member has been one since the chat was created: the defaults are their ranges. No row is
written, for both engines keep the default of an added column apart from the rows.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

Int64 = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    for name in ("first_sequence", "reads_from"):
        op.add_column("members", sa.Column(name, Int64, nullable=False, server_default=sa.text("1")))
    for name in ("deleted_at", "deleted_by"):
        op.add_column("chats", sa.Column(name, Int64))
    op.add_column("events", sa.Column("user_id", Int64))
    op.create_table(
        "former_members",
        sa.Column("chat_id", Int64, nullable=False),
        sa.Column("last_sequence", Int64, nullable=False),
        sa.Column("user_id", Int64, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("joined_at", Int64, nullable=False),
        sa.Column("first_sequence", Int64, nullable=False),
        sa.Column("reads_from", Int64, nullable=False),
        sa.PrimaryKeyConstraint("chat_id", "last_sequence", "user_id", name="pk_former_members"),
        sa.ForeignKeyConstraint(["chat_id"], ["chats.id"], name="fk_former_members_chat_id"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_former_members_user_id"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_former_members_user_id_chat_id_last_sequence",
        "former_members",
        ["user_id", "chat_id", "last_sequence"],
    )
