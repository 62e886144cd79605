"""The tables, described once for both engines.

Identifiers and times (whole seconds since 1970, UTC) are 64-bit integers; enumerations are their text and
have no CHECK, because SQLite could only widen one by rebuilding its table. No foreign key has an ON DELETE
action: what goes is deleted by a statement that says so, and a rebuilt table cannot take others' rows along.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Sequence,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from adapters.storage_sql.rows import KINDS

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

# SQLite keys a table by its 64-bit row number only where the type reads INTEGER.
_Int64 = BigInteger().with_variant(Integer(), "sqlite")

sequences = Table(
    "sequences",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("last", _Int64, nullable=False),
    sqlite_with_rowid=False,
)
"""No identifier of a kind beyond this was ever given: one that was deleted is not given again.

Of SQLite alone, where one process writes.
"""

identifiers = {kind: Sequence(f"{kind}_ids", metadata=metadata) for kind in KINDS}
"""The same on PostgreSQL, where a row to count in would be everybody's lock.

They have no cache: what is drawn later is greater, whichever process draws it.
"""

users = Table(
    "users",
    metadata,
    Column("id", _Int64, primary_key=True, autoincrement=False),
    Column("email", Text, nullable=False),
    Column("display_name", Text, nullable=False),
    Column("tag", Text, nullable=False),
    Column("avatar_url", Text),
    Column("created_at", _Int64, nullable=False),
    UniqueConstraint("email"),
    UniqueConstraint("tag"),
    CheckConstraint("id > 0", name="id"),
)

email_keys = Table(
    "email_keys",
    metadata,
    Column("key", Text, primary_key=True),
    Column("user_id", _Int64, ForeignKey("users.id"), nullable=False, index=True),
    sqlite_with_rowid=False,
)
"""By which accounts are found. One from before there were keys has its e-mail, and, if free, that folded."""

password_hashes = Table(
    "password_hashes",
    metadata,
    Column("user_id", _Int64, ForeignKey("users.id"), primary_key=True, autoincrement=False),
    Column("hash", Text, nullable=False),
)
"""Apart from the users, so that no look-up of a person carries a secret."""

sessions = Table(
    "sessions",
    metadata,
    Column("id", _Int64, primary_key=True, autoincrement=False),
    Column("user_id", _Int64, ForeignKey("users.id"), nullable=False, index=True),
    Column("device", Text, nullable=False),
    Column("created_at", _Int64, nullable=False),
    Column("refreshed_at", _Int64, nullable=False),
    Column("expires_at", _Int64, nullable=False, index=True),
    Column("generation", _Int64, nullable=False),
    Column("confirmed", Boolean, nullable=False),
    Column("ended_at", _Int64),
    # Null in sessions from before there were nonces.
    Column("nonce", LargeBinary),
    CheckConstraint("id > 0", name="id"),
    CheckConstraint("generation > 0", name="generation"),
)
Index(
    "ix_sessions_ended_at",
    sessions.c.ended_at,
    sqlite_where=text("ended_at IS NOT NULL"),
    postgresql_where=text("ended_at IS NOT NULL"),
)

chats = Table(
    "chats",
    metadata,
    Column("id", _Int64, primary_key=True, autoincrement=False),
    Column("title", Text, nullable=False),
    Column("is_group", Boolean, nullable=False),
    Column("created_at", _Int64, nullable=False),
    Column("sequence", _Int64, nullable=False),
    Column("active_at", _Int64, nullable=False),
    # By reference, like every column that names a message: no foreign key, which would search whole
    # tables when a message is removed.
    Column("last_message_id", _Int64),
    # Grows by one in every transaction that changes who the members are, or what they may do.
    Column("members_version", _Int64, nullable=False),
    # Counted here as well, so that a list need not count a thousand rows for each of its chats.
    Column("member_count", _Int64, nullable=False),
    CheckConstraint("id > 0", name="id"),
    CheckConstraint("sequence >= 0", name="sequence"),
)

members = Table(
    "members",
    metadata,
    Column("chat_id", _Int64, ForeignKey("chats.id"), nullable=False),
    # Counts those who ever joined the chat, from 1: the members in their order lie side by side.
    Column("position", _Int64, nullable=False),
    Column("user_id", _Int64, ForeignKey("users.id"), nullable=False),
    Column("role", Text, nullable=False),
    Column("joined_at", _Int64, nullable=False),
    PrimaryKeyConstraint("chat_id", "position"),
    Index("ix_members_user_id_chat_id", "user_id", "chat_id", unique=True),
    sqlite_with_rowid=False,
)
Index(
    "ix_members_chat_id_role",
    members.c.chat_id,
    members.c.role,
    sqlite_where=text("role <> 'member'"),
    postgresql_where=text("role <> 'member'"),
)
"""The few of a chat who are more than members, and who are shown in any case."""

direct_chats = Table(
    "direct_chats",
    metadata,
    Column("low_user_id", _Int64, ForeignKey("users.id"), nullable=False),
    Column("high_user_id", _Int64, ForeignKey("users.id"), nullable=False, index=True),
    Column("chat_id", _Int64, ForeignKey("chats.id"), nullable=False, unique=True),
    PrimaryKeyConstraint("low_user_id", "high_user_id"),
    CheckConstraint("low_user_id < high_user_id", name="pair"),
    sqlite_with_rowid=False,
)

messages = Table(
    "messages",
    metadata,
    Column("id", _Int64, primary_key=True, autoincrement=False),
    Column("chat_id", _Int64, ForeignKey("chats.id"), nullable=False),
    # Null once the author's account is gone.
    Column("author_id", _Int64, ForeignKey("users.id")),
    Column("type", Text, nullable=False),
    Column("content", Text),
    # JSON; as text, because that is what the engines have in common.
    Column("payload", Text),
    Column("ts", _Int64, nullable=False),
    Column("reply_to_id", _Int64),
    Column("edited_at", _Int64),
    Column("deleted_at", _Int64),
    # Of the event that it was created: `events` has no row of that.
    Column("sequence", _Int64, nullable=False),
    # One index for the history and the log, each of which costs what is read of it, wherever that lies.
    # In a chat, identifiers and sequence numbers grow together.
    Index("ix_messages_chat_id_sequence", "chat_id", "sequence", unique=True),
    CheckConstraint("id > 0", name="id"),
    CheckConstraint("sequence > 0", name="sequence"),
)

events = Table(
    "events",
    metadata,
    Column("chat_id", _Int64, ForeignKey("chats.id"), nullable=False),
    Column("sequence", _Int64, nullable=False),
    Column("name", Text, nullable=False),
    Column("message_id", _Int64),
    Column("at", _Int64, nullable=False),
    # JSON, of an importer's event: what the library's own events are about is kept elsewhere.
    Column("data", Text),
    PrimaryKeyConstraint("chat_id", "sequence"),
    CheckConstraint("sequence > 0", name="sequence"),
    sqlite_with_rowid=False,
)
"""A chat's log, but for the creations of messages, which `messages` holds: in order, and by reference."""


stored_responses = Table(
    "stored_responses",
    metadata,
    # Counts upwards, so that the rows lie in the order of their age: new ones share a page, and the oldest
    # are found without an index. Clients choose keys at random: clustered by them, each response would be
    # written to a page of its own, and often split it.
    Column("id", _Int64, primary_key=True),
    Column("user_id", _Int64, nullable=False),
    Column("method", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("status", _Int64, nullable=False),
    # What the response shows, by reference; both are null for a response without a body.
    Column("resource_kind", Text),
    Column("resource_id", _Int64),
    Column("created_at", _Int64, nullable=False),
    UniqueConstraint("user_id", "key", "path", "method"),
)
