"""People who use the client, each in a browser context of their own, and the server between them."""

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
from playwright.sync_api import BrowserContext, ConsoleMessage, Error, Locator, Page, Route

PATIENCE = 15
"""Seconds after which what should have happened has not."""

MESSAGING = Path(sys.executable).with_name("messaging")
SERVES = re.compile(r"^  API +http://(\S+)/api/v1$")
PASSWORD = "password123"

VIOLATIONS = """document.addEventListener("securitypolicyviolation", (event) =>
  console.error(`CSP: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`));"""
"""Tells the console of every violation, also of those that Chromium would keep to itself."""


@define
class LiveServer:
    """`messaging serve` as a process, on a database that survives it and a port that it keeps."""

    directory: Path
    arguments: tuple[str, ...] = ()
    bind: str = "127.0.0.1:0"
    _process: "subprocess.Popen[str] | None" = None

    @property
    def url(self) -> str:
        return f"http://{self.bind}"

    def start(self) -> None:
        """Start it, and return once it answers."""
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
        """End it as a power cut would."""
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
    """Somebody with an account, and the API as they may use it past their browser."""

    name: str
    email: str
    tag: str
    id: int
    http: httpx.Client
    session: str
    """What the client keeps in localStorage for somebody who is signed in."""

    def chat_with(self, *others: "Account", title: str = "") -> int:
        """The direct chat with one person, or a group with several; its id."""
        if title:
            told: dict[str, object] = {"title": title, "member_ids": [other.id for other in others]}
            answer = self.http.post("/chats", json=told)
        else:
            answer = self.http.post("/chats/direct", json={"user_id": others[0].id})
        answer.raise_for_status()
        return int(answer.json()["id"])

    def say(self, chat_id: int, content: str, **more: object) -> int:
        """Send a message; its id."""
        told = {"chat_id": chat_id, "type": "text", "content": content, **more}
        answer = self.http.post("/messages", json=told)
        answer.raise_for_status()
        return int(answer.json()["id"])

    def history(self, chat_id: int) -> list[str | None]:
        """What was said, oldest first."""
        answer = self.http.get("/messages", params={"chat_id": chat_id, "limit": 200})
        return [message["content"] for message in reversed(answer.json()["messages"])]


def register(url: str, name: str, email: str, **more: str) -> Account:
    """A new account; its API client holds a session of its own."""
    http = httpx.Client(base_url=f"{url}/api/v1", timeout=PATIENCE)
    body = {"email": email, "password": PASSWORD, "display_name": name, **more}
    answer = http.post("/auth/register", json=body)
    answer.raise_for_status()
    signed_in = answer.json()
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
    """One tab: its page, and what went wrong on it."""

    page: Page
    url: str
    faults: list[str] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        """Listen to the page from its beginning."""
        self.page.add_init_script(VIOLATIONS)
        self.page.on("pageerror", lambda error: self.faults.append(f"exception: {error}"))
        self.page.on("console", lambda message: self._heard(message))  # noqa: PLW0108 - methods take no mark
        self.page.set_default_timeout(PATIENCE * 1000)

    def _heard(self, message: ConsoleMessage) -> None:
        if "CSP" in message.text or "Content Security Policy" in message.text or "Trusted" in message.text:
            self.faults.append(message.text)

    def visit(self) -> "Tab":
        self.page.goto(f"{self.url}/")
        return self

    def log_in(self, account: Account) -> "Tab":
        """Visit and log in through the form, as people do."""
        return self.visit().sign_in(account)

    def sign_in(self, account: Account) -> "Tab":
        """Through the form that is on the page."""
        self.page.get_by_label("E-mail").fill(account.email)
        self.page.get_by_label("Password", exact=True).fill(PASSWORD)
        self.page.get_by_role("button", name="Log in", exact=True).click()
        self.is_signed_in(account)
        return self

    def enter(self, account: Account) -> "Tab":
        """Come back as somebody who logged in here before."""
        self.page.goto(f"{self.url}/client/icon.svg")  # any page of this origin
        self.page.evaluate("session => localStorage.setItem('messaging.session', session)", account.session)
        self.visit()
        self.is_signed_in(account)
        return self

    def is_signed_in(self, account: Account) -> None:
        self.page.locator(".me .tag", has_text=f"@{account.tag}").wait_for()

    def open(self, name: str) -> "Tab":
        """Open the chat of this name from the list, and wait for its history."""
        self.page.get_by_role("navigation").get_by_role("link", name=name).first.click()
        self.composer.wait_for()
        self.page.locator(".messages:not([aria-busy])").wait_for(state="attached")
        return self

    def is_connected(self) -> None:
        """Wait until messages come by themselves: the socket is open."""
        self.page.locator('.shell[data-connection="open"]').wait_for()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for what the page causes outside of its document, such as a second socket."""
        deadline = monotonic() + PATIENCE
        while not condition():
            assert monotonic() < deadline, f"not so after {PATIENCE} s"
            self.page.wait_for_timeout(20)  # milliseconds, in which Playwright calls the routes' handlers

    @property
    def composer(self) -> Locator:
        return self.page.locator(".composer textarea")

    def write(self, text: str) -> None:
        """Write and send, with the button: on a phone the Enter key makes a line."""
        self.composer.fill(text)
        self.page.locator(".composer [type=submit]").click()

    def message(self, text: str) -> Locator:
        """The rows of the conversation with exactly this text."""
        exactly = re.compile(f"^{re.escape(text)}$")
        return self.page.locator(".message").filter(has=self.page.locator(".body", has_text=exactly))

    def sees(self, text: str, status: str | None = None) -> Locator:
        """Wait for a message, in a status if one is named; it is there once."""
        found = self.message(text)
        if status is None:
            found.first.wait_for()
        else:
            found.filter(has=self.page.locator(f'.status[data-kind="{status}"]')).first.wait_for()
        assert found.count() == 1, f"{text!r} is there {found.count()} times"
        return found

    def texts(self) -> list[str]:
        """Every message of the conversation, from top to bottom."""
        return self.page.locator(".message .body").all_inner_texts()

    def stored(self) -> Any:
        """The session in localStorage."""
        return self.page.evaluate("JSON.parse(localStorage.getItem('messaging.session'))")

    def spoil_access_token(self) -> None:
        """Leave an access token that the server refuses, as an expired one."""
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
    """What a page asked of one path, in order."""

    headers: list[Mapping[str, str]] = field(factory=list)

    def watch(self, where: Page | BrowserContext, path: str, method: str = "POST") -> "Requests":
        def seen(request: Any) -> None:
            if request.method == method and request.url.endswith(path):
                self.headers.append(request.headers)

        where.on("request", seen)
        return self

    @property
    def keys(self) -> list[str]:
        return [headers["idempotency-key"] for headers in self.headers]


def swallow_answer(route: Route) -> None:
    """Let the server do what was asked, and the page never hear of it."""
    with suppress(Error):
        route.fetch()
    route.abort()
