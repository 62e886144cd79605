"""A log that cannot be written costs its lines, and no request, no event, no process."""

import json
import os
import socket
import sys
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from subprocess import run

import pytest
import trio
from attrs import frozen

from tests.patience import PATIENCE
from tests.server.clients import browser, expect, register
from tests.server.servers import ServerProcess, command_line, environment, process

REDIRECTED = ("sh", "-c", 'exec "$@" 2>{}', "sh")


@frozen
class Pipe:
    """A pipe that only the test reads."""

    reader: FileIO
    writer: FileIO

    def fill(self) -> None:
        """Fill the pipe's buffer."""
        os.set_blocking(self.writer.fileno(), False)
        while self.writer.write(b"." * 4096):
            pass
        os.set_blocking(self.writer.fileno(), True)

    def read(self) -> str:
        """The contents of its buffer."""
        os.set_blocking(self.reader.fileno(), False)
        contents = b""
        while piece := self.reader.read(65_536):
            contents += piece
        return contents.decode()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    reader, writer = os.pipe()
    with FileIO(reader, "rb") as one, FileIO(writer, "wb") as other:
        yield Pipe(one, other)


async def serves_two_people(server: ServerProcess) -> None:
    """Check that a message arrives, and that every request gets its response."""
    async with browser(server) as http:
        alice, bob = [await register(server, http, name) for name in ("Alice", "Bob")]
        chat = await alice.direct_chat_with(bob)
        async with bob.socket() as connected:
            sent = [(await alice.send(chat, str(number)))["id"] for number in range(3)]
            assert [(await connected.message())["id"] for _ in sent] == sent


@pytest.mark.parametrize("shell", ["/dev/full", "&-"])
async def test_a_server_whose_log_is_full_or_closed_serves(tmp_path: Path, shell: str) -> None:
    """A server whose log cannot be written serves from its start to its end, without these lines."""
    started_by = [word.format(shell) for word in REDIRECTED]
    async with process(tmp_path, "--log-level", "debug", started_by=started_by) as server:
        await serves_two_people(server)
        assert await server.stop() == 0


async def test_a_server_whose_log_has_lost_its_reader_serves(tmp_path: Path, pipe: Pipe) -> None:
    """A server serves although the reader of its log has ended."""
    async with process(tmp_path, stderr=pipe.writer.fileno()) as server:
        pipe.writer.close()
        pipe.reader.close()
        await serves_two_people(server)
        assert await server.stop() == 0


async def test_a_full_log_loses_lines_and_counts_them(tmp_path: Path, pipe: Pipe) -> None:
    """Lines that do not fit are dropped; once there is space, their number follows the next line."""
    pipe.fill()
    async with process(tmp_path, "--log-format", "json", stderr=pipe.writer.fileno()) as server:
        await serves_two_people(server)
        assert set(pipe.read()) == {"."}
        async with browser(server) as http:
            expect(await http.get("/users/me"), 401)
        assert await server.stop() == 0
    first, note, *others = [json.loads(line) for line in pipe.read().splitlines()]
    events = [(line["event"], line.get("path")) for line in (first, *others)]
    assert ("request", "/api/v1/users/me") in events
    assert (note["event"], note["level"]) == ("Lines of the log could not be written", "warning")
    assert note["lost"] > 15  # four for each message, one for each request
    assert "lost" not in {key for line in (first, *others) for key in line}


def test_a_torn_line_is_ended_before_the_next(tmp_path: Path) -> None:
    """After a full disk has cut a line, the next one begins on a new line."""
    program = (
        "import resource, structlog\n"
        "from adapters.cli.logs import configure_logs\n"
        "configure_logs('info', 'json')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))\n"
        "for number in range(3): structlog.get_logger().info('a' * 30, number=number)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "structlog.get_logger().info('whole')\n"
    )
    with (tmp_path / "log").open("ab") as log:
        run([sys.executable, "-c", program], stderr=log, check=True, timeout=PATIENCE)
    lines = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    assert len(lines[0]) == 100
    assert [json.loads(line)["event"] for line in lines[1:]] == [
        "whole",
        "Lines of the log could not be written",
    ]
    assert json.loads(lines[2])["lost"] == 3


async def test_a_server_whose_greeting_cannot_be_written_serves(tmp_path: Path) -> None:
    """A server that cannot write its greeting serves, and ends with status 0."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    serve = command_line("serve", "--bind", f"127.0.0.1:{port}")
    command = ["sh", "-c", 'exec "$@" >/dev/full 2>log', "sh", *serve]
    server = await trio.lowlevel.open_process(command, cwd=tmp_path, env=environment())
    try:
        with trio.fail_after(PATIENCE):
            log = tmp_path / "log"
            while not log.exists() or b"listening" not in log.read_bytes():  # noqa: ASYNC110
                await trio.sleep(0.01)
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            async with stream:
                await stream.send_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
            server.terminate()
            assert await server.wait() == 0
    finally:
        server.kill()


def test_an_unwritable_error_keeps_its_exit_status(tmp_path: Path) -> None:
    """The status of a wrong setting is 2 also without a message, so a service manager does not restart."""
    started_by = [word.format("/dev/full") for word in REDIRECTED]
    command = [*started_by, *command_line("serve", "--bind", "nowhere")]
    ended = run(command, cwd=tmp_path, env=environment(), check=False, timeout=PATIENCE)
    assert ended.returncode == 2
