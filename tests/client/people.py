"""Accounts, their tabs (each account in its own browser context), and the server."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
from attrs import define, field, frozen
from playwright.sync_api import BrowserContext, ConsoleMessage, Error, Locator, Page, Route, expect

from tests.patience import PATIENCE

LONGEST_PAUSE = 15
"""Seconds that the client pauses at most between two tries to connect."""

MESSAGING = Path(sys.executable).with_name("messaging")
SERVES = re.compile(r"^  API +http://(\S+)/api/v1$")
PASSWORD = "password123"

VIOLATIONS = """document.addEventListener("securitypolicyviolation", (event) =>
  console.error(`CSP: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`));"""
"""Logs every violation to the console; Chromium by itself logs only some."""


@define
class LiveServer:
    """`messaging serve` as a process; its database and its port stay the same when it is started again."""

    directory: Path
    arguments: tuple[str, ...] = ()
    bind: str = "127.0.0.1:0"
    _process: "subprocess.Popen[str] | None" = None

    @property
    def url(self) -> str:
        return f"http://{self.bind}"

    def start(self) -> None:
        """Start it, and return once it listens."""
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    str(MESSAGING),
                    "serve",
                    "--bind",
                    self.bind,
                    "--database",
                    f"sqlite:///{self.directory}/messaging.db",
                    "--no-rate-limits",
                    *self.arguments,
                ],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={name: value for name, value in os.environ.items() if not name.startswith("MESSAGING_")},
            )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if found := SERVES.match(line):
                self.bind = found[1]
            if line.startswith("  Database"):
                return
        log_text = (self.directory / "log").read_text(encoding="utf-8")
        raise AssertionError(f"the server ended before it served:\n{log_text}")

    def kill(self) -> None:
        """End it at once, with SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.communicate(timeout=PATIENCE)
            self._process = None


@frozen
class Account:
    """An account, with an API client that acts as this user without a browser."""

    name: str
    email: str
    tag: str
    id: int
    http: httpx.Client
    session: str
    """What the client stores in localStorage while this user is logged in."""

    def chat_with(self, *others: "Account", title: str = "") -> int:
        """Create a group if a title is given, else open the direct chat with one account; returns its id."""
        if title:
            body: dict[str, object] = {"title": title, "member_ids": [other.id for other in others]}
            response = self.http.post("/chats", json=body)
        else:
            response = self.http.post("/chats/direct", json={"user_id": others[0].id})
        response.raise_for_status()
        return int(response.json()["id"])

    def say(self, chat_id: int, content: str, **more: object) -> int:
        """Send a message; returns its id."""
        body = {"chat_id": chat_id, "type": "text", "content": content, **more}
        response = self.http.post("/messages", json=body)
        response.raise_for_status()
        return int(response.json()["id"])

    def history(self, chat_id: int) -> list[str | None]:
        """The contents of the chat's last 200 messages, oldest first."""
        response = self.http.get("/messages", params={"chat_id": chat_id, "limit": 200})
        return [message["content"] for message in reversed(response.json()["messages"])]


def register(url: str, name: str, email: str, **more: str) -> Account:
    """A new account; its API client has a session of its own."""
    http = httpx.Client(base_url=f"{url}/api/v1", timeout=PATIENCE)
    body = {"email": email, "password": PASSWORD, "display_name": name, **more}
    response = http.post("/auth/register", json=body)
    response.raise_for_status()
    signed_in = response.json()
    http.headers["Authorization"] = f"Bearer {signed_in['access_token']}"
    user = signed_in["user"]
    session = {
        "access_token": signed_in["access_token"],
        "refresh_token": signed_in["refresh_token"],
        "user_id": user["id"],
    }
    return Account(name, email, user["tag"], user["id"], http, json.dumps(session))


