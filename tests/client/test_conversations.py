"""Conversations of two or more people: messages, edits, deletions, groups and history."""

import re

import pytest
from playwright.sync_api import expect

from tests.client.conftest import MakeAccount, MakeTab
from tests.client.people import PASSWORD, Account, Tab

pytestmark = pytest.mark.browser


@pytest.fixture
def chat(alice: Account, bob: Account) -> int:
    return alice.chat_with(bob)


@pytest.fixture
def two(tab: MakeTab, alice: Account, bob: Account, chat: int) -> tuple[Tab, Tab]:
    """Alice and Bob, each with their chat open and connected."""
    alices, bobs = tab().enter(alice).open("Bob"), tab().enter(bob).open("Alice")
    alices.is_connected()
    bobs.is_connected()
    return alices, bobs


def test_strangers_sign_up_find_each_other_and_talk(tab: MakeTab) -> None:
    """The client suffices to sign up, find a person by @tag, open a chat and write."""
    people = {}
    for name in ("Carol Strand", "Dmitri"):
        page = tab().visit().page
        page.get_by_role("button", name="Create an account").click()
        page.get_by_label("Your name").fill(name)
        page.get_by_label("E-mail").fill(f"{name.split()[0].lower()}@example.org")
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        page.get_by_role("button", name="Sign up", exact=True).click()
        page.get_by_role("heading", name="No chats yet").wait_for()
        people[name] = Tab(page, "")
    carol, dmitri = people["Carol Strand"], people["Dmitri"]
    carol.page.get_by_role("searchbox").fill("@Dmitri")
    carol.page.get_by_role("button", name="Find @Dmitri").click()
    carol.page.get_by_role("button", name="Message Dmitri").click()
    carol.write("Hello from nowhere")
    dmitri.open("Carol Strand").sees("Hello from nowhere")
    carol.sees("Hello from nowhere", "sent")


def test_message_appears_without_reload(two: tuple[Tab, Tab]) -> None:
    """P1: each message appears once in both clients, in the same order, and in their lists."""
    alices, bobs = two
    alices.write("Hi Bob")
    bobs.sees("Hi Bob")
    bobs.write("Hi Alice")
    alices.sees("Hi Alice")
    alices.sees("Hi Bob", "sent")
    alices.write("Two\nlines")
    bobs.sees("Two\nlines")
    for each in two:
        each.shows(["Hi Bob", "Hi Alice", "Two\nlines"])
    expect(bobs.page.locator(".chats .preview")).to_have_text("Two\nlines")
    expect(alices.page.locator(".chats .preview")).to_have_text("You: Two\nlines")


def test_message_appears_in_every_tab(two: tuple[Tab, Tab], tab: MakeTab) -> None:
    """Every tab of the author and the recipient shows the message once."""
    alices, bobs = two
    second = tab(beside=alices).visit().open("Bob")
    second.is_connected()
    alices.write("To all tabs")
    second.sees("To all tabs", "sent")
    bobs.sees("To all tabs")
    alices.sees("To all tabs", "sent")


def test_same_words_twice_are_two_messages(two: tuple[Tab, Tab]) -> None:
    """Messages with equal texts are distinct: their ids identify them."""
    alices, bobs = two
    for _ in range(3):
        alices.write("ha")
    expect(bobs.message("ha")).to_have_count(3)
    expect(alices.message("ha")).to_have_count(3)
    expect(alices.page.locator('.status[data-kind="sent"]')).to_have_count(3)


def test_quick_messages_keep_their_order(two: tuple[Tab, Tab]) -> None:
    """Messages that are written before the first response arrives are sent in the order of writing."""
    alices, bobs = two
    lines = [f"line {number}" for number in range(12)]
    for text in lines:
        alices.write(text)
    bobs.sees(lines[-1])
    alices.sees(lines[-1], "sent")
    for each in two:
        each.shows([*lines])


def test_chat_of_a_stranger_appears_by_itself(tab: MakeTab, alice: Account, bob: Account) -> None:
    """A chat that another user opens appears in the list with its first message."""
    bobs = tab().enter(bob)
    bobs.is_connected()
    alice.say(alice.chat_with(bob), "You do not know me yet")
    bobs.page.get_by_role("link", name="Alice").wait_for()
    expect(bobs.page.locator(".chats .preview")).to_have_text("You do not know me yet")


