"""Each session has a random value that its tokens carry; older sessions have none, and stay valid."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("sessions", sa.Column("nonce", sa.LargeBinary))
