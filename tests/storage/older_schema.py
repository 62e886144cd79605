"""Creates databases with the schema of an older version."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from alembic import command
from alembic.config import Config


@contextmanager
def upgrades_stop_at(revision: str) -> Iterator[None]:
    """Make upgrades stop at this revision."""
    upgrade = command.upgrade

    def upgrade_to(config: Config, _: str) -> None:
        upgrade(config, revision)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "upgrade", upgrade_to)
        yield
