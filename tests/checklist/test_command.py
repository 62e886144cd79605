"""`messaging check` on the command line: options, streams, exit status."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner

from adapters.cli.main import main
from tests.checklist import faults
from tests.checklist.checks import serving_with
from tests.checklist.faults import responses
from tests.server.servers import run_to_its_end, serving


async def test_all_hold(tmp_path: Path) -> None:
    """If all rows hold: status 0, the report on standard output, and no progress line without a terminal."""
    async with serving() as server:
        ended = await run_to_its_end("check", f"{server.address}/api/v1/", "--lang", "ru", directory=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "✅ Что работает" in ended.stdout
    assert "работает: 13, не работает: 0" in ended.stdout


async def test_a_failed_tls_handshake_is_named(tmp_path: Path) -> None:
    """For an https address of a plain HTTP server, the error holds the library's message, not its class."""
    async with serving() as server:
        address = server.address.replace("http:", "https:")
        ended = await run_to_its_end("check", address, "--lang", "en", directory=tmp_path)
    assert ended.returncode == 2
    assert "SSL" in ended.stderr


async def test_a_server_that_hangs_up_is_an_error_with_one_full_stop(tmp_path: Path) -> None:
    """For a server that closes the connection, the error holds the library's message, as one sentence."""

    async def hang_up(stream: trio.SocketStream) -> None:
        await stream.receive_some()  # closing with an unread request would reset the connection instead
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, hang_up, 0, host="127.0.0.1"))
        address = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        ended = await run_to_its_end("check", address, "--lang", "en", directory=tmp_path)
        nursery.cancel_scope.cancel()
    assert ended.returncode == 2
    assert "without sending a response. Start the server" in ended.stderr


async def test_some_row_fails(tmp_path: Path) -> None:
    """If a row fails: status 1, the report in the given file, and the summary on standard error."""
    async with serving_with(responses(faults.search_in_a_list)) as server:
        options = ("--only", "c9,D", "--format", "json", "--output", "report.json", "--timeout", "1")
        ended = await run_to_its_end(
            "check", server.address, *options, directory=tmp_path, variables={"LC_ALL": "ru_RU.UTF-8"}
        )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("работает: 1, не работает: 1")
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["language"] == "ru"
    assert {row["id"]: row["verdict"] for row in report["rows"]} == {"C9": "fails", "D": "holds"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["http://127.0.0.1:1"], "no server answers at 127.0.0.1:1"),
        (["http://127.0.0.1:1", "--lang", "ru"], "сервер не отвечает"),
        (["localhost:8000"], "is not an http address; write it like http://localhost:8000"),
        (["http://127.0.0.1:1", "--only", "C3,X9"], "there is no row X9"),
        (["http://127.0.0.1:1", "--format", "pdf"], "'pdf' is not one of"),
        (["http://127.0.0.1:1", "--timeout", "0"], "--timeout"),
        (["http://127.0.0.1:1", "--output", "no/such/place"], "no/such/place"),
        ([], "Missing argument 'URL'"),
    ],
)
def test_a_check_that_cannot_run(arguments: list[str], says: str) -> None:
    """If the check cannot run: status 2, one sentence on standard error, and no report."""
    ended = CliRunner().invoke(main, ["check", *arguments], env={"LC_ALL": "C.UTF-8"})
    assert ended.exit_code == 2
    assert says in ended.stderr
    assert ended.stdout == ""


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, the error says what to install."""
    monkeypatch.delitem(sys.modules, "adapters.checklist.running", raising=False)
    monkeypatch.delattr("adapters.checklist.running", raising=False)
    monkeypatch.setitem(sys.modules, "adapters.checklist.client", None)
    ended = CliRunner().invoke(main, ["check", "http://127.0.0.1:1"])
    assert ended.exit_code == 2
    assert "pip install 'messaging-core[check]'" in ended.stderr


async def test_the_module_runs_without_the_server(tmp_path: Path) -> None:
    """`python -m adapters.checklist` imports nothing of the server, so the extra `check` suffices."""
    code = (
        "import runpy, sys\n"
        "try:\n    runpy.run_module('adapters.checklist', run_name='__main__')\n"
        "finally:\n    print(sorted(n for n in sys.modules if n.split('.')[0] in"
        " {'quart', 'hypercorn', 'messaging_core', 'sqlalchemy'}))\n"
    )
    async with serving() as server:
        ended = await trio.run_process(
            [sys.executable, "-c", code, server.address, "--only", "D"],
            capture_stdout=True,
            check=False,
            cwd=tmp_path,
        )
    assert ended.returncode == 0
    assert ended.stdout.decode().endswith("[]\n")


def test_serving_imports_no_client() -> None:
    """`messaging serve` is the same program, but imports neither the HTTP client nor the rows."""
    code = (
        "import sys, adapters.cli.serve\n"
        "print([name for name in sys.modules if name in {'httpx', 'adapters.checklist.rows'}])"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ended.stdout == "[]\n"