def test_latest_activity_is_first(tab: MakeTab, account: MakeAccount, alice: Account) -> None:
    """The list is sorted by last activity when it loads and after each message."""
    chats = {name: alice.chat_with(account(name)) for name in ("Nora", "Omar", "Pia")}
    for chat in chats.values():
        alice.say(chat, "start")
    names = (alices := tab().enter(alice)).page.locator(".chats .name")
    alices.is_connected()
    expect(names).to_have_text(["Pia", "Omar", "Nora"])
    alice.say(chats["Nora"], "again")
    expect(names).to_have_text(["Nora", "Pia", "Omar"])


def test_edit(two: tuple[Tab, Tab]) -> None:
    """The arrow key edits the author's last message; both clients show the new text, marked as edited."""
    alices, bobs = two
    alices.write("Teh plan")
    alices.sees("Teh plan", "sent")
    alices.composer.press("ArrowUp")
    expect(alices.composer).to_have_value("Teh plan")
    alices.write("The plan")
    for each in (alices, bobs):
        expect(each.sees("The plan")).to_contain_text("edited")
        expect(each.message("Teh plan")).to_have_count(0)
    expect(alices.composer).to_have_value("")


def test_edit_is_left_with_escape(two: tuple[Tab, Tab]) -> None:
    """Escape ends an edit without a change and restores the draft."""
    alices, _ = two
    alices.write("As it is")
    alices.sees("As it is", "sent")
    alices.composer.fill("A draft")
    alices.message("As it is").hover()
    alices.page.get_by_role("button", name="Edit").click()
    alices.composer.fill("Otherwise")
    alices.composer.press("Escape")
    expect(alices.composer).to_have_value("A draft")
    alices.sees("As it is")


def test_delete(two: tuple[Tab, Tab]) -> None:
    """After a confirmation, both clients show "Message deleted" in the place of the message."""
    alices, bobs = two
    alices.write("Oops")
    alices.write("After it")
    alices.sees("After it", "sent")
    alices.message("Oops").hover()
    alices.message("Oops").get_by_role("button", name="Delete").click()
    dialog = alices.page.get_by_role("dialog")
    dialog.get_by_role("button", name="Cancel").click()
    alices.sees("Oops")
    alices.message("Oops").hover()
    alices.message("Oops").get_by_role("button", name="Delete").click()
    dialog.get_by_role("button", name="Delete").click()
    for each in (alices, bobs):
        each.shows(["Message deleted", "After it"])


def test_others_messages_offer_no_actions(two: tuple[Tab, Tab]) -> None:
    """Messages of other authors have no buttons to edit or delete."""
    alices, bobs = two
    alices.write("Mine")
    row = bobs.sees("Mine")
    row.hover()
    expect(row.get_by_role("button")).to_have_count(0)


def test_group(tab: MakeTab, account: MakeAccount, alice: Account, bob: Account) -> None:
    """The client creates a group; messages in a group show their author."""
    carla = account("Carla")
    alice.chat_with(bob)
    alices, carlas = tab().enter(alice), tab().enter(carla)
    carlas.is_connected()
    alices.page.get_by_role("button", name="New group").click()
    dialog = alices.page.get_by_role("dialog", name="New group")
    dialog.get_by_role("button", name="Create group").click()
    expect(dialog.get_by_label("Name of the group")).to_be_focused()
    dialog.get_by_label("Name of the group").fill("Weekend")
    dialog.get_by_role("checkbox", name="Bob").check()
    dialog.get_by_label("Add by @tag").fill("@nobody_has_this")
    dialog.get_by_role("button", name="Add", exact=True).click()
    expect(dialog.get_by_role("alert")).to_have_text("Nobody has the tag @nobody_has_this.")
    dialog.get_by_label("Add by @tag").fill(carla.tag)
    dialog.get_by_label("Add by @tag").press("Enter")
    dialog.get_by_role("button", name="Remove Carla").wait_for()
    dialog.get_by_role("button", name="Create group").click()
    expect(alices.page.get_by_role("heading", name="Weekend")).to_be_visible()
    expect(alices.page.locator(".about")).to_have_text("3 people: You, Bob, Carla")
    alices.write("Who is in?")
    carlas.open("Weekend").sees("Who is in?")
    expect(carlas.page.locator(".author:visible")).to_have_text(["Alice"])


