"""What to say where a package is missing that an extra installs."""

SERVER = "server,sql"
EXTRAS = {"check": "check", "migrate": SERVER, "serve": SERVER}
"""What each command needs installed."""

DRIVERS = {
    "nats": ("--bus (MESSAGING_BUS): NATS needs the package nats-py", "nats"),
    "psycopg": (
        "--database (MESSAGING_DATABASE): PostgreSQL needs the package psycopg[binary]",
        "postgresql",
    ),
}
"""What only a setting asks for: who needs it, and its extra."""

NO_LIBPQ = "no pq wrapper available"
"""How psycopg begins where it was installed without the library under it."""
OWN = ("adapters", "messaging_core")


def what_to_install(error: ImportError, command: str) -> str | None:
    """One line for whoever called `command`; None where it is a defect, which no extra mends."""
    if str(error).startswith(NO_LIBPQ):
        name = "psycopg"
    elif isinstance(error, ModuleNotFoundError) and error.name is not None:
        name = error.name.partition(".")[0]
    else:
        return None
    if name in OWN:
        return None
    told, extra = DRIVERS.get(name, (f"messaging {command} needs the package {name}", EXTRAS[command]))
    return f"{told}: {how_to_install(extra)}"


def how_to_install(extra: str) -> str:
    """The command that installs what an extra is made of."""
    return f"pip install 'messaging-core[{extra}]'"
