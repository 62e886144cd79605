"""The client without a mouse, with a screen reader, and on a phone."""

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.client.conftest import PHONE, MakeTab
from tests.client.people import PASSWORD, Account

pytestmark = pytest.mark.browser

NAMELESS = """() => {
  const name = (element) => (element.getAttribute("aria-label") ?? "").trim()
    || [...(element.labels ?? [])].map((label) => label.textContent).join("").trim()
    || (element.tagName === "TEXTAREA" || element.tagName === "INPUT" ? "" : element.textContent.trim());
  return [...document.querySelectorAll("a, button, input, textarea, dialog, nav, [role]")]
    .filter((element) => element.checkVisibility())
    .filter((element) => !element.matches("[role=status], [role=alert], [role=log], [role=search]"))
    .filter((element) => !name(element) && !element.getAttribute("aria-labelledby"))
    .map((element) => element.outerHTML.slice(0, 120));
}"""

LOW_CONTRAST = """() => {
  const parse = (color) => {
    const canvas = parse.canvas ??= new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const ground = (element) => {
    for (; element; element = element.parentElement) {
      const color = parse(getComputedStyle(element).backgroundColor);
      if (color[3] > 0.99) return color;
    }
    return parse("Canvas");
  };
  const light = (color) => color.slice(0, 3)
    .map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode()); ) {
    const element = node.parentElement;
    if (!node.data.trim() || !element.checkVisibility() || element.closest(":disabled, .unseen")) continue;
    const [one, other] = [light(parse(getComputedStyle(element).color)), light(ground(element))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < 4.5) found.push(`${ratio.toFixed(2)} ${node.data.trim().slice(0, 30)}`);
  }
  return found;
}"""

SMALL_TARGETS = """() => [...document.querySelectorAll("button, a, input")]
  .filter((element) => element.checkVisibility() && !element.closest(".body, .skip, label"))
  .map((element) => [element, element.getBoundingClientRect()])
  .filter(([, { width, height }]) => width && (width < 24 || height < 16))
  .map(([element, { width, height }]) => `${width}x${height} ${element.outerHTML.slice(0, 80)}`)"""

STRUCTURE = """() => [
  document.documentElement.lang ? "" : "no language",
  document.title ? "" : "no title",
  document.querySelectorAll("main").length === 1 ? "" : "not one main",
  ...[...document.querySelectorAll("[id]")].map((e) => e.id)
    .filter((id, at, all) => all.indexOf(id) !== at).map((id) => `id ${id} twice`),
  ...["aria-describedby", "aria-labelledby"].flatMap((attribute) =>
    [...document.querySelectorAll(`[${attribute}]`)]
      .filter((e) => !document.getElementById(e.getAttribute(attribute)))
      .map((e) => `${e.outerHTML.slice(0, 80)} names nothing`)),
  ...[...document.querySelectorAll("[tabindex]")]
    .filter((e) => e.tabIndex > 0).map(() => "a positive tabindex"),
  ...[...document.querySelectorAll("li")]
    .filter((e) => !e.parentElement.matches("ul, ol")).map(() => "a stray li"),
].filter(Boolean)"""


