"""Error texts for a missing package that an extra installs."""

SERVER = "server,sql"
EXTRAS = {"check": "check", "migrate": SERVER, "serve": SERVER}
"""The extras that each command needs."""

DRIVERS = {
    "nats": ("--bus (MESSAGING_BUS): NATS needs the package nats-py", "nats"),
    "psycopg": (
        "--database (MESSAGING_DATABASE): PostgreSQL needs the package psycopg[binary]",
        "postgresql",
    ),
}
"""Packages that only some settings need: which setting needs it, and its extra."""

NO_LIBPQ = "no pq wrapper available"
"""The start of psycopg's error where it was installed without libpq."""
OWN = ("adapters", "messaging_core")


def what_to_install(error: ImportError, command: str) -> str | None:
    """The error line for the user of `command`; None for a defect, which no extra fixes."""
    if str(error).startswith(NO_LIBPQ):
        name = "psycopg"
    elif isinstance(error, ModuleNotFoundError) and error.name is not None:
        name = error.name.partition(".")[0]
    else:
        return None
    if name in OWN:
        return None
    need, extra = DRIVERS.get(name, (f"messaging {command} needs the package {name}", EXTRAS[command]))
    return f"{need}: {how_to_install(extra)}"


def how_to_install(extra: str) -> str:
    """The command that installs an extra."""
    return f"pip install 'messaging-core[{extra}]'"
