"""Databases as an older version has left them."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from alembic import command
from alembic.config import Config


@contextmanager
def upgrades_end_at(revision: str) -> Iterator[None]:
    """Meanwhile an upgrade goes as far as the version did whose newest schema this was."""
    upgrade = command.upgrade

    def upgrade_to(config: Config, _: str) -> None:
        upgrade(config, revision)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "upgrade", upgrade_to)
        yield
