"""nginx with the project's site, in its own directory and on its own port."""

import os
import shutil
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from subprocess import STDOUT

import pytest
import trio
from attrs import frozen

from tests.patience import PATIENCE

SITE = Path(__file__).parents[2] / "deploy" / "nginx.conf"

CLAIMED = "X-Tests-Claim"
"""The header in which a test's client names its address; nginx uses it as the client's address."""

MAIN = """
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log notice;
events {{ worker_connections 256; }}
http {{
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    set_real_ip_from 127.0.0.0/8;
    real_ip_header {CLAIMED};
    include {directory}/messaging.conf;
}}
"""


@frozen
class Nginx:
    """A running nginx."""

    address: str
    directory: Path

    @property
    def log(self) -> str:
        return (self.directory / "access.log").read_text(encoding="utf-8")


def program() -> str:
    """The path of nginx; Debian has it in a directory that only root's PATH includes."""
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if found is None:
        pytest.skip("nginx is not installed")
    return found


def configure(directory: Path, *, port: int, server: str, changes: Mapping[str, str] | None = None) -> Path:
    """Write the project's site, adapted to the test; returns the path of the whole configuration."""
    site = SITE.read_text(encoding="utf-8")
    for shipped, ours in (
        *(changes or {}).items(),
        ("listen 80;", f"listen 127.0.0.1:{port};"),
        ("listen [::]:80;", ""),
        ("server 127.0.0.1:8000;", f"server {server.removeprefix('http://')};"),
        ("/var/log/nginx/messaging.log", str(directory / "access.log")),
    ):
        assert site.count(shipped) == 1, shipped
        site = site.replace(shipped, ours)
    (directory / "messaging.conf").write_text(site, encoding="utf-8")
    main = directory / "nginx.conf"
    # root would start workers as another user, who may not write here
    user = "user root root;\n" if os.geteuid() == 0 else ""
    main.write_text(user + MAIN.format(directory=directory, CLAIMED=CLAIMED), encoding="utf-8")
    return main


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port that no other program gets before nginx listens on it."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@asynccontextmanager
async def nginx_before(
    server: str, directory: Path, changes: Mapping[str, str] | None = None
) -> AsyncIterator[Nginx]:
    """Runs nginx in front of the server at this address; yields once it accepts connections."""
    with reserved_port() as port, (directory / "output").open("wb") as output:
        main = configure(directory, port=port, server=server, changes=changes)
        child = await trio.lowlevel.open_process(
            [program(), "-c", str(main), "-e", str(directory / "error.log")], stdout=output, stderr=STDOUT
        )
        try:
            await _until_it_listens(child, port, directory)
            yield Nginx(f"http://127.0.0.1:{port}", directory)
        finally:
            with trio.CancelScope(shield=True):
                child.terminate()
                await child.wait()


async def _until_it_listens(child: trio.Process, port: int, directory: Path) -> None:
    with trio.fail_after(PATIENCE):
        while True:
            assert child.poll() is None, (directory / "output").read_text(encoding="utf-8")
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", port)
            except OSError:
                await trio.sleep(0.01)
            else:
                await stream.aclose()
                return
