"""Which hosts a browser requests avatars from."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.client.conftest import MakeTab
from tests.client.people import Account, LiveServer, register

pytestmark = pytest.mark.browser

PICTURE = "/client/icon.svg"
"""An image that the server has."""


@pytest.fixture
def strict_server(tmp_path: Path) -> Iterator[LiveServer]:
    """A server that accepts avatars of any host, until a test restarts it with `--avatar-hosts own`."""
    server = LiveServer(tmp_path, ("--avatar-hosts", "any"))
    server.start()
    yield server
    server.stop()


def with_avatar(server: LiveServer, name: str, url: str) -> Account:
    return register(server.url, name, f"{name.lower()}@test.com", avatar_url=url)


def test_no_other_host_is_asked_for_an_avatar(strict_server: LiveServer, tab: MakeTab) -> None:
    """The client requests avatars of the server's host; for those of another host it shows initials."""
    server = strict_server
    alice = register(server.url, "Alice", "alice@test.com")
    bob = with_avatar(server, "Bob", "https://elsewhere.example/pixel.png")
    carol = with_avatar(server, "Carol", f"{server.url}{PICTURE}")
    for other in (bob, carol):
        other.say(other.chat_with(alice), "Hello!")
    server.stop()
    server.arguments = ("--avatar-hosts", "own", "--email-visibility", "self")
    server.start()
    opened = tab(server)
    urls: list[str] = []
    opened.page.on("request", lambda request: urls.append(request.url))
    opened.log_in(alice)
    for name, pictures in (("Bob", 0), ("Carol", 1)):
        opened.open(name)
        opened.sees("Hello!")
        expect(opened.page.locator(".conversation .bar .avatar img")).to_have_count(pictures)
    opened.wait_until(lambda: f"{server.url}{PICTURE}" in urls)
    assert [url for url in urls if not url.startswith((server.url, "data:"))] == []
    for account in (alice, bob, carol):
        account.http.close()
