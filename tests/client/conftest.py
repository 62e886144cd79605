"""A real Chromium, a real server, and accounts and tabs in browser contexts of their own."""

import os
import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.client.people import Account, LiveServer, Tab, register
from tests.patience import PATIENCE

expect.set_options(timeout=PATIENCE * 1000)

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM_OPTIONS = [
    "--no-sandbox",  # CI runs as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

DESKTOP = {"width": 1200, "height": 760}
PHONE = {"width": 390, "height": 780}


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of the system's Chromium."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if found is None:
        pytest.fail(
            "The browser tests need Chromium and found none: install it (on Debian: apt-get install "
            "chromium), or name it in the variable CHROMIUM.",
            pytrace=False,
        )
    return found


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_OPTIONS)
        yield started
        started.close()


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server for all tests that do not stop it."""
    server = LiveServer(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[LiveServer]:
    """A server that the test may kill."""
    server = LiveServer(tmp_path)
    server.start()
    yield server
    server.stop()


NUMBERS = count(1)

MakeAccount = Callable[..., Account]
MakeTab = Callable[..., Tab]


@pytest.fixture
def account(shared_server: LiveServer) -> Iterator[MakeAccount]:
    """Creates accounts: `account("Alice")`, on the shared server or on the one given."""
    accounts: list[Account] = []

    def make(name: str, server: LiveServer = shared_server) -> Account:
        accounts.append(register(server.url, name, f"person{next(NUMBERS)}@test.com"))
        return accounts[-1]

    yield make
    for each in accounts:
        each.http.close()


@pytest.fixture
def tab(browser: Browser, shared_server: LiveServer) -> Iterator[MakeTab]:
    """Opens tabs: `tab()` in a context of its own, `tab(beside=other)` in the other's.

    At the end, fails the test if a page has violated the content policy or thrown an exception.
    """
    contexts = []
    tabs: list[Tab] = []

    def make(server: LiveServer = shared_server, beside: Tab | None = None, **options: Any) -> Tab:
        if beside is None:
            chosen: Any = {"viewport": DESKTOP, "locale": "en-GB", **options}
            contexts.append(browser.new_context(**chosen))
            page = contexts[-1].new_page()
        else:
            page = beside.page.context.new_page()
        tabs.append(Tab(page, server.url))
        return tabs[-1]

    yield make
    for context in contexts:
        context.close()
    assert [fault for each in tabs for fault in each.faults] == []


@pytest.fixture
def alice(account: MakeAccount) -> Account:
    return account("Alice")


@pytest.fixture
def bob(account: MakeAccount) -> Account:
    return account("Bob")
