"""What `deploy/` holds is taken by those that it is for, and the page's backups can be restored."""

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


def test_nginx_takes_the_site(tmp_path: Path) -> None:
    """`nginx -t` finds nothing wrong with it."""
    configuration = configure(tmp_path, port=80, server="http://127.0.0.1:8000")
    command = [nginx(), "-t", "-q", "-c", str(configuration), "-e", str(tmp_path / "error.log")]
    tested = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (tested.returncode, tested.stderr) == (0, "")


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """`systemd-analyze verify` finds nothing wrong with it, once it names a program that is here."""
    unit = tmp_path / "messaging.service"
    assert UNIT.count("/opt/messaging/.venv/bin/messaging") == 1
    unit.write_text(UNIT.replace("/opt/messaging/.venv/bin/messaging", str(MESSAGING)), encoding="utf-8")
    command = [tool("systemd-analyze"), "verify", "--man=no", str(unit)]
    verified = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")


def test_the_unit_waits_for_the_drain() -> None:
    """Systemd kills later than a supervisor does, and that later than a worker may take."""
    listener = ListenerConfig()
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT, re.MULTILINE)
    assert int(seconds) > listener.drain_time + listener.shutdown_time + SPARE_TIME


def test_the_settings_file_is_taken() -> None:
    """Each of its keys is a setting, and each process has more descriptors than connections."""
    taken: list[Settings] = []

    def note(options: dict[str, object]) -> Settings:
        taken.append(settings_from(options))
        sys.exit(99)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "settings_from", note)
        result = CliRunner().invoke(main, ["serve", "--config", str(DEPLOY / "messaging.toml")])
    assert result.exit_code == 99, result.output
    (settings,) = taken
    (descriptors,) = re.findall(r"^LimitNOFILE=(\d+)$", UNIT, re.MULTILINE)
    assert int(descriptors) > settings.listener.connections
    assert settings.listener.trusted_proxies
    assert settings.privacy == Privacy(EmailVisibility.SELF, OWN_HOST)
    assert settings.strict_settings


def shown(beginning: str, part: str = "") -> str:
    """The one command of the page that begins so, and holds this."""
    commands = re.findall(rf"^(?:\$ )?(?:sudo -u messaging )?({re.escape(beginning)}.*)$", PAGE, re.MULTILINE)
    (command,) = [command for command in commands if part in command]
    return str(command)


async def test_a_backup_that_is_made_while_serving_holds_all_that_was_answered(tmp_path: Path) -> None:
    """The page's command; a server on what it made knows the accounts, the sessions and the messages."""
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
            answered = list(sent)
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
        kept = [message["id"] for message in page["messages"]]
        assert set(answered) <= set(kept)
        assert kept == sorted(kept, reverse=True)
        body = {"refresh_token": bob.refresh_token}
        expect(await http.post("/auth/refresh", json=body), 200)


def test_every_file_and_command_of_the_page_exists() -> None:
    """It names the files of `deploy/`, all of them, and options that there are."""
    assert {f"deploy/{path.name}" for path in DEPLOY.iterdir()} == set(re.findall(r"\bdeploy/[\w.]+\w", PAGE))
    known = {
        option
        for parameter in program.serve.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    named = set(re.findall(r"`(--[a-z][a-z-]+)", PAGE))
    assert named
    assert named <= known
