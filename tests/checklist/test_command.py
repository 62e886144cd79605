"""`messaging check` as people type it: options, streams, exit status."""

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
from tests.checklist.checks import spoiled
from tests.checklist.faults import answers
from tests.server.servers import run_to_its_end, serving


async def test_all_hold(tmp_path: Path) -> None:
    """Status 0, the report on standard output, nothing beside it where no terminal is."""
    async with serving() as server:
        ended = await run_to_its_end("check", f"{server.address}/api/v1/", "--lang", "ru", directory=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "✅ Что работает" in ended.stdout
    assert "работает: 13, не работает: 0" in ended.stdout


async def test_where_nothing_speaks_tls_that_is_said(tmp_path: Path) -> None:
    """Of an https address that speaks plain HTTP the library's own words are passed on, not its class."""
    async with serving() as server:
        address = server.address.replace("http:", "https:")
        ended = await run_to_its_end("check", address, "--lang", "en", directory=tmp_path)
    assert ended.returncode == 2
    assert "SSL" in ended.stderr


async def test_who_answers_nothing_is_told_of_in_a_sentence(tmp_path: Path) -> None:
    """Of a server that hangs up the library's own words are passed on, and end with one full stop."""
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(
            partial(trio.serve_tcp, trio.SocketStream.aclose, 0, host="127.0.0.1")
        )
        address = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        ended = await run_to_its_end("check", address, "--lang", "en", directory=tmp_path)
        nursery.cancel_scope.cancel()
    assert ended.returncode == 2
    assert "without sending a response. Start it" in ended.stderr


async def test_some_row_fails(tmp_path: Path) -> None:
    """Status 1, the report in the file that was named, one sentence on standard error."""
    async with spoiled(answers(faults.search_in_a_list)) as server:
        options = ("--only", "c9,D", "--format", "json", "--output", "report.json", "--timeout", "1")
        ended = await run_to_its_end(
            "check", server.address, *options, directory=tmp_path, variables={"LC_ALL": "ru_RU.UTF-8"}
        )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("работает: 1, не работает: 1")
    told = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert told["language"] == "ru"
    assert {row["id"]: row["verdict"] for row in told["rows"]} == {"C9": "fails", "D": "holds"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["http://127.0.0.1:1"], "no server answers at 127.0.0.1:1"),
        (["http://127.0.0.1:1", "--lang", "ru"], "сервер не отвечает"),
        (["localhost:8000"], "is not an address such as http://localhost:8000"),
        (["http://127.0.0.1:1", "--only", "C3,X9"], "there is no row X9"),
        (["http://127.0.0.1:1", "--format", "pdf"], "'pdf' is not one of"),
        (["http://127.0.0.1:1", "--timeout", "0"], "--timeout"),
        (["http://127.0.0.1:1", "--output", "no/such/place"], "no/such/place"),
        ([], "Missing argument 'URL'"),
    ],
)
def test_what_cannot_be_run(arguments: list[str], says: str) -> None:
    """Status 2 and a sentence: nothing was checked, so nothing is said of the server."""
    ended = CliRunner().invoke(main, ["check", *arguments], env={"LC_ALL": "C.UTF-8"})
    assert ended.exit_code == 2
    assert says in ended.stderr
    assert ended.stdout == ""


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the extra is not installed, the sentence says what to install."""
    monkeypatch.delitem(sys.modules, "adapters.checklist.running", raising=False)
    monkeypatch.delattr("adapters.checklist.running", raising=False)
    monkeypatch.setitem(sys.modules, "adapters.checklist.client", None)
    ended = CliRunner().invoke(main, ["check", "http://127.0.0.1:1"])
    assert ended.exit_code == 2
    assert "pip install 'messaging-core[check]'" in ended.stderr


async def test_the_module_runs_without_the_server(tmp_path: Path) -> None:
    """`python -m adapters.checklist`: with the extra `check` alone, none of the server is imported."""
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
    """`messaging serve` shares the program and does not pay for it: no HTTP client, none of the rows."""
    code = (
        "import sys, adapters.cli.serve\n"
        "print([name for name in sys.modules if name in {'httpx', 'adapters.checklist.rows'}])"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ended.stdout == "[]\n"
