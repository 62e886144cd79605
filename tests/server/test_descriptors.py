"""A process without free descriptors continues with those it has, and ends gracefully."""

import resource
from pathlib import Path

import httpx
import trio

from tests.patience import PATIENCE
from tests.server.servers import ServerProcess, process


def leave_none(server: ServerProcess) -> None:
    """Use up all descriptors of the server."""
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (3, 3))


async def test_the_framework_is_loaded_later_if_it_cannot_be_at_start(tmp_path: Path) -> None:
    """If a crowd uses all descriptors, so that the framework cannot be loaded, a later request loads it."""
    unreadable = tmp_path / "path" / "quart_trio.py"
    unreadable.parent.mkdir()
    unreadable.write_text("raise OSError(24, 'Too many open files')")
    async with process(tmp_path, variables={"PYTHONPATH": str(unreadable.parent)}) as server:
        with trio.fail_after(PATIENCE):
            while "could not be loaded" not in server.log:  # noqa: ASYNC110 - only its log shows it
                await trio.sleep(0.01)
        async with httpx.AsyncClient(base_url=server.address, timeout=PATIENCE) as client:
            assert (await client.get("/health")).status_code == 200
            assert (await client.get("/docs")).status_code == 500
            unreadable.unlink()
            assert (await client.get("/docs")).status_code == 200
        assert await server.stop() == 0


async def test_the_server_ends_without_free_descriptors(tmp_path: Path) -> None:
    """A request in flight gets its response, and the process ends with status 0."""
    async with process(tmp_path) as server:
        url = httpx.URL(server.address)
        async with await trio.open_tcp_stream(url.host, url.port or 0) as stream:
            await stream.send_all(b"GET /health HTTP/1.1\r\nHost: x\r\n")
            async with httpx.AsyncClient(base_url=server.address, timeout=PATIENCE) as client:
                assert (
                    await client.get("/docs")
                ).status_code == 200  # by then the framework is loaded and the head is read
            leave_none(server)
            server.process.terminate()
            await stream.send_all(b"\r\n")
            with trio.fail_after(PATIENCE):
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
            assert await server.wait() == 0
