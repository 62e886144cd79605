"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

# A copy of the definitions in `tables`, because a revision must not change with them.
Int64 = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.create_table(
            "sequences",
            sa.Column("kind", sa.Text, nullable=False),
            sa.Column("last", Int64, nullable=False),
            sa.PrimaryKeyConstraint("kind", name="pk_sequences"),
            sqlite_with_rowid=False,
        )
    else:
        for kind in ("user", "session", "chat", "message"):
            op.execute(sa.schema.CreateSequence(sa.Sequence(f"{kind}_ids")))
    _create_people()
    _create_chats()
    op.create_table(
        "answers",
        sa.Column("user_id", Int64, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
        sa.Column("status", Int64, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("created_at", Int64, nullable=False),
        sa.PrimaryKeyConstraint("user_id", "method", "path", "key", name="pk_answers"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_answers_created_at", "answers", ["created_at"])


def _create_people() -> None:
    op.create_table(
        "users",
        sa.Column("id", Int64, autoincrement=False, nullable=False),
        sa.Column("email", sa.Text, nullable=False),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("tag", sa.Text, nullable=False),
        sa.Column("avatar_url", sa.Text),
        sa.Column("created_at", Int64, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("email", name="uq_users_email"),
        sa.UniqueConstraint("tag", name="uq_users_tag"),
        sa.CheckConstraint("id > 0", name=op.f("ck_users_id")),
    )
    op.create_table(
        "password_hashes",
        sa.Column("user_id", Int64, autoincrement=False, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("user_id", name="pk_password_hashes"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_password_hashes_user_id"),
    )
    op.create_table(
        "sessions",
        sa.Column("id", Int64, autoincrement=False, nullable=False),
        sa.Column("user_id", Int64, nullable=False),
        sa.Column("device", sa.Text, nullable=False),
        sa.Column("created_at", Int64, nullable=False),
        sa.Column("refreshed_at", Int64, nullable=False),
        sa.Column("expires_at", Int64, nullable=False),
        sa.Column("generation", Int64, nullable=False),
        sa.Column("confirmed", sa.Boolean, nullable=False),
        sa.Column("ended_at", Int64),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_sessions_user_id"),
        sa.CheckConstraint("id > 0", name=op.f("ck_sessions_id")),
        sa.CheckConstraint("generation > 0", name=op.f("ck_sessions_generation")),
    )
    op.create_index("ix_sessions_user_id", "sessions", ["user_id"])
    op.create_index("ix_sessions_expires_at", "sessions", ["expires_at"])
    ended = sa.text("ended_at IS NOT NULL")
    op.create_index(
        "ix_sessions_ended_at", "sessions", ["ended_at"], sqlite_where=ended, postgresql_where=ended
    )


def _create_chats() -> None:
    op.create_table(
        "chats",
        sa.Column("id", Int64, autoincrement=False, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("is_group", sa.Boolean, nullable=False),
        sa.Column("created_at", Int64, nullable=False),
        sa.Column("sequence", Int64, nullable=False),
        sa.Column("active_at", Int64, nullable=False),
        sa.Column("last_message_id", Int64),
        sa.Column("members_version", Int64, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_chats"),
        sa.CheckConstraint("id > 0", name=op.f("ck_chats_id")),
        sa.CheckConstraint("sequence >= 0", name=op.f("ck_chats_sequence")),
    )
    op.create_table(
        "members",
        sa.Column("chat_id", Int64, nullable=False),
        sa.Column("position", Int64, nullable=False),
        sa.Column("user_id", Int64, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("joined_at", Int64, nullable=False),
        sa.PrimaryKeyConstraint("chat_id", "position", name="pk_members"),
        sa.ForeignKeyConstraint(["chat_id"], ["chats.id"], name="fk_members_chat_id"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_members_user_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_members_user_id_chat_id", "members", ["user_id", "chat_id"], unique=True)
    op.create_table(
        "direct_chats",
        sa.Column("low_user_id", Int64, nullable=False),
        sa.Column("high_user_id", Int64, nullable=False),
        sa.Column("chat_id", Int64, nullable=False),
        sa.PrimaryKeyConstraint("low_user_id", "high_user_id", name="pk_direct_chats"),
        sa.ForeignKeyConstraint(["low_user_id"], ["users.id"], name="fk_direct_chats_low_user_id"),
        sa.ForeignKeyConstraint(["high_user_id"], ["users.id"], name="fk_direct_chats_high_user_id"),
        sa.ForeignKeyConstraint(["chat_id"], ["chats.id"], name="fk_direct_chats_chat_id"),
        sa.UniqueConstraint("chat_id", name="uq_direct_chats_chat_id"),
        sa.CheckConstraint("low_user_id < high_user_id", name=op.f("ck_direct_chats_pair")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_direct_chats_high_user_id", "direct_chats", ["high_user_id"])
    op.create_table(
        "messages",
        sa.Column("id", Int64, autoincrement=False, nullable=False),
        sa.Column("chat_id", Int64, nullable=False),
        sa.Column("author_id", Int64),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("content", sa.Text),
        sa.Column("payload", sa.Text),
        sa.Column("ts", Int64, nullable=False),
        sa.Column("reply_to_id", Int64),
        sa.Column("edited_at", Int64),
        sa.Column("deleted_at", Int64),
        sa.PrimaryKeyConstraint("id", name="pk_messages"),
        sa.ForeignKeyConstraint(["chat_id"], ["chats.id"], name="fk_messages_chat_id"),
        sa.ForeignKeyConstraint(["author_id"], ["users.id"], name="fk_messages_author_id"),
        sa.CheckConstraint("id > 0", name=op.f("ck_messages_id")),
    )
    op.create_index("ix_messages_chat_id_id", "messages", ["chat_id", "id"])
    op.create_table(
        "events",
        sa.Column("chat_id", Int64, nullable=False),
        sa.Column("sequence", Int64, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("message_id", Int64),
        sa.Column("at", Int64, nullable=False),
        sa.PrimaryKeyConstraint("chat_id", "sequence", name="pk_events"),
        sa.ForeignKeyConstraint(["chat_id"], ["chats.id"], name="fk_events_chat_id"),
        sa.CheckConstraint("sequence > 0", name=op.f("ck_events_sequence")),
        sqlite_with_rowid=False,
    )
