"""A start: an error is one line with its setting, and the greeting says what is served."""

import re
from importlib.metadata import version
from pathlib import Path

import pytest
import trio

from tests.server.clients import browser, expect, register
from tests.server.servers import process, run_to_its_end

MISTAKEN, MAY_PASS = 2, 1
"""Exit statuses; deploy/messaging.service restarts only after the latter."""


async def ends_with_one_line(directory: Path, status: int, *arguments: str, **variables: str) -> str:
    """Check that it ends with this status and one line of explanation, without a traceback."""
    ended = await run_to_its_end("serve", *arguments, directory=directory, variables=variables)
    output = ended.stdout + ended.stderr
    assert ended.returncode == status, output
    assert "Traceback" not in output
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith("Error: ")
    return line


async def test_production_settings_refuse_an_unknown_variable(tmp_path: Path) -> None:
    """With `deploy/messaging.toml`, a misspelt variable for origins ends the start."""
    message = await ends_with_one_line(
        tmp_path, MISTAKEN, "--strict-settings", MESSAGING_CORS_ORIGIN="https://app.example"
    )
    assert "MESSAGING_CORS_ORIGIN is no setting" in message
    assert "MESSAGING_CORS_ORIGINS" in message
    assert not (tmp_path / "messaging.db").exists()


async def test_a_migration_warns_of_an_unknown_variable(tmp_path: Path) -> None:
    """A migration warns of a misspelt variable: it might otherwise migrate another database unnoticed."""
    variables = {"MESSAGING_DATABSE": "sqlite:///other.db"}
    ended = await run_to_its_end("migrate", directory=tmp_path, variables=variables)
    assert ended.returncode == 0
    assert "MESSAGING_DATABASE" in ended.stderr


