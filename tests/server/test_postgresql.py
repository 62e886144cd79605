"""`messaging serve` on PostgreSQL: its requirements at start, and its behaviour during an outage."""

import json
from pathlib import Path

import httpx
import pytest
import trio
from click.testing import CliRunner
from structlog.testing import capture_logs

from adapters.cli.main import main
from tests.patience import PATIENCE
from tests.postgresql import new_database
from tests.server.clients import browser, expect, register
from tests.server.servers import process, run_to_its_end, serving
from tests.storage.broken_network import network

KEYS = {"MESSAGING_SIGNING_KEYS": "k1:" + "0f" * 32}


async def refusal(directory: Path, status: int, *arguments: str, variables: dict[str, str]) -> str:
    ended = await run_to_its_end(
        "serve", "--bind", "127.0.0.1:0", *arguments, directory=directory, variables=variables
    )
    (line,) = ended.stderr.splitlines()
    assert ended.returncode == status
    assert line.startswith("Error: ")
    return line


async def test_signing_keys_are_required(tmp_path: Path, postgresql: str) -> None:
    """All processes must sign with one secret; without it, the error shows a command that creates one."""
    line = await refusal(tmp_path, 2, "--database", postgresql, variables={})
    assert "--signing-keys (MESSAGING_SIGNING_KEYS)" in line
    assert "python3 -c" in line
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240


async def test_from_an_empty_database(tmp_path: Path) -> None:
    """The server refuses an empty schema with the command, which migrates it; no output has the password."""
    with new_database("messaging_test_serve") as plain:
        login, _, rest = plain.partition("@")
        address = f"{login.removesuffix(':s3cret')}:s3cret@{rest}"
        variables = {**KEYS, "MESSAGING_DATABASE": address}
        line = await refusal(tmp_path, 1, variables=variables)
        assert "messaging migrate --database" in line
        migrated = [
            await run_to_its_end("migrate", directory=tmp_path, variables=variables) for _ in range(2)
        ]
        assert "created the tables" in migrated[0].stdout
        assert "nothing to do" in migrated[1].stdout
        async with (
            process(tmp_path, variables=variables) as server,
            browser(server) as http,
        ):
            alice = await register(server, http, "Alice")
            bob = await register(server, http, "Bob")
            await alice.send(await alice.direct_chat_with(bob))
            await server.stop()
        output = line + migrated[0].stdout + migrated[0].stderr + server.output + server.log
        assert "s3cret" not in output
        assert ":***@" in server.output


async def test_lines_about_a_message_name_its_request(tmp_path: Path, postgresql: str) -> None:
    """L: those that are written after the commit, too, which another thread reports."""
    async with (
        process(tmp_path, "--database", postgresql, variables=KEYS) as server,
        browser(server) as http,
    ):
        alice = await register(server, http, "Alice")
        chat = await alice.direct_chat_with(await register(server, http, "Bob"))
        await alice.send(chat)
        await server.stop()
    lines = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
    (request,) = [line for line in lines if line.get("path") == "/api/v1/messages"]
    (created,) = [line for line in lines if line["event"].startswith("Message created")]
    assert created["request_id"] == request["request_id"]


async def test_an_outage_of_the_database(postgresql: str) -> None:
    """During an outage /ready and the API are 503 at once, /health is 200; then all recovers by itself.

    The log has a line for each refusal, with the cause and without a traceback.
    """
    async with (
        network(postgresql) as between,
        serving(database=between.address, signing_keys=KEYS["MESSAGING_SIGNING_KEYS"]) as server,
        browser(server) as http,
        httpx.AsyncClient(base_url=server.address, timeout=PATIENCE) as root,
    ):
        alice = await register(server, http, "Alice")
        bob = await register(server, http, "Bob")
        chat = await alice.direct_chat_with(bob)
        with trio.fail_after(PATIENCE):
            while (await root.get("/ready")).status_code != 200:
                pass  # the bus is connected a moment after the first requests succeed
        between.refuses_connections = between.breaks_connections = True
        with trio.fail_after(PATIENCE):
            while (await root.get("/ready")).status_code != 503:
                pass
            with capture_logs() as logs:
                for _ in range(3):
                    body = {"chat_id": chat, "type": "text", "content": "lost"}
                    headers = {"Authorization": f"Bearer {alice.access_token}"}
                    response = await root.post("/api/v1/messages", json=body, headers=headers)
                    expect(response, 503, "storage_unavailable")
                    assert "Retry-After" in response.headers
            refusals = [line for line in logs if line["event"] == "The storage is unavailable"]
            assert len(refusals) == 3
            assert all("PostgreSQL: " in line["error"] and "exc_info" not in line for line in refusals)
            assert (await root.get("/health")).status_code == 200
            between.refuses_connections = between.breaks_connections = False
            while (await root.get("/ready")).status_code != 200:
                pass
        sent = await alice.send(chat)
        (message,) = expect(await bob.ask("GET", f"/messages?chat_id={chat}"), 200)
        assert message["id"] == sent["id"]


@pytest.mark.parametrize("tag", ["%00", "ali%00ce", "%ff", "%ED%A0%80", "%F0%9F%98%80"])
async def test_a_tag_that_postgresql_cannot_store(postgresql: str, tag: str) -> None:
    """C9: any text that is nobody's tag is a 404, also one with NUL, which PostgreSQL refuses."""
    async with (
        serving(database=postgresql, signing_keys=KEYS["MESSAGING_SIGNING_KEYS"]) as server,
        browser(server) as http,
    ):
        alice = await register(server, http, "Alice")
        expect(await alice.ask("GET", f"/users/search?tag={tag}"), 404, "user_not_found")


@pytest.mark.parametrize(
    ("database", "status"),
    [
        ("memory:", 2),
        ("mysql://u:s3cret@h/n", 2),
        ("postgresql://u:s3cret@h/n?unknown=1", 2),
        ("postgresql://u:s3 cret@h/n", 2),
        ("sqlite:////nowhere/at/all.db", 1),
    ],
)
def test_failed_migrations(database: str, status: int) -> None:
    """One line shows the cause without a password; the status is 2 for a wrong setting, 1 for an outage."""
    result = CliRunner().invoke(main, ["migrate", "--database", database])
    assert result.exit_code == status
    assert result.output.startswith("Error: ")
    assert result.output.count("\n") == 1
    assert "s3cret" not in result.output


def test_migrating_a_file(tmp_path: Path) -> None:
    """The command creates or upgrades an SQLite file; a TOML file of settings may name it."""
    config = tmp_path / "messaging.toml"
    config.write_text(f"database = 'sqlite:///{tmp_path}/messaging.db'\naccess_ttl = '20m'\n")
    outputs = [CliRunner().invoke(main, ["migrate", "--config", str(config)]).output for _ in range(2)]
    assert "created the tables" in outputs[0]
    assert "nothing to do" in outputs[1]
