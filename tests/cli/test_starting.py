"""What a server imports before it serves, and the errors of missing packages."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from adapters.cli.composition import first_of
from adapters.quart_app import app as app_module
from tests.patience import PATIENCE
from tests.server.servers import environment, serving

NOT_NEEDED = {
    "adapters.checklist": "a client's",
    "alembic": "for a schema that is not the newest",
    "adapters.quart_app.framework": "for pages, and loaded in a thread once the server serves",
    "cryptography": "for signatures of other kinds",
    "flask": "under Quart",
    "httpx": "a client's",
    "jinja2": "under Quart",
    "nats": "for a bus",
    "psycopg": "for PostgreSQL",
    "quart": "for pages, and loaded in a thread once the server serves",
    "sqlalchemy": "to generate the statements, whose text is a file, and to upgrade",
    "werkzeug": "under Quart",
}

START = """
import sys
import trio
import adapters.cli.main, adapters.cli.serve
from adapters.cli.composition import run_server
from adapters.cli.logs import configure_logs
from adapters.cli.settings import Settings

def print_modules(*_):
    print(*sorted(sys.modules), flush=True)

class Status:
    started = print_modules

async def start():
    shutdown = trio.Event()

    def loaded():
        print_modules()
        shutdown.set()

    settings = Settings(bind=("127.0.0.1", 0), database="sqlite:///" + sys.argv[1])
    await run_server(settings, shutdown=shutdown, loaded=loaded, task_status=Status())

configure_logs("warning", "json")
trio.run(start)
"""


WITHOUT = """
import sys
from importlib.abc import MetaPathFinder

