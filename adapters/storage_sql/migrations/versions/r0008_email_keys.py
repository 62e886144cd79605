"""Accounts are found by keys of their e-mails, which are equal if only the case of a letter differs."""

from unicodedata import normalize

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

Int64 = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "email_keys",
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("user_id", Int64, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_email_keys"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_email_keys_user_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_email_keys_user_id", "email_keys", ["user_id"])
    # Every account is still found by its present e-mail, which is lower case and unique.
    op.execute("INSERT INTO email_keys (key, user_id) SELECT email, id FROM users")
    # If folding makes several e-mails equal, the account with the folded e-mail has the key, or else the
    # oldest account. ASCII e-mails, the most frequent, are folded already.
    connection = op.get_bind()
    is_sqlite = connection.dialect.name == "sqlite"
    folds = "email GLOB '*[^ -~]*'" if is_sqlite else "octet_length(email) <> char_length(email)"
    users = sa.table("users", sa.column("id"), sa.column("email"))
    others = sa.select(users.c.id, users.c.email).where(sa.text(folds)).order_by(users.c.id)
    add = sa.text(
        "INSERT INTO email_keys (key, user_id) VALUES (:key, :user_id) ON CONFLICT (key) DO NOTHING"
    )
    for user_id, email in connection.execute(others).fetchall():
        connection.execute(add, {"key": _folded(email), "user_id": user_id})


def _folded(email: str) -> str:
    # A copy of the core's function, because a revision must not change with it.
    local, at, domain = email.rpartition("@")
    return normalize("NFC", normalize("NFD", local).casefold()) + at + domain
