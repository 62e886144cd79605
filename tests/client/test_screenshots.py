"""Screenshots of the client, the documentation and the check's report, for the README.

The variable SCREENSHOTS (`make screenshots`) names their directory; the default is a temporary one.
"""

import html
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from playwright.sync_api import Page, expect

from tests.client.conftest import DESKTOP, PHONE, MakeTab
from tests.client.people import Account, LiveServer, Tab, register

pytestmark = pytest.mark.browser

LARGEST = 150_000
"""Maximum bytes of a picture, so that the README loads quickly on slow connections."""


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    named = os.environ.get("SCREENSHOTS")
    path = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    path.mkdir(parents=True, exist_ok=True)
    return path


@frozen
class Camera:
    directory: Path

    def take(self, page: Page, name: str) -> None:
        """Save the page without a caret, and check the size of the file."""
        page.mouse.move(0, 0)
        page.evaluate("document.activeElement?.blur()")
        page.evaluate("document.fonts.ready.then(() => true)")
        path = self.directory / f"{name}.png"
        page.screenshot(path=path, caret="hide", animations="disabled", scale="device")
        assert path.stat().st_size < LARGEST


@pytest.fixture
def camera(directory: Path) -> Camera:
    return Camera(directory)


@frozen
class Scene:
    """Two people in the middle of a conversation."""

    maya: Account
    jonas: Account


@pytest.fixture(scope="module")
def scene_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    server = LiveServer(tmp_path_factory.mktemp("scene"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def scene(scene_server: LiveServer) -> Iterator[Scene]:
    """The accounts, with their chats and messages; all but the last two messages, which `talk` writes."""
    names = ("Maya Lindqvist", "Jonas Weber", "Анна Белова", "عمر خالد", "Yuki Tanaka")
    people = [register(scene_server.url, name, f"{name.split()[0].lower()}@example.org") for name in names]
    maya, jonas, anna, omar, yuki = people
    yuki.say(yuki.chat_with(maya), "The slides are in the shared folder now.")
    omar.say(omar.chat_with(maya), "أراك غدًا في المحطة")
    group = maya.chat_with(jonas, anna, yuki, title="North Ridge, Saturday")
    anna.say(group, "Прогноз хороший: солнце и почти без ветра.")
    yuki.say(group, "Then I bring the big thermos 🍵")
    anna.say(anna.chat_with(maya), "Спасибо, получила!")
    chat = maya.chat_with(jonas)
    jonas.say(chat, "Morning! Is the hike still on?")
    maya.say(chat, "It is. The forecast says sun until four.")
    jonas.say(
        chat, "Perfect. I looked at the map again, and the path along the river is closed after the storm."
    )
    jonas.say(chat, "We could go round by the lake: https://example.org/trails/north-ridge")
    maya.say(chat, "Two kilometres more, but much prettier")
    first = maya.say(chat, "Meet at the station at eight?")
    maya.http.patch(f"/messages/{first}", json={"content": "Meet at the station at half past eight?"})
    yield Scene(maya, jonas)
    for each in people:
        each.http.close()


PREVIEWS = ["You are the best", "Спасибо, получила!", "thermos", "أراك غدًا", "The slides are"]
"""The last messages in Maya's list, latest activity first."""


def talk(maya: Tab, jonas: Tab) -> None:
    """Write the last two messages in the clients; each client shows both."""
    for each in (maya, jonas):
        each.is_connected()
    for author, reader, text in (
        (jonas, maya, "Half past eight is fine. I bring coffee ☕️"),
        (maya, jonas, "You are the best"),
    ):
        if author.message(text).count() == 0:
            author.write(text)
        author.sees(text)
        reader.sees(text)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_two_people_talk(
    tab: MakeTab, scene_server: LiveServer, scene: Scene, camera: Camera, scheme: str
) -> None:
    """A conversation on a desktop and on a phone, and the list on a phone."""
    options: dict[str, Any] = {"color_scheme": scheme}
    maya = tab(scene_server, viewport=DESKTOP, **options).enter(scene.maya).open("Jonas Weber")
    phone: dict[str, Any] = {
        "viewport": PHONE,
        "has_touch": True,
        "is_mobile": True,
        "device_scale_factor": 1.5,
    }
    jonas = tab(scene_server, **phone, **options).enter(scene.jonas).open("Maya Lindqvist")
    talk(maya, jonas)
    expect(maya.page.locator(".chats .preview")).to_contain_text(PREVIEWS)
    camera.take(maya.page, f"client-desktop-{scheme}")
    camera.take(jonas.page, f"client-phone-{scheme}")
    list_tab = tab(scene_server, **phone, **options).enter(scene.maya)
    expect(list_tab.page.locator(".chats .preview")).to_contain_text(PREVIEWS)
    camera.take(list_tab.page, f"client-phone-list-{scheme}")


def test_signing_up(tab: MakeTab, scene_server: LiveServer, camera: Camera) -> None:
    """The form to sign up."""
    page = tab(scene_server).visit().page
    page.get_by_role("button", name="Create an account").click()
    camera.take(page, "client-sign-up")


def test_documentation(tab: MakeTab, scene_server: LiveServer, camera: Camera) -> None:
    """D: /docs shows the API's endpoints, and /docs/socket its events, by their content policies."""
    opened = tab(scene_server)
    opened.page.goto(f"{scene_server.url}/docs")
    expect(opened.page.locator(".opblock").nth(10)).to_be_visible()
    camera.take(opened.page, "docs")
    opened.page.goto(f"{scene_server.url}/docs/socket#full")
    expect(opened.page.get_by_role("heading", name="Profile 2: what you receive")).to_be_in_viewport()
    camera.take(opened.page, "docs-socket")


@pytest.mark.parametrize("language", ["en", "ru"])
def test_report(tab: MakeTab, scene_server: LiveServer, camera: Camera, language: str) -> None:
    """F: every row of `messaging check` passes; its report, in a monospaced font."""
    program = Path(sys.executable).with_name("messaging")
    command = [str(program), "check", scene_server.url, "--lang", language]
    run = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "90"}
    )
    page = tab(scene_server).page
    page.set_content(
        "<style>body { margin: 0; background: #14171a; color: #e6e4df }"
        "pre { margin: 0; padding: 20px 24px; font: 14px/1.45 monospace; width: max-content }</style>"
        f"<pre>{html.escape(run.stdout)}</pre>"
    )
    size = page.locator("pre").bounding_box()
    assert size is not None
    page.set_viewport_size({"width": round(size["width"]), "height": round(size["height"])})
    camera.take(page, f"check-{language}")
