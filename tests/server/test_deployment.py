"""nginx, systemd and the server accept the files of `deploy/`, and the page's backups can be restored."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner

from adapters.cli import serve as program
from adapters.cli.main import main
from adapters.cli.serve import SPARE_TIME
from adapters.cli.settings import Settings, settings_from
from adapters.listener import ListenerConfig
from messaging_core.avatars import OWN_HOST
from messaging_core.privacy import EmailVisibility, Privacy
from tests.listener.harness import wait_until
from tests.server.clients import browser, expect, register
from tests.server.nginx import configure
from tests.server.nginx import program as nginx
from tests.server.servers import MESSAGING, process

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNIT = (DEPLOY / "messaging.service").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def test_nginx_accepts_the_site(tmp_path: Path) -> None:
    """`nginx -t` finds no error in the site."""
    configuration = configure(tmp_path, port=80, server="http://127.0.0.1:8000")
    command = [nginx(), "-t", "-q", "-c", str(configuration), "-e", str(tmp_path / "error.log")]
    tested = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (tested.returncode, tested.stderr) == (0, "")


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    """`systemd-analyze verify` finds no error in the unit, with the path of a program that exists."""
    unit = tmp_path / "messaging.service"
    assert UNIT.count("/opt/messaging/.venv/bin/messaging") == 1
    unit.write_text(UNIT.replace("/opt/messaging/.venv/bin/messaging", str(MESSAGING)), encoding="utf-8")
    command = [tool("systemd-analyze"), "verify", "--man=no", str(unit)]
    verified = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")


def test_the_unit_waits_for_the_drain() -> None:
    """Systemd's timeout exceeds the supervisor's, and that exceeds the time a worker needs to drain."""
    listener = ListenerConfig()
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT, re.MULTILINE)
    assert int(seconds) > listener.drain_time + listener.shutdown_time + SPARE_TIME


def test_the_server_accepts_the_settings_file() -> None:
    """Each key of the file is a setting, and each process has more descriptors than connections."""
    parsed: list[Settings] = []

    def note(options: dict[str, object]) -> Settings:
        parsed.append(settings_from(options))
        sys.exit(99)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "settings_from", note)
        result = CliRunner().invoke(main, ["serve", "--config", str(DEPLOY / "messaging.toml")])
    assert result.exit_code == 99, result.output
    (settings,) = parsed
    (descriptors,) = re.findall(r"^LimitNOFILE=(\d+)$", UNIT, re.MULTILINE)
    assert int(descriptors) > settings.listener.connections
    assert settings.listener.trusted_proxies
    assert settings.privacy == Privacy(EmailVisibility.SELF, OWN_HOST)
    assert settings.strict_settings


def shown(beginning: str, part: str = "") -> str:
    """Return the only command of the page that starts with `beginning` and contains `part`."""
    commands = re.findall(rf"^(?:\$ )?(?:sudo -u messaging )?({re.escape(beginning)}.*)$", PAGE, re.MULTILINE)
    (command,) = [command for command in commands if part in command]
    return str(command)


async def test_a_backup_of_a_running_server_has_all_acknowledged_commits(tmp_path: Path) -> None:
    """The page's backup of a running server has all accounts, sessions and acknowledged messages."""
    live, restored = tmp_path / "live", tmp_path / "restored"
    live.mkdir()
    restored.mkdir()
    command = shown("sqlite3 /var/lib/messaging/messaging.db", "VACUUM")
    command = command.replace("/var/lib/messaging/", f"{live}/").replace(
        "/var/backups/messaging/", f"{restored}/"
    )
    tool("sqlite3")
    sent: list[int] = []
    async with process(live) as server, browser(server) as http:
        alice, bob = [await register(server, http, name) for name in ("Alice", "Bob")]
        chat = await alice.direct_chat_with(bob)
        copying = True

        async def keep_sending() -> None:
            while copying:
                sent.append((await alice.send(chat))["id"])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_sending)
            await wait_until(lambda: len(sent) >= 5)
            acknowledged = list(sent)
            await trio.run_process(["sh", "-c", command])
            copying = False
        await trio.run_process(["cp", str(live / "messaging.db.keys"), str(restored)])
    (backup,) = restored.glob("*.db")
    backup.rename(restored / "messaging.db")
    async with process(restored) as server, browser(server) as http:
        headers = {"Authorization": f"Bearer {alice.access_token}"}
        page = expect(
            await http.get("/messages", params={"chat_id": chat, "limit": 200}, headers=headers), 200
        )
        ids = [message["id"] for message in page["messages"]]
        assert set(acknowledged) <= set(ids)
        assert ids == sorted(ids, reverse=True)
        body = {"refresh_token": bob.refresh_token}
        expect(await http.post("/auth/refresh", json=body), 200)


def test_every_file_and_command_of_the_page_exists() -> None:
    """The page names all files of `deploy/`, and only options that exist."""
    assert {f"deploy/{path.name}" for path in DEPLOY.iterdir()} == set(re.findall(r"\bdeploy/[\w.]+\w", PAGE))
    known = {
        option
        for parameter in program.serve.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    named = set(re.findall(r"`(--[a-z][a-z-]+)", PAGE))
    assert named
    assert named <= known