class Missing(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name in MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

MISSING = sys.argv.pop(1).split(",")
sys.meta_path.insert(0, Missing())
from adapters.cli.main import main
main(prog_name="messaging")
"""

ANY_PORT = ("--bind", "127.0.0.1:0")
POSTGRESQL = (*ANY_PORT, "--database", "postgresql://127.0.0.1:1/none", "--signing-keys", f"k1:{'0' * 64}")
NATS = ("--bus", "nats://127.0.0.1:1/chat")
NO_PSYCOPG = (
    "Error: --database (MESSAGING_DATABASE): PostgreSQL needs the package psycopg[binary]: "
    "pip install 'messaging-core[postgresql]'"
)
NO_NATS = "Error: --bus (MESSAGING_BUS): NATS needs the package nats-py: pip install 'messaging-core[nats]'"


@pytest.mark.parametrize(
    ("missing", "arguments", "message"),
    [
        ("click,hypercorn,trio", ["serve"], "pip install 'messaging-core[server,sql]'"),
        ("click,hypercorn,trio", ["--help"], "pip install 'messaging-core[server,sql]'"),
        ("hypercorn", ["serve"], "messaging serve needs the package hypercorn: pip install"),
        ("trio", ["migrate"], "messaging migrate needs the package trio: pip install"),
        ("httpx", ["check", "http://127.0.0.1:1"], "httpx: pip install 'messaging-core[check]'"),
        ("wsproto", ["check", "http://127.0.0.1:1"], "wsproto: pip install 'messaging-core[check]'"),
        ("psycopg", ["serve", *POSTGRESQL], NO_PSYCOPG),
        ("psycopg", ["serve", *POSTGRESQL, *NATS], NO_PSYCOPG),
        ("psycopg", ["serve", *POSTGRESQL, "--workers", "2"], NO_PSYCOPG),
        ("psycopg", ["migrate", "--database", "postgresql://127.0.0.1:1/none"], NO_PSYCOPG),
        ("psycopg_binary,psycopg_c,psycopg.pq.pq_ctypes", ["serve", *POSTGRESQL], NO_PSYCOPG),
        ("nats", ["serve", *POSTGRESQL, *NATS], NO_NATS),
        ("sqlalchemy", ["migrate"], "package sqlalchemy: pip install 'messaging-core[server,sql]'"),
        ("alembic", ["serve", *ANY_PORT], "package alembic: pip install 'messaging-core[server,sql]'"),
        ("quart", ["serve", *ANY_PORT], "package quart: pip install 'messaging-core[server,sql]'"),
    ],
)
def test_without_its_packages_a_command_names_the_extra(
    missing: str, arguments: list[str], message: str, tmp_path: Path
) -> None:
    """A command that lacks a package prints one line with the extra to install; its status is 2."""
    command = [sys.executable, "-c", WITHOUT, missing, *arguments]
    ended = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
        cwd=tmp_path,
        timeout=PATIENCE,
    )
    lines = [line for line in ended.stderr.splitlines() if not line.startswith("{")]  # those of the log
    (line,) = lines
    assert ended.returncode == 2
    assert line.startswith("Error: ")
    assert message in line


def test_help_lists_every_command() -> None:
    """`--help` lists a command whose packages are missing with its extra, and all others as usual."""
    command = [sys.executable, "-c", WITHOUT, "hypercorn", "--help"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    assert ended.returncode == 0
    text = " ".join(ended.stdout.split())
    assert "serve (messaging serve needs the package hypercorn: pip install 'messaging-core[" in text
    assert "check Check " in text


def test_a_missing_module_of_the_project_is_a_defect() -> None:
    """A missing module of the project itself raises: no extra installs it."""
    command = [sys.executable, "-c", WITHOUT, "adapters.checklist.command", "check", "http://127.0.0.1:1"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    assert ended.returncode == 1
    assert "ModuleNotFoundError: No module named 'adapters.checklist.command'" in ended.stderr


def test_the_check_alone_names_its_extra() -> None:
    """`python -m adapters.checklist` without a package prints one line with the check's own extra."""
    code = WITHOUT.replace(
        'from adapters.cli.main import main\nmain(prog_name="messaging")',
        "import runpy; runpy.run_module('adapters.checklist', run_name='__main__')",
    )
    for missing in ("click", "trio"):
        command = [sys.executable, "-c", code, missing, "http://127.0.0.1:1"]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
        assert ended.returncode == 2
        (line,) = ended.stderr.splitlines()
        assert line.endswith(f"the check needs the package {missing}: pip install 'messaging-core[check]'")


@pytest.fixture
def modules(tmp_path: Path) -> list[set[str]]:
    """The modules that a server has imported when it begins to serve, and when it has imported all."""
    command = [sys.executable, "-c", START, str(tmp_path / "messaging.db")]
    subprocess.run(command, check=True, capture_output=True, env=environment())  # creates the tables
    ended = subprocess.run(command, check=True, capture_output=True, text=True, env=environment())
    return [set(line.split()) for line in ended.stdout.splitlines()]


def test_a_start_imports_only_what_serving_needs(modules: list[set[str]]) -> None:
    """Modules for pages, uncommon requests, upgrades and other commands do not delay a start."""
    at_first, _ = modules
    assert "adapters.quart_app.app" in at_first
    assert {name: why for name, why in NOT_NEEDED.items() if name in at_first} == {}


def test_everything_is_loaded_soon(modules: list[set[str]]) -> None:
    """The framework is imported once the server serves, not at the first request for a page."""
    _, soon = modules
    assert {"quart", "adapters.quart_app.framework"} <= soon
    assert "sqlalchemy" not in soon


async def test_only_pages_wait_for_the_framework(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the framework is imported, the API responds; requests for pages wait for it."""
    may_continue, frameworks = threading.Event(), list[object]()
    make = app_module._make_framework

    def slow(*parts: Any) -> Any:
        assert may_continue.wait(PATIENCE)
        frameworks.append(make(*parts))
        return frameworks[-1]

    monkeypatch.setattr(app_module, "_make_framework", slow)
    usual = sys.getswitchinterval()
    async with serving() as server, httpx.AsyncClient(base_url=server.address, timeout=PATIENCE) as http:
        pages: list[int] = []

        async def get_page() -> None:
            pages.append((await http.get("/docs")).status_code)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(get_page)
            nursery.start_soon(get_page)
            assert (await http.get("/health", headers={"Connection": "close"})).status_code == 200
            assert (await http.get("/ready")).status_code == 200
            assert (pages, frameworks) == ([], [])
            may_continue.set()
        assert pages == [200, 200]
    assert len(frameworks) == 1
    assert sys.getswitchinterval() == usual


async def test_a_server_whose_framework_fails_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in the framework's import ends the server at once, not only when a page is requested."""
    broken = ImportError("half installed")

    def fail(*_: object) -> Any:
        raise broken

    monkeypatch.setattr(app_module, "_make_framework", fail)
    with pytest.raises(BaseExceptionGroup) as raised:
        async with serving():
            await trio.sleep_forever()
    assert first_of(raised.value) is broken
