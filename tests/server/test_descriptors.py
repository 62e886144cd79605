"""A process that has no descriptor left goes on with what it has, and ends as it should."""

import resource
from pathlib import Path

import httpx
import trio

from tests.patience import PATIENCE
from tests.server.servers import ServerProcess, process


def leave_none(server: ServerProcess) -> None:
    """Let the server open nothing more."""
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (3, 3))


async def test_what_cannot_be_loaded_at_the_start_is_loaded_when_it_is_asked_for(tmp_path: Path) -> None:
    """A crowd that is there at once may have taken all descriptors: that ends nothing."""
    unreadable = tmp_path / "path" / "quart_trio.py"
    unreadable.parent.mkdir()
    unreadable.write_text("raise OSError(24, 'Too many open files')")
    async with process(tmp_path, variables={"PYTHONPATH": str(unreadable.parent)}) as server:
        with trio.fail_after(PATIENCE):
            while "could not be loaded" not in server.log:  # noqa: ASYNC110 - it is seen from outside only
                await trio.sleep(0.01)
        async with httpx.AsyncClient(base_url=server.address, timeout=PATIENCE) as client:
            assert (await client.get("/health")).status_code == 200
            assert (await client.get("/docs")).status_code == 500
            unreadable.unlink()
            assert (await client.get("/docs")).status_code == 200
        assert await server.stop() == 0


async def test_the_end_needs_no_descriptor(tmp_path: Path) -> None:
    """Who is being served gets the answer, and the process ends with 0."""
    async with process(tmp_path) as server:
        url = httpx.URL(server.address)
        async with await trio.open_tcp_stream(url.host, url.port or 0) as stream:
            await stream.send_all(b"GET /health HTTP/1.1\r\nHost: x\r\n")
            async with httpx.AsyncClient(base_url=server.address, timeout=PATIENCE) as client:
                assert (
                    await client.get("/docs")
                ).status_code == 200  # by then all is loaded, the head is read
            leave_none(server)
            server.process.terminate()
            await stream.send_all(b"\r\n")
            with trio.fail_after(PATIENCE):
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
            assert await server.wait() == 0
