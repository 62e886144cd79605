"""Chats store the number of their members, and an index finds owners and admins."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

Int64 = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        _rebuild_chats()
    else:
        op.add_column("chats", sa.Column("member_count", Int64))
        op.execute(
            "UPDATE chats SET member_count = (SELECT count(*) FROM members WHERE members.chat_id = chats.id)"
        )
        op.alter_column("chats", "member_count", nullable=False)
    ranked = sa.text("role <> 'member'")
    op.create_index(
        "ix_members_chat_id_role",
        "members",
        ["chat_id", "role"],
        sqlite_where=ranked,
        postgresql_where=ranked,
    )


def _rebuild_chats() -> None:
    # SQLite adds a NOT NULL column only with one default for all rows, so rebuild the table. The new table is
    # renamed, not the old one, so that foreign keys still refer to the name `chats`.
    op.create_table(
        "counted_chats",
        sa.Column("id", Int64, autoincrement=False, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("is_group", sa.Boolean, nullable=False),
        sa.Column("created_at", Int64, nullable=False),
        sa.Column("sequence", Int64, nullable=False),
        sa.Column("active_at", Int64, nullable=False),
        sa.Column("last_message_id", Int64),
        sa.Column("members_version", Int64, nullable=False),
        sa.Column("member_count", Int64, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_chats"),
        sa.CheckConstraint("id > 0", name=op.f("ck_chats_id")),
        sa.CheckConstraint("sequence >= 0", name=op.f("ck_chats_sequence")),
    )
    op.execute(
        "INSERT INTO counted_chats "
        "SELECT chats.*, (SELECT count(*) FROM members WHERE members.chat_id = chats.id) "
        "FROM chats ORDER BY id"
    )
    op.drop_table("chats")
    op.rename_table("counted_chats", "chats")