@define
class Tab:
    """A tab: its page, and the exceptions and policy violations on it."""

    page: Page
    url: str
    faults: list[str] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        """Listen for faults before the page loads."""
        self.page.add_init_script(VIOLATIONS)
        self.page.on("pageerror", lambda error: self.faults.append(f"exception: {error}"))
        self.page.on("console", lambda message: self._logged(message))  # noqa: PLW0108 - methods take no mark
        self.page.set_default_timeout(PATIENCE * 1000)

    def _logged(self, message: ConsoleMessage) -> None:
        if "CSP" in message.text or "Content Security Policy" in message.text or "Trusted" in message.text:
            self.faults.append(message.text)

    def visit(self) -> "Tab":
        self.page.goto(f"{self.url}/")
        return self

    def log_in(self, account: Account) -> "Tab":
        """Visit the page and log in through its form."""
        return self.visit().sign_in(account)

    def sign_in(self, account: Account) -> "Tab":
        """Log in through the form of the current page; repeats a log-in that the client has timed out."""
        self.page.get_by_label("E-mail").fill(account.email)
        self.page.get_by_label("Password", exact=True).fill(PASSWORD)
        submit = self.page.get_by_role("button", name="Log in", exact=True)
        submit.click()
        tag = self.page.locator(".me .tag", has_text=f"@{account.tag}")
        timed_out = self.page.get_by_role("alert").filter(has_text="The server does not respond.")
        expect(tag.or_(timed_out)).to_be_visible()
        if timed_out.is_visible():
            submit.click()
        self.is_signed_in(account)
        return self

    def enter(self, account: Account) -> "Tab":
        """Visit the page with a session that is stored already."""
        self.page.goto(f"{self.url}/client/icon.svg")  # any page of this origin
        self.page.evaluate("session => localStorage.setItem('messaging.session', session)", account.session)
        self.visit()
        self.is_signed_in(account)
        return self

    def is_signed_in(self, account: Account) -> None:
        self.page.locator(".me .tag", has_text=f"@{account.tag}").wait_for()

    def open(self, name: str) -> "Tab":
        """Click a chat in the list, and wait for its history."""
        self.page.get_by_role("navigation").get_by_role("link", name=name).first.click()
        self.composer.wait_for()
        self.page.locator(".messages:not([aria-busy])").wait_for(state="attached")
        return self

    def is_connected(self) -> None:
        """Wait until the socket is open, so that events arrive."""
        self.page.locator('.shell[data-connection="open"]').wait_for()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for an effect outside of the document, such as a second socket."""
        deadline = monotonic() + PATIENCE
        while not condition():
            assert monotonic() < deadline, f"the condition is false after {PATIENCE} s"
            self.page.wait_for_timeout(20)  # milliseconds, in which Playwright calls the routes' handlers

    @property
    def composer(self) -> Locator:
        return self.page.locator(".composer textarea")

    def write(self, text: str) -> None:
        """Write and send with the button; on a phone the Enter key starts a new line."""
        self.composer.fill(text)
        self.page.locator(".composer [type=submit]").click()

    def message(self, text: str) -> Locator:
        """The messages of the conversation with exactly this text."""
        exactly = re.compile(f"^{re.escape(text)}$")
        return self.page.locator(".message").filter(has=self.page.locator(".body", has_text=exactly))

    def sees(self, text: str, status: str | None = None) -> Locator:
        """Wait until one message of the conversation has this text, and it has this status."""
        found = self.message(text)
        if status is None:
            found.first.wait_for()
        else:
            found.filter(has=self.page.locator(f'.status[data-kind="{status}"]')).first.wait_for()
        expect(found).to_have_count(1)
        return found

    def shows(self, texts: list[str | None]) -> None:
        """Wait until these are the texts of the conversation, from top to bottom."""
        with suppress(AssertionError):
            self.wait_until(lambda: self._texts() == texts)
        assert self._texts() == texts

    def _texts(self) -> list[str]:
        return self.page.locator(".message .body").all_inner_texts()

    def stored(self) -> Any:
        """The session in localStorage."""
        return self.page.evaluate("JSON.parse(localStorage.getItem('messaging.session'))")

    def spoil_access_token(self) -> None:
        """Store an access token that the server refuses."""
        self.page.evaluate(
            """() => {
              const session = JSON.parse(localStorage.getItem("messaging.session"));
              const [header, claims] = session.access_token.split(".");
              session.access_token = `${header}.${claims}.${"A".repeat(43)}`;
              localStorage.setItem("messaging.session", JSON.stringify(session));
            }"""
        )


@define
class Requests:
    """The requests to one path, in order."""

    headers: list[Mapping[str, str]] = field(factory=list)

    def watch(self, where: Page | BrowserContext, path: str, method: str = "POST") -> "Requests":
        def record(request: Any) -> None:
            if request.method == method and request.url.endswith(path):
                self.headers.append(request.headers)

        where.on("request", record)
        return self

    @property
    def keys(self) -> list[str]:
        return [headers["idempotency-key"] for headers in self.headers]


def lose_response(route: Route) -> None:
    """Have the server process the request, and the page get no response."""
    with suppress(Error):
        route.fetch()
    with suppress(Error):  # the page may have been reloaded
        route.abort()
