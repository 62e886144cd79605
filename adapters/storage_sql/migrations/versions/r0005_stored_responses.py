"""A stored response names the resource that it shows, and no longer has a body."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

Int64 = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

# A registration's body is the user's identifier; the others are a message's or a chat's JSON, or empty.
SQLITE = """
INSERT INTO stored_responses
    (user_id, method, path, key, fingerprint, status, resource_kind, resource_id, created_at)
SELECT user_id, method, path, key, fingerprint, status,
    CASE WHEN length(body) = 0 THEN NULL WHEN path LIKE '%/auth/register' THEN 'user'
        WHEN path LIKE '%/chats%' THEN 'chat' ELSE 'message' END,
    CASE WHEN length(body) = 0 THEN NULL
        WHEN path LIKE '%/auth/register' THEN CAST(CAST(body AS TEXT) AS INTEGER)
        ELSE json_extract(CAST(body AS TEXT), '$.id') END,
    created_at
FROM answers ORDER BY id
"""
POSTGRESQL = """
INSERT INTO stored_responses
    (user_id, method, path, key, fingerprint, status, resource_kind, resource_id, created_at)
SELECT user_id, method, path, key, fingerprint, status,
    CASE WHEN length(body) = 0 THEN NULL WHEN path LIKE '%/auth/register' THEN 'user'
        WHEN path LIKE '%/chats%' THEN 'chat' ELSE 'message' END,
    CASE WHEN length(body) = 0 THEN NULL
        WHEN path LIKE '%/auth/register' THEN CAST(convert_from(body, 'UTF8') AS bigint)
        ELSE CAST(CAST(convert_from(body, 'UTF8') AS json) ->> 'id' AS bigint) END,
    created_at
FROM answers ORDER BY id
"""


def upgrade() -> None:
    op.create_table(
        "stored_responses",
        sa.Column("id", Int64, nullable=False),
        sa.Column("user_id", Int64, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
        sa.Column("status", Int64, nullable=False),
        sa.Column("resource_kind", sa.Text),
        sa.Column("resource_id", Int64),
        sa.Column("created_at", Int64, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_stored_responses"),
        sa.UniqueConstraint(
            "user_id", "key", "path", "method", name="uq_stored_responses_user_id_key_path_method"
        ),
    )
    op.execute(SQLITE if op.get_bind().dialect.name == "sqlite" else POSTGRESQL)
    op.drop_table("answers")