async def test_a_busy_port(tmp_path: Path) -> None:
    """The error names the address."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        port = listener.socket.getsockname()[1]
        arguments = ("--bind", f"127.0.0.1:{port}", "--database", "memory:")
        line = await ends_with_one_line(tmp_path, MAY_PASS, *arguments)
    assert "--bind" in line
    assert f"127.0.0.1:{port}" in line
    assert "in use" in line


async def test_an_address_of_another_machine(tmp_path: Path) -> None:
    """An address of another machine (RFC 5737) is an error."""
    line = await ends_with_one_line(tmp_path, MAY_PASS, "--bind", "192.0.2.1:8000", "--database", "memory:")
    assert "192.0.2.1:8000" in line


@pytest.mark.parametrize(
    "database",
    [
        "postgresql://localhost/x",
        "mysql://x",
        "sqlite://",
        "sqlite:///",
        "sqlite:///x.db?mode=ro",
        "messaging.db",
        "",
    ],
)
async def test_invalid_database_addresses(tmp_path: Path, database: str) -> None:
    """An address without a possible database, or without keys, is a wrong setting."""
    options = ("--bind", "127.0.0.1:0", "--database", database)
    line = await ends_with_one_line(tmp_path, MISTAKEN, *options)
    assert "database" in line.lower()
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240 - an empty directory


@pytest.mark.parametrize(
    "file",
    ["/nowhere/at/all.db", "file/messaging.db", "noise.db", "directory", "/proc/x.db"],
)
async def test_unusable_databases(tmp_path: Path, file: str) -> None:
    """A missing or unwritable directory and a file of another kind are errors, and nothing is created."""
    (tmp_path / "file").touch()
    (tmp_path / "noise.db").write_bytes(b"this is no database" * 100)
    (tmp_path / "directory").mkdir()
    before = set(tmp_path.iterdir())  # noqa: ASYNC240 - three files
    options = ("--bind", "127.0.0.1:0", "--database", f"sqlite:///{file}")
    line = await ends_with_one_line(tmp_path, MAY_PASS, *options)
    assert file in line
    assert "keys" not in line
    assert set(tmp_path.iterdir()) == before  # noqa: ASYNC240


async def test_a_missing_directory_has_advice(tmp_path: Path) -> None:
    """The error shows the command that creates the directory, whether keys are given or not."""
    options = ("--bind", "127.0.0.1:0", "--database", "sqlite:///missing/messaging.db")
    for variables in ({}, {"MESSAGING_SIGNING_KEYS": "k1:" + "0f" * 32}):
        line = await ends_with_one_line(tmp_path, MAY_PASS, *options, **variables)
        assert f"mkdir -p {tmp_path}/missing" in line


@pytest.mark.parametrize("bus", ["foo", "postgresql", "nats://localhost"])
async def test_unusable_buses(tmp_path: Path, bus: str) -> None:
    """An unknown bus, and a bus for a single process, are wrong settings."""
    line = await ends_with_one_line(tmp_path, MISTAKEN, "--database", "memory:", "--bus", bus)
    assert "--bus (MESSAGING_BUS)" in line


async def test_a_database_in_use(tmp_path: Path) -> None:
    """One process owns an SQLite file; a second one is refused and changes nothing."""
    async with process(tmp_path):
        line = await ends_with_one_line(tmp_path, MAY_PASS, "--bind", "127.0.0.1:0")
    assert "messaging.db" in line


@pytest.mark.parametrize("keys", ["x", "a:zz", "a:" + "00" * 31])
async def test_invalid_signing_keys(tmp_path: Path, keys: str) -> None:
    """The error names the setting and does not repeat the secret."""
    line = await ends_with_one_line(tmp_path, MISTAKEN, "--bind", "127.0.0.1:0", MESSAGING_SIGNING_KEYS=keys)
    assert "MESSAGING_SIGNING_KEYS" in line
    assert "00" * 31 not in line


async def test_a_damaged_key_file(tmp_path: Path) -> None:
    """A damaged file is not replaced, because that would log all users out."""
    keys = tmp_path / "messaging.db.keys"
    keys.write_text("damaged")
    line = await ends_with_one_line(tmp_path, MAY_PASS, "--bind", "127.0.0.1:0")
    assert "messaging.db.keys" in line
    assert keys.read_text() == "damaged"


# --- output at start ----------------------------------------------------------------------------------------


async def test_the_greeting(tmp_path: Path) -> None:
    """The greeting shows the address, the documentation, the database, the version, and warnings."""
    async with process(tmp_path) as server:
        await server.stop()
    output = server.output
    assert version("messaging-core") in output
    assert re.search(rf"^  API +{server.address}/api/v1$", output, re.MULTILINE)
    assert re.search(rf"^  Docs +{server.address}/docs$", output, re.MULTILINE)
    assert re.search(r"^  Database +sqlite:///messaging\.db$", output, re.MULTILINE)
    warnings = re.findall(r"^  Warning +(.+)$", output, re.MULTILINE)
    assert any("origin" in warning for warning in warnings)
    assert any("--email-visibility" in warning for warning in warnings)
    assert any("--avatar-hosts" in warning for warning in warnings)
    assert any("messaging.db.keys" in warning for warning in warnings)
    secret = (tmp_path / "messaging.db.keys").read_text().strip().rpartition(":")[2]
    assert secret not in output + server.log


async def test_production_settings_cause_no_warning(tmp_path: Path) -> None:
    """With listed origins, given keys, and restricted e-mails and avatars, there is no warning."""
    variables = {
        "MESSAGING_SIGNING_KEYS": "k1:" + "0f" * 32,
        "MESSAGING_CORS_ORIGINS": "https://app.example",
        "MESSAGING_EMAIL_VISIBILITY": "shared_chat",
        "MESSAGING_AVATAR_HOSTS": "own",
    }
    async with process(tmp_path, "--no-docs", variables=variables) as server:
        await server.stop()
    assert "Warning" not in server.output
    assert "Docs" not in server.output
    assert "0f" * 32 not in server.output + server.log


async def test_logs_for_people(tmp_path: Path) -> None:
    """`--log-format console` writes lines for people; without a terminal the default is JSON."""
    async with process(tmp_path, "--log-format", "console") as server, browser(server) as http:
        alice = await register(server, http, "Alice")
        async with alice.socket():
            pass
        await server.stop()
    assert "WebSocket connected: user_id=1" in server.log
    assert not server.log.startswith("{")


async def test_the_ipv6_loopback(tmp_path: Path) -> None:
    """`--bind [::1]:0` serves IPv6 and prints an address that clients can open."""
    async with process(tmp_path, "--bind", "[::1]:0") as server, browser(server) as http:
        assert server.address.startswith("http://[::1]:")
        alice = await register(server, http, "Alice")
        expect(await alice.ask("GET", "/users/me"), 200)


@pytest.mark.parametrize("database", ["sqlite:///messaging.db", "memory:"])
async def test_several_workers_need_a_shared_database(tmp_path: Path, database: str) -> None:
    """The error names the alternative, and nothing is created."""
    line = await ends_with_one_line(tmp_path, MISTAKEN, "--workers", "2", "--database", database)
    assert "--workers (MESSAGING_WORKERS)" in line
    assert "postgresql://" in line
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240 - an empty directory


async def test_a_busy_port_with_several_workers(tmp_path: Path) -> None:
    """The error is printed once, before a worker is started."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        address = f"127.0.0.1:{listener.socket.getsockname()[1]}"
        options = ("--bind", address, "--workers", "2", "--database", "postgresql://localhost/none")
        line = await ends_with_one_line(tmp_path, MAY_PASS, *options)
    assert f"--bind (MESSAGING_BIND): cannot listen on {address}" in line
    assert "in use" in line