def faults(page: Page) -> list[str]:
    """The page's present faults for people who use a screen reader or a keyboard."""
    checks = (NAMELESS, LOW_CONTRAST, SMALL_TARGETS, STRUCTURE)
    return [fault for check in checks for fault in page.evaluate(check)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_has_names_contrast_and_structure(
    tab: MakeTab, alice: Account, bob: Account, scheme: str
) -> None:
    """In every view, controls have names, texts a contrast of 4.5, targets a minimum size; ids are unique."""
    chat = alice.chat_with(bob)
    group = alice.chat_with(bob, title="Both of us")
    bob.say(group, "Said in the group")
    bob.say(chat, "With a link: https://example.org")
    opened = tab(color_scheme=scheme)
    page = opened.visit().page
    assert faults(page) == []
    page.get_by_role("button", name="Log in", exact=True).click()
    assert faults(page) == []
    page.get_by_role("button", name="Create an account").click()
    assert faults(page) == []
    opened.enter(alice)
    opened.is_connected()
    assert faults(page) == []
    opened.open("Both of us")
    assert faults(page) == []
    opened.open("Bob")
    opened.write("An answer")
    opened.sees("An answer", "sent").hover()
    assert faults(page) == []
    page.route("**/api/v1/messages", lambda route: route.fulfill(status=403, body="{}"))
    opened.write("Not going")
    opened.sees("Not going", "failed")
    opened.composer.press("ArrowUp")
    assert faults(page) == []
    page.get_by_role("button", name="New group").click()
    page.get_by_role("button", name="Create group").click()
    assert faults(page) == []


def test_keyboard_alone(tab: MakeTab, alice: Account, bob: Account) -> None:
    """Keys suffice to log in, find a person, open the chat, write, edit, delete, and return to the list."""
    alices = tab().visit()
    page = alices.page
    keys = page.keyboard
    expect(page.get_by_label("E-mail")).to_be_focused()
    keys.type(alice.email)
    keys.press("Tab")
    keys.type(PASSWORD)
    keys.press("Enter")
    alices.is_signed_in(alice)
    expect(page.get_by_role("searchbox")).to_be_focused()
    keys.type(f"@{bob.tag}")
    keys.press("Enter")
    expect(page.get_by_role("button", name="Message Bob")).to_be_focused()
    keys.press("Enter")
    expect(alices.composer).to_be_focused()
    keys.type("First")
    keys.press("Shift+Enter")
    keys.type("and second line")
    keys.press("Enter")
    alices.sees("First\nand second line", "sent")
    expect(alices.composer).to_be_focused()
    keys.type("Typo")
    keys.press("Enter")
    alices.sees("Typo", "sent")
    keys.press("Shift+Tab")
    keys.press("Shift+Tab")
    keys.press("Shift+Tab")
    expect(alices.message("Typo")).to_be_focused()
    keys.press("e")
    expect(alices.composer).to_be_focused()
    keys.press("Control+a")
    keys.type("Mended")
    keys.press("Enter")
    alices.sees("Mended", "sent")
    expect(page.locator(".mode")).to_be_hidden()  # the response, which ends the edit, may follow the event
    keys.press("Shift+Tab")
    keys.press("Shift+Tab")
    keys.press("Shift+Tab")
    keys.press("ArrowUp")
    expect(alices.message("First\nand second line")).to_be_focused()
    keys.press("Delete")
    expect(page.get_by_role("button", name="Cancel")).to_be_focused()
    keys.press("Tab")
    keys.press("Enter")
    alices.sees("Message deleted")
    expect(alices.composer).to_be_focused()
    page.get_by_role("searchbox").focus()
    keys.press("ArrowDown")
    expect(page.get_by_role("link", name="Bob")).to_be_focused()
    keys.press("Enter")
    expect(alices.composer).to_be_focused()


def test_new_messages_are_spoken(tab: MakeTab, alice: Account, bob: Account) -> None:
    """Screen readers speak a new message with its author, but not an own one or the history."""
    chat = alice.chat_with(bob)
    bob.say(chat, "Long ago")
    alices = tab().enter(alice).open("Bob")
    alices.is_connected()
    alices.sees("Long ago")
    alices.write("Own words")
    alices.sees("Own words", "sent")
    bob.say(chat, "Listen")
    bob.say(bob.chat_with(alice, title="Choir"), "All together")
    voice = alices.page.locator(".shell > [role=log][aria-live=polite] p")
    expect(voice).to_have_text(["Bob: Listen", "Bob in Choir: All together"])


def test_phone_shows_one_pane_at_a_time(tab: MakeTab, alice: Account, bob: Account) -> None:
    """A narrow screen shows the list or the conversation; "back" focuses the chat in the list."""
    alice.say(alice.chat_with(bob), "Hello phone")
    alices = tab(viewport=PHONE, has_touch=True, is_mobile=True).enter(alice)
    page = alices.page
    expect(page.get_by_role("main")).to_be_hidden()
    alices.open("Bob")
    alices.sees("Hello phone")
    expect(page.get_by_role("searchbox")).to_be_hidden()
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    page.get_by_role("button", name="Back to chats").click()
    expect(page.get_by_role("link", name="Bob")).to_be_focused()
    expect(page.get_by_role("main")).to_be_hidden()
    alices.open("Bob")
    page.go_back()
    expect(page.get_by_role("link", name="Bob")).to_be_visible()
    alices.open("Bob")
    alices.message("Hello phone").tap()
    expect(page.get_by_role("button", name="Edit")).to_be_visible()


def test_nothing_overflows(tab: MakeTab, account: Any) -> None:
    """Long words, long names and right-to-left text do not widen a page of 320 px."""
    alice, bob = account("Alice"), account("B" * 60 + " " + "عبد")
    chat = alice.chat_with(bob)
    bob.say(chat, "W" * 400)
    bob.say(chat, "مرحبا بالعالم " * 20)
    bob.say(chat, "https://example.org/" + "a/" * 200)
    alice.chat_with(bob, title="T" * 128)
    alices = tab(viewport={"width": 320, "height": 560}).enter(alice)
    width = "document.documentElement.scrollWidth"
    expect(alices.page.locator(".chats .name")).to_have_count(2)
    assert alices.page.evaluate(width) == 320
    alices.open("B" * 60)
    alices.sees("W" * 400)
    assert alices.page.evaluate(width) == 320
    assert alices.page.locator(".history .scroll").evaluate("(e) => e.scrollWidth <= e.clientWidth")