def test_history_loads_while_scrolling_up(tab: MakeTab, alice: Account, bob: Account) -> None:
    """The latest page loads first, older pages near the top; the messages in view do not move."""
    chat = alice.chat_with(bob)
    texts = [f"number {n}" + "\nand more" * (n % 3) for n in range(130)]
    for text in texts:
        alice.say(chat, text)
    bobs = tab().enter(bob).open("Alice")
    bobs.sees(texts[-1])
    bobs.shows([*texts[-50:]])
    expect(bobs.message(texts[-1])).to_be_in_viewport()
    row = bobs.message(texts[-50])
    before = row.evaluate(
        """(row) => { row.closest(".scroll").scrollTop = 40; return row.getBoundingClientRect().top; }"""
    )
    expect(bobs.page.locator(".message")).to_have_count(100)
    assert abs(row.evaluate("(row) => row.getBoundingClientRect().top") - before) <= 1
    bobs.page.locator(".history .scroll").evaluate("(scroll) => { scroll.scrollTop = 0; }")
    expect(bobs.page.locator(".message")).to_have_count(130)
    bobs.shows([*texts])
    expect(bobs.page.locator(".history .top")).to_have_text("The beginning of the conversation")


def test_new_message_does_not_scroll_a_reader_of_history(tab: MakeTab, alice: Account, bob: Account) -> None:
    """If the user has scrolled up, a new message does not scroll the view; a button leads to it."""
    chat = alice.chat_with(bob)
    for n in range(40):
        alice.say(chat, f"number {n}")
    bobs = tab().enter(bob).open("Alice")
    bobs.is_connected()
    bobs.sees("number 39")
    scroll = bobs.page.locator(".history .scroll")
    scroll.evaluate("(scroll) => { scroll.scrollTop = 300; }")
    alice.say(chat, "just now")
    bobs.page.get_by_role("button", name="New messages").wait_for()
    assert scroll.evaluate("(scroll) => scroll.scrollTop") == 300
    bobs.page.get_by_role("button", name="New messages").click()
    expect(bobs.message("just now")).to_be_in_viewport()
    expect(bobs.page.get_by_role("button", name=re.compile("New messages|newest"))).to_have_count(0)


def test_days_are_separated(two: tuple[Tab, Tab]) -> None:
    """Messages have their day as a heading."""
    alices, _ = two
    alices.write("Today's")
    alices.sees("Today's", "sent")
    expect(alices.page.locator(".day")).to_have_text(["Today"])


def test_russian(tab: MakeTab, alice: Account, bob: Account) -> None:
    """The client uses the browser's language; the language button changes it, also after a reload."""
    alice.chat_with(bob)
    page = tab(locale="ru-RU").visit().page
    expect(page.get_by_role("button", name="Войти", exact=True)).to_be_visible()
    page.get_by_label("Эл. почта").fill(alice.email)
    page.get_by_label("Пароль", exact=True).fill("not the password")
    page.get_by_role("button", name="Войти", exact=True).click()
    expect(page.get_by_role("alert")).to_have_text("Неверная почта или пароль.")
    page.get_by_role("button", name="Language: English").click()
    expect(page.get_by_role("button", name="Log in", exact=True)).to_be_visible()
    assert page.locator("html").get_attribute("lang") == "en"
    page.reload()
    expect(page.get_by_role("button", name="Log in", exact=True)).to_be_visible()


def test_errors_are_shown_at_their_fields(tab: MakeTab, alice: Account) -> None:
    """Each of the server's errors[] is shown at its field; the first refused field has the focus."""
    page = tab().visit().page
    page.get_by_role("button", name="Create an account").click()
    page.get_by_label("Your name").fill("Alice")
    page.get_by_label("E-mail").fill(alice.email)
    page.get_by_label("Password", exact=True).fill("short")
    page.get_by_role("button", name="Sign up", exact=True).click()
    password = page.get_by_label("Password", exact=True)
    expect(password).to_have_accessible_description("The password needs at least 8 characters.")
    expect(password).to_have_attribute("aria-invalid", "true")
    expect(password).to_be_focused()
    password.fill(PASSWORD)
    page.get_by_role("button", name="Sign up", exact=True).click()
    expect(page.get_by_label("E-mail")).to_have_accessible_description(
        "There is already an account with this e-mail."
    )


def test_long_message_is_stopped_before_it_is_sent(two: tuple[Tab, Tab]) -> None:
    """The client counts code points, as the server does: 4,001 cannot be sent, 4,000 can."""
    alices, bobs = two
    alices.composer.fill("😀" * 4001)
    expect(alices.page.get_by_role("button", name="Send")).to_be_disabled()
    expect(alices.page.locator(".count")).to_have_text("1 characters too many")
    alices.write("😀" * 4000)
    bobs.sees("😀" * 4000)
