"""The log has an incarnation; the first opening after this draws one."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

Int64 = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "incarnations",
        sa.Column("number", Int64, autoincrement=False, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("bound_to", sa.Text, nullable=False),
        sa.Column("drawn_at", Int64, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_incarnations"),
    )
