"""A single server's signals: some end it gracefully, the others are ignored."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest
import trio

from tests.listener.harness import wait_until
from tests.server.clients import browser, expect, register
from tests.server.servers import ServerProcess, process

MEMORY = ("--database", "memory:")

IN_A_TERMINAL = """
import os, pty, signal, sys
output = [os.dup(number) for number in (1, 2)]
pid, terminal = pty.fork()
if pid == 0:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
    for number, original in zip((1, 2), output):
        os.dup2(original, number)
    os.execvp(sys.argv[1], sys.argv[1:])
open("pid", "w").write(str(pid))
signal.pause()
"""
"""Runs a command in its own terminal, which hangs up when this process ends."""


def ignored(server: ServerProcess) -> list[dict[str, str]]:
    lines = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == "signal_ignored"]


async def test_a_single_process_ignores_other_signals(tmp_path: Path) -> None:
    """SIGHUP, SIGUSR1 and SIGUSR2 each cause a line in the log; sockets stay open."""
    async with process(tmp_path, *MEMORY) as server, browser(server) as http:
        alice, bob = await register(server, http, "Alice"), await register(server, http, "Bob")
        chat = await alice.direct_chat_with(bob)
        async with alice.socket() as socket:
            for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
                server.process.send_signal(number)
            await wait_until(lambda: len(ignored(server)) == 3)
            sent = await bob.send(chat)
            assert (await socket.message())["id"] == sent["id"]
            assert await server.stop() == 0
    reasons = {line["signal"]: line["reason"] for line in ignored(server)}
    assert "--workers is 1" in reasons["SIGHUP"]
    assert set(reasons) == {"SIGHUP", "SIGUSR1", "SIGUSR2"}


async def test_sigquit_drains_as_sigterm_does(tmp_path: Path) -> None:
    """SIGQUIT closes sockets with 1012, and the exit status is 0."""
    async with process(tmp_path, *MEMORY) as server, browser(server) as http:
        alice = await register(server, http, "Alice")
        async with alice.socket() as socket:
            server.process.send_signal(signal.SIGQUIT)
            assert (await socket.closed())[0] == 1012
        assert await server.wait() == 0
    assert "core dumped" not in server.log


AT_THE_FIRST_IMPORT = """
import os, sys

class Sender:
    def find_spec(self, name, path=None, target=None):
        if name == "click":
            sys.meta_path.remove(self)
            os.kill(os.getpid(), {number})
            print("outlived", flush=True)

sys.meta_path.insert(0, Sender())
sys.argv = ["messaging", "serve", "--database", "sqlite:////nowhere/messaging.db"]
from adapters.cli.main import main
main()
"""
"""Starts a server that receives a signal when it imports its first package."""


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
async def test_a_starting_server_ignores_other_signals(number: signal.Signals) -> None:
    """A server ignores them from its first import on; before that, Python itself starts."""
    command = [sys.executable, "-c", AT_THE_FIRST_IMPORT.format(number=int(number))]
    ended = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, b"outlived\n")
    assert b"Error: " in ended.stderr


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130), (signal.SIGQUIT, 131)],
)
async def test_a_starting_server_ends_without_traces(number: signal.Signals, status: int) -> None:
    """There is no traceback, and the exit status shows which signal ended the server."""
    command = [sys.executable, "-c", AT_THE_FIRST_IMPORT.format(number=int(number))]
    ended = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (status, b"", b"")


async def test_a_terminal_that_hangs_up_ends_its_server(tmp_path: Path) -> None:
    """SIGHUP of a closed terminal acts as SIGTERM; otherwise the server would keep its port."""
    terminal = (sys.executable, "-c", IN_A_TERMINAL)
    async with process(tmp_path, *MEMORY, started_by=terminal) as server, browser(server) as http:
        alice = await register(server, http, "Alice")
        async with alice.socket() as socket:
            server.process.terminate()
            assert (await socket.closed())[0] == 1012
        await server.wait()
    assert not ignored(server)


async def test_a_server_under_nohup_outlives_its_terminal(tmp_path: Path) -> None:
    """Under nohup a server ignores the SIGHUP of a closed terminal."""
    terminal = (sys.executable, "-c", IN_A_TERMINAL, "nohup")
    async with process(tmp_path, *MEMORY, started_by=terminal) as server, browser(server) as http:
        server.process.terminate()
        await wait_until(lambda: len(ignored(server)) == 1)
        expect(await http.get(f"{server.address}/health"), 200)
        os.kill(int((tmp_path / "pid").read_text(encoding="ascii")), signal.SIGTERM)
        await server.wait()
