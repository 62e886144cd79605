"""Answers are stored in the order of their age, and found by an index."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

Int64 = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.rename_table("answers", "answers_by_key")
    op.drop_index("ix_answers_created_at", "answers_by_key")
    if op.get_bind().dialect.name == "postgresql":
        # On PostgreSQL the name of a constraint's index is unique in the schema, not only in the table.
        op.execute("ALTER TABLE answers_by_key RENAME CONSTRAINT pk_answers TO pk_answers_by_key")
    op.create_table(
        "answers",
        sa.Column("id", Int64, nullable=False),
        sa.Column("user_id", Int64, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
        sa.Column("status", Int64, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("created_at", Int64, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_answers"),
        sa.UniqueConstraint("user_id", "key", "path", "method", name="uq_answers_user_id_key_path_method"),
    )
    op.execute(
        "INSERT INTO answers (user_id, method, path, key, fingerprint, status, body, created_at) "
        "SELECT user_id, method, path, key, fingerprint, status, body, created_at "
        "FROM answers_by_key ORDER BY created_at"
    )
    op.drop_table("answers_by_key")
