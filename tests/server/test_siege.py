"""While processes are killed and the bus and the database restart, no acknowledged message is lost."""

from functools import partial
from pathlib import Path

import pytest
import trio

from tests.postgresql import new_database_with_tables
from tests.server.fleet import fleet
from tests.server.servers import UNMEASURED
from tests.server.siege import Besieged, Plan, besiege, broken_bus, report, terminate

PLAN = Plan(sockets=40, messages=400, senders=8, kill_every=0.5)


@pytest.fixture(params=["postgresql", "nats"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_acknowledged_messages_reach_every_socket_in_order(kind: str, tmp_path: Path) -> None:
    """Each open socket receives each message once, in the order of its chat; `siege.verdict` has all rules.

    `python -m tests.server.siege` does the same for longer, on its own database, which crashes.
    """
    with (
        new_database_with_tables("messaging_test_siege") as database,
        broken_bus(kind, database) as (bus, restart_bus),
        fleet(tmp_path, database, bus, count=3, variables=UNMEASURED) as members,
    ):
        besieged = Besieged(members, restart_bus, partial(terminate, database))
        outcome = trio.run(besiege, PLAN, besieged)
        assert not outcome.faults, report(besieged, outcome)
        assert (besieged.bus_restarts, besieged.database_restarts) == (2, 1)
        assert besieged.kills > 0
        assert outcome.ledger.count >= PLAN.messages
