"""The tables, described once for both engines.

Identifiers and times (whole seconds since 1970, UTC) are 64-bit integers. Enumerations are text without a
CHECK, because SQLite can widen a CHECK only by rebuilding its table. No foreign key has an ON DELETE action:
a statement deletes each row explicitly, and the rebuilding of a table cannot delete rows of others.
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

# SQLite uses the 64-bit row number as the key only of a column of type INTEGER.
_Int64 = BigInteger().with_variant(Integer(), "sqlite")

sequences = Table(
    "sequences",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("last", _Int64, nullable=False),
    sqlite_with_rowid=False,
)
"""The last identifier of each kind that may be in use, so that a deleted one is not used again.

On SQLite only, where one process writes.
"""

identifiers = {kind: Sequence(f"{kind}_ids", metadata=metadata) for kind in KINDS}
"""Draw identifiers on PostgreSQL, where every transaction would wait for the lock of a counter's row.

They have no cache, so that a later identifier is greater, whichever process draws it.
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
"""Find accounts. Older accounts have their e-mail as a key and, if it was free, its folded form."""

password_hashes = Table(
    "password_hashes",
    metadata,
    Column("user_id", _Int64, ForeignKey("users.id"), primary_key=True, autoincrement=False),
    Column("hash", Text, nullable=False),
)
"""Separate from the users, so that loading a user loads no secret."""

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
    # Null in sessions that are older than nonces.
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
    # Like every column that refers to a message, it has no foreign key: deleting a message would search
    # whole tables.
    Column("last_message_id", _Int64),
    Column("avatar_url", Text),
    # What people who join a group read; nobody joins a direct chat, and its value has no meaning.
    Column("history", Text, nullable=False, server_default=text("'joined'")),
    # Of all messages that were sent, deleted ones included.
    Column("message_count", _Int64, nullable=False, server_default=text("0")),
    # In a direct chat the marks of its people, in the order of its members, so that sending a message, which
    # moves its author's mark, changes no further row.
    Column("first_read_up_to", _Int64, nullable=False, server_default=text("0")),
    Column("first_read_count", _Int64, nullable=False, server_default=text("0")),
    Column("second_read_up_to", _Int64, nullable=False, server_default=text("0")),
    Column("second_read_count", _Int64, nullable=False, server_default=text("0")),
    # Grows by one in every transaction that changes the members or their roles.
    Column("members_version", _Int64, nullable=False),
    # Stored, so that a list of chats does not count a thousand rows for each of them.
    Column("member_count", _Int64, nullable=False),
    # A deleted chat keeps its row, its log and its messages, and is found as a tombstone only.
    Column("deleted_at", _Int64),
    # No foreign key, although its row of users exists: with one, deleting a user would search all chats.
    # Null where nobody deleted the chat, and once that person's account is gone.
    Column("deleted_by", _Int64),
    CheckConstraint("id > 0", name="id"),
    CheckConstraint("sequence >= 0", name="sequence"),
)

members = Table(
    "members",
    metadata,
    Column("chat_id", _Int64, ForeignKey("chats.id"), nullable=False),
    # Counts the joins of the chat, from 1, so that a chat's members are stored side by side and in order.
    Column("position", _Int64, nullable=False),
    Column("user_id", _Int64, ForeignKey("users.id"), nullable=False),
    Column("role", Text, nullable=False),
    Column("joined_at", _Int64, nullable=False),
    # The range in the chat's log; the defaults are a founder's.
    Column("first_sequence", _Int64, nullable=False, server_default=text("1")),
    Column("reads_from", _Int64, nullable=False, server_default=text("1")),
    # The mark in a group: the id and the ordinal of the last message that the member has read; 0 for none.
    Column("read_up_to", _Int64, nullable=False, server_default=text("0")),
    Column("read_count", _Int64, nullable=False, server_default=text("0")),
    PrimaryKeyConstraint("chat_id", "position"),
    Index("ix_members_user_id_chat_id", "user_id", "chat_id", unique=True),
    sqlite_with_rowid=False,
)
"""The memberships that last; `adapters.storage_sql.members` reads and writes their columns."""
Index(
    "ix_members_chat_id_role",
    members.c.chat_id,
    members.c.role,
    sqlite_where=text("role <> 'member'"),
    postgresql_where=text("role <> 'member'"),
)
"""The few owners and admins of a chat, whom every excerpt shows."""

