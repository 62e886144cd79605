"""The servers that are compared."""

from pathlib import Path

from attrs import frozen

from benchmarks.load.processes import ours, peer
from benchmarks.load.seeding import fill_ours, fill_peers, seed_ours, seed_peers


@frozen
class Contestant:
    key: str
    label: str
    program: str | None
    """A file in benchmarks/peers; None for our server."""
    colour: str
    """The same in every plot."""

    @property
    def schema(self) -> str:
        """Which seeded database it serves, a key of `SEEDERS`."""
        return "ours" if self.program is None else "peers"

    def command(self, port: int, database: Path, ours_options: str) -> list[str]:
        if self.program is None:
            return ours(port, database, ours_options)
        return peer(self.program, port, database)


# The colours of Okabe and Ito, which are distinct for every kind of colour vision.
OURS = Contestant("ours", "messaging-core", None, "#0072B2")
CONTESTANTS = (
    OURS,
    Contestant("fastapi", "FastAPI", "fastapi_plain.py", "#E69F00"),
    Contestant("tuned", "FastAPI, tuned", "fastapi_tuned.py", "#D55E00"),
    Contestant("node", "Node.js", "node/server.js", "#009E73"),
    Contestant("quart", "Quart-Trio", "quart_plain.py", "#CC79A7"),
    Contestant("asgi", "ASGI by hand", "asgi_raw.py", "#999999"),
)
"""In the order of the table's columns."""

SEEDERS = {"ours": (seed_ours, fill_ours), "peers": (seed_peers, fill_peers)}
"""By schema: the function that creates a database with users and chats, and the one that inserts messages."""
