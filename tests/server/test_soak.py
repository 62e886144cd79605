"""Real servers, a network and kills: no client misses anything. `tests.server.soak` plays it longer."""

from pathlib import Path

from tests.postgresql import new_database_with_tables
from tests.server.fleet import fleet
from tests.server.soak import soak


async def test_devices_that_come_and_go_miss_nothing(tmp_path: Path) -> None:
    """Devices that drop and return, to either of two servers, show what a fresh fetch shows, after a kill."""
    with (
        new_database_with_tables("messaging_test_soak") as database,
        fleet(tmp_path, database, "postgresql", "--log-level", "warning") as members,
    ):
        await soak(members, sockets=24, seconds=6, kills=1, seed=15)