former_members = Table(
    "former_members",
    metadata,
    Column("chat_id", _Int64, ForeignKey("chats.id"), nullable=False),
    # The last number of the range: a reader of a log looks for those that end beyond its position.
    Column("last_sequence", _Int64, nullable=False),
    Column("user_id", _Int64, ForeignKey("users.id"), nullable=False),
    Column("role", Text, nullable=False),
    Column("joined_at", _Int64, nullable=False),
    Column("first_sequence", _Int64, nullable=False),
    Column("reads_from", _Int64, nullable=False),
    PrimaryKeyConstraint("chat_id", "last_sequence", "user_id"),
    Index("ix_former_members_user_id_chat_id_last_sequence", "user_id", "chat_id", "last_sequence"),
    sqlite_with_rowid=False,
)
"""The memberships that have ended; a table of their own, so that no query for a chat's members skips them."""

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
    # JSON, as text, because both engines have that type.
    Column("payload", Text),
    Column("ts", _Int64, nullable=False),
    Column("reply_to_id", _Int64),
    Column("edited_at", _Int64),
    Column("deleted_at", _Int64),
    # The sequence of its `message.created`, which has no row in `events`.
    Column("sequence", _Int64, nullable=False),
    # The sequence of its last change; null while it has not changed.
    Column("revision", _Int64),
    # Its number among the messages of its chat, deleted ones included.
    Column("ordinal", _Int64, nullable=False, server_default=text("0")),
    # One index for the history and the log: reading a page costs the page, wherever it is. In a chat,
    # identifiers and sequence numbers grow together.
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
    # JSON of an importer's event; the library's own events refer to other tables.
    Column("data", Text),
    # Whose membership the event is about.
    Column("user_id", _Int64),
    PrimaryKeyConstraint("chat_id", "sequence"),
    CheckConstraint("sequence > 0", name="sequence"),
    sqlite_with_rowid=False,
)
"""A chat's log, by reference and in order, without the creations of messages, which are in `messages`."""


stored_responses = Table(
    "stored_responses",
    metadata,
    # Grows, so that rows are stored in the order of their age: new ones share a page, and the oldest are
    # found without an index. Clients choose random keys: clustered by key, each response would be written
    # to a page of its own, and often split it.
    Column("id", _Int64, primary_key=True),
    Column("user_id", _Int64, nullable=False),
    Column("method", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("status", _Int64, nullable=False),
    # The resource that the response shows; both are null for a response without a body.
    Column("resource_kind", Text),
    Column("resource_id", _Int64),
    Column("created_at", _Int64, nullable=False),
    UniqueConstraint("user_id", "key", "path", "method"),
)

leases = Table(
    "leases",
    metadata,
    Column("holder", Text, primary_key=True),
    Column("until", _Int64, nullable=False, index=True),
    sqlite_with_rowid=False,
)
"""The leases of processes, which prolong them for all whom they hold at once."""

presences = Table(
    "presences",
    metadata,
    Column("user_id", _Int64, nullable=False),
    Column("holder", Text, nullable=False, index=True),
    PrimaryKeyConstraint("user_id", "holder"),
    sqlite_with_rowid=False,
)
"""Who has a socket in which process."""

sightings = Table(
    "sightings",
    metadata,
    Column("user_id", _Int64, primary_key=True, autoincrement=False),
    Column("at", _Int64, nullable=False),
    # Until when the user counts as being there.
    Column("until", _Int64, nullable=False),
)
"""When each user was last there, apart from the leases that hold them."""

incarnations = Table(
    "incarnations",
    metadata,
    Column("number", _Int64, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    # The file, or the server and database, that the row was written in; the row of a copy names the original.
    Column("bound_to", Text, nullable=False),
    Column("drawn_at", _Int64, nullable=False),
)
"""The incarnations of the log: the last one counts, the others are for people."""
