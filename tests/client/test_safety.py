"""The client shows every input as text, and does nothing that its content policy forbids."""

import pytest
from playwright.sync_api import Browser, expect

from tests.client.conftest import MakeAccount, MakeTab
from tests.client.people import LiveServer

pytestmark = pytest.mark.browser

HOSTILE = [
    "<script>window.hacked = true</script>",
    "<img src=x onerror='window.hacked = true'>",
    '"><svg onload="window.hacked = true">',
    "javascript:window.hacked=true",
    "&lt;b&gt;not bold&lt;/b&gt; <b>bold</b>",
    "${window.hacked = true}{{constructor.constructor('window.hacked=true')()}}",
    "</textarea><iframe srcdoc='<script>top.hacked=true</script>'></iframe>",
]


def test_hostile_text_stays_text(tab: MakeTab, account: MakeAccount) -> None:
    """Markup in names, titles and messages is shown as text, and no script in it runs."""
    mallory = account("<img src=x onerror=hacked=1>")
    alice, bob = account("Alice"), account("<b>Bob</b>")
    group = mallory.chat_with(alice, bob, title="<script>hacked=1</script>")
    for text in HOSTILE:
        mallory.say(group, text)
    alices = tab().enter(alice).open("<script>hacked=1</script>")
    for text in HOSTILE:
        alices.sees(text)
    alices.shows([*HOSTILE])
    expect(alices.page.locator(".author:visible")).to_have_text([mallory.name])
    expect(alices.page.locator(".about")).to_have_text(f"3 people: {mallory.name}, You, <b>Bob</b>")
    expect(alices.page.locator("img, script[src*=x], iframe, b, .messages svg:not(.icon)")).to_have_count(0)
    for text in HOSTILE:
        alices.write(text)
        expect(alices.message(text)).to_have_count(2)
    assert alices.page.evaluate("window.hacked") is None


def test_links_lead_out_safely(tab: MakeTab, account: MakeAccount) -> None:
    """Addresses of http and https become links, without the punctuation around them; others do not."""
    alice, bob = account("Alice"), account("Bob")
    chat = alice.chat_with(bob)
    text = "See (https://example.org/a_(b)), or http://x.test/?q=<b>. Not javascript:alert(1), ftp://x."
    bob.say(chat, text)
    alices = tab().enter(alice).open("Bob")
    row = alices.sees(text)
    links = row.get_by_role("link")
    expect(links).to_have_text(["https://example.org/a_(b)", "http://x.test/?q="])
    for link in links.all():
        assert link.get_attribute("target") == "_blank"
        assert link.get_attribute("rel") == "noopener noreferrer nofollow"


def test_other_kinds_and_avatars(tab: MakeTab, account: MakeAccount) -> None:
    """A message that is not text shows its type; initials replace an avatar that does not load."""
    alice, bob = account("Alice"), account("Bob Ray")
    chat = alice.chat_with(bob)
    bob.say(chat, "The caption", type="image", payload={"url": "https://example.org/cat.png"})
    bob.http.post(
        "/messages", json={"chat_id": chat, "type": "voice", "payload": {"seconds": 3}}
    ).raise_for_status()
    alices = tab().enter(alice)
    expect(alices.page.locator(".chats .preview")).to_have_text("Voice message")
    alices.open("Bob Ray")
    expect(alices.page.locator(".message .body")).to_have_text(["ImageThe caption", "Voice message"])
    expect(alices.page.locator(".conversation .bar .avatar")).to_have_text("BR")


def test_content_policy(shared_server: LiveServer, browser: Browser) -> None:
    """The page allows no inline script and no other origin, and the browser refuses to parse markup on it."""
    page = browser.new_page()  # not in a tab: the violation is the test's own
    response = page.goto(shared_server.url)
    assert response is not None
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "style-src 'self';" in policy
    assert "unsafe" not in policy
    violation = page.evaluate(
        """async () => {
          const violation = new Promise((resolve) =>
            document.addEventListener("securitypolicyviolation", resolve));
          try { document.body.innerHTML = "<b>markup</b>"; } catch (error) {
            return [error.name, (await violation).violatedDirective];
          }
        }"""
    )
    assert violation == ["TypeError", "require-trusted-types-for"]
    page.close()
