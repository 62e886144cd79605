"""Who is there: the leases of processes, whom they hold, and when each user was last there."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0011"

Int64 = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "leases",
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("until", Int64, nullable=False),
        sa.PrimaryKeyConstraint("holder", name="pk_leases"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_leases_until", "leases", ["until"])
    op.create_table(
        "presences",
        sa.Column("user_id", Int64, nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("user_id", "holder", name="pk_presences"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_presences_holder", "presences", ["holder"])
    op.create_table(
        "sightings",
        sa.Column("user_id", Int64, autoincrement=False, nullable=False),
        sa.Column("at", Int64, nullable=False),
        sa.Column("until", Int64, nullable=False),
        sa.PrimaryKeyConstraint("user_id", name="pk_sightings"),
    )
