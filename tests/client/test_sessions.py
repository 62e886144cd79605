"""Sessions: reloads, refreshes, several tabs, and log-out."""

import pytest
from playwright.sync_api import expect

from tests.client.conftest import MakeTab
from tests.client.people import Account, Requests

pytestmark = pytest.mark.browser

WITHOUT_LOCKS = 'Object.defineProperty(navigator, "locks", { value: undefined });'


def test_reload_stays_logged_in(tab: MakeTab, alice: Account, bob: Account) -> None:
    """P2: a reload shows the same chat again, and no login page."""
    alice.say(alice.chat_with(bob), "Still here")
    alices = tab().log_in(alice).open("Bob")
    alices.page.reload()
    alices.is_signed_in(alice)
    alices.sees("Still here", "sent")


def test_reload_with_an_expired_token_stays_logged_in(tab: MakeTab, alice: Account, bob: Account) -> None:
    """P2: after a reload with a refused access token, the client refreshes once and continues."""
    alice.chat_with(bob)
    alices = tab().log_in(alice).open("Bob")
    alices.spoil_access_token()
    before = alices.stored()
    refreshes = Requests().watch(alices.page, "/auth/refresh")
    alices.page.reload()
    alices.is_connected()
    alices.write("With a new token")
    alices.sees("With a new token", "sent")
    assert alices.stored()["refresh_token"] != before["refresh_token"]
    assert len(refreshes.headers) == 1


def test_token_that_expires_while_writing_loses_nothing(tab: MakeTab, alice: Account, bob: Account) -> None:
    """After a 401 to a message the client refreshes once and repeats once, with the same Idempotency-Key."""
    chat = alice.chat_with(bob)
    alices = tab().log_in(alice).open("Bob")
    alices.is_connected()
    alices.spoil_access_token()
    sent = Requests().watch(alices.page, "/messages")
    alices.write("In spite of it")
    alices.sees("In spite of it", "sent")
    assert len(sent.keys) == 2
    assert len(set(sent.keys)) == 1
    assert alice.history(chat) == ["In spite of it"]


@pytest.mark.parametrize("locks", [True, False], ids=["with locks", "without locks"])
def test_three_tabs_refresh_at_once(tab: MakeTab, alice: Account, bob: Account, locks: bool) -> None:
    """P2: three tabs that load at once with a refused token stay logged in, also without navigator.locks."""
    alice.chat_with(bob)
    first = tab().log_in(alice)
    if not locks:
        first.page.context.add_init_script(WITHOUT_LOCKS)
    tabs = [first, tab(beside=first), tab(beside=first)]
    refreshes = Requests().watch(first.page.context, "/auth/refresh")
    first.spoil_access_token()
    for each in tabs:
        each.page.goto(f"{each.url}/client/icon.svg")
    for each in tabs:
        each.page.evaluate("url => { setTimeout(() => location.replace(url)) }", f"{each.url}/")
    for each in tabs:
        each.is_signed_in(alice)
        each.is_connected()
    assert len(refreshes.headers) >= 1
    if locks:
        assert len(refreshes.headers) == 1
    tabs[2].open("Bob").write("From the third")
    tabs[0].open("Bob").sees("From the third")


def test_log_out_ends_every_tab(tab: MakeTab, alice: Account) -> None:
    """Log-out ends the session on the server, removes the tokens, and logs out the other tabs."""
    first = tab().log_in(alice)
    second = tab(beside=first).visit()
    second.is_signed_in(alice)
    token = first.stored()["access_token"]
    first.page.get_by_role("button", name="Log out").click()
    for each in (first, second):
        expect(each.page.get_by_role("button", name="Log in", exact=True)).to_be_visible()
        assert each.stored() is None
    response = alice.http.get("/users/me", headers={"Authorization": f"Bearer {token}"})
    assert (response.status_code, response.json()["code"]) == (401, "session_revoked")


def test_log_in_reaches_the_other_tabs(tab: MakeTab, alice: Account) -> None:
    """A log-in in one tab logs in all tabs."""
    first = tab().visit()
    second = tab(beside=first).log_in(alice)
    first.is_signed_in(alice)
    second.is_signed_in(alice)


def test_ended_session_leads_to_the_login_page(tab: MakeTab, alice: Account) -> None:
    """If the session is ended elsewhere, the socket closes with 1008 and the client shows the login page."""
    alices = tab().log_in(alice)
    alices.is_connected()
    headers = {"Authorization": f"Bearer {alices.stored()['access_token']}"}
    assert alice.http.post("/auth/logout", headers=headers).status_code == 204
    expect(alices.page.get_by_role("button", name="Log in", exact=True)).to_be_visible()
    assert alices.stored() is None


def test_drafts_and_secrets_do_not_outlive_the_session(tab: MakeTab, alice: Account, bob: Account) -> None:
    """After a log-out, the browser's storages and the composer have nothing of the user."""
    alice.chat_with(bob)
    alices = tab().log_in(alice).open("Bob")
    alices.composer.fill("A secret draft")
    alices.page.get_by_role("button", name="Log out").click()
    expect(alices.page.get_by_role("button", name="Log in", exact=True)).to_be_visible()
    assert alices.page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])") == "[{},{}]"
    alices.log_in(alice).open("Bob")
    expect(alices.composer).to_have_value("")
