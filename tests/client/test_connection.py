"""A conversation while the server, the network or the socket fails."""

import re

import pytest
from playwright.sync_api import Route, WebSocketRoute, expect

from tests.client.conftest import MakeAccount, MakeTab
from tests.client.people import LONGEST_PAUSE, Account, LiveServer, Requests, lose_response
from tests.patience import PATIENCE

pytestmark = pytest.mark.browser

SOCKETS = re.compile("/ws\\?")
NO_CONNECTION = "No connection. What you write is sent when it is back."


def test_server_killed_and_restarted(own_server: LiveServer, account: MakeAccount, tab: MakeTab) -> None:
    """A message written while the server is down is sent once when it is up again, and reaches everybody."""
    alice, bob = account("Alice", own_server), account("Bob", own_server)
    chat = alice.chat_with(bob)
    alices = tab(own_server).enter(alice).open("Bob")
    bobs = tab(own_server).enter(bob).open("Alice")
    alices.is_connected()
    bobs.is_connected()
    alices.write("Before")
    bobs.sees("Before")

    own_server.kill()
    expect(alices.page.locator(".banner span")).to_have_text(NO_CONNECTION)
    alices.write("While it was down")
    bobs.write("So did I")
    alices.sees("While it was down", "pending")
    own_server.start()
    # If this message is committed before the clients reconnect, no event brings it, and they must fetch it.
    alice.http.base_url = f"{own_server.url}/api/v1"
    alice.say(chat, "No event")
    for each, own, other in (
        (alices, "While it was down", "So did I"),
        (bobs, "So did I", "While it was down"),
    ):
        each.is_connected()
        each.sees(own, "sent")
        each.sees(other)
        each.sees("No event")
        expect(each.page.locator(".banner")).to_be_hidden()
    history = alice.history(chat)
    for each in (alices, bobs):
        each.shows(history)
    assert sorted(filter(None, history)) == sorted(["Before", "While it was down", "So did I", "No event"])


def test_offline_and_back(tab: MakeTab, alice: Account, bob: Account) -> None:
    """Back online, the client shows new messages, edits and deletions, and sends its pending message."""
    chat = alice.chat_with(bob)
    first, second = alice.say(chat, "one"), alice.say(chat, "two")
    alice.say(chat, "three")
    bobs = tab().enter(bob).open("Alice")
    bobs.is_connected()
    bobs.page.context.set_offline(True)
    bobs.write("Written in a tunnel")
    bobs.sees("Written in a tunnel", "pending")
    alice.http.patch(f"/messages/{first}", json={"content": "one, edited"}).raise_for_status()
    alice.http.delete(f"/messages/{second}").raise_for_status()
    alice.say(chat, "four")
    expect(bobs.page.locator(".banner span")).to_have_text(NO_CONNECTION)
    bobs.shows(["one", "two", "three", "Written in a tunnel"])
    bobs.page.context.set_offline(False)
    bobs.sees("Written in a tunnel", "sent")
    bobs.sees("four")
    bobs.shows(["one, edited", "Message deleted", "three", "four", "Written in a tunnel"])
    assert alice.history(chat) == ["one, edited", None, "three", "four", "Written in a tunnel"]


def test_long_absence_leaves_no_hole(tab: MakeTab, alice: Account, bob: Account) -> None:
    """The client fetches all missed messages in order, also if they fill more than one page."""
    chat = alice.chat_with(bob)
    alice.say(chat, "last seen")
    bobs = tab().enter(bob).open("Alice")
    bobs.is_connected()
    bobs.sees("last seen")
    bobs.page.context.set_offline(True)
    missed = [f"missed {n}" for n in range(230)]
    for text in missed:
        alice.say(chat, text)
    bobs.page.context.set_offline(False)
    bobs.sees(missed[-1])
    expect(bobs.page.locator(".message")).to_have_count(231)
    bobs.shows(["last seen", *missed])


def test_lost_response_causes_no_second_message(tab: MakeTab, alice: Account, bob: Account) -> None:
    """After a lost response the client repeats the request with the same Idempotency-Key."""
    chat = alice.chat_with(bob)
    alices = tab().enter(alice).open("Bob")
    alices.is_connected()
    sent = Requests().watch(alices.page, "/messages")
    alices.page.route("**/api/v1/messages", lose_response, times=1)
    with alices.page.expect_response("**/api/v1/messages") as repeated:
        alices.write("Only once")
        # Its event makes the message "sent"; the second response changes nothing.
        alices.sees("Only once", "sent")
    assert repeated.value.headers["idempotency-replayed"] == "true"
    alices.sees("Only once", "sent")
    assert len(sent.keys) == 2
    assert len(set(sent.keys)) == 1
    assert alice.history(chat) == ["Only once"]


def test_failed_message_can_be_tried_again(tab: MakeTab, alice: Account, bob: Account) -> None:
    """A message without response and event becomes "failed"; its retry has the same key."""
    chat = alice.chat_with(bob)
    alices = tab().enter(alice).open("Bob")
    alices.is_connected()
    sent = Requests().watch(alices.page, "/messages")
    alices.page.route("**/api/v1/messages", lambda route: route.abort())
    alices.write("Please go")
    failed = alices.sees("Please go", "failed")
    expect(failed.get_by_role("alert")).to_contain_text("Not sent.")
    alices.page.unroute("**/api/v1/messages")
    failed.get_by_role("button", name="Try again").click()
    alices.sees("Please go", "sent")
    assert len(set(sent.keys)) == 1
    assert alice.history(chat) == ["Please go"]


def test_refused_message_fails_at_once(tab: MakeTab, alice: Account, bob: Account) -> None:
    """The client does not retry a refused message; its author may discard it."""
    alice.chat_with(bob)
    alices = tab().enter(alice).open("Bob")
    alices.is_connected()
    sent = Requests().watch(alices.page, "/messages")
    problem = (
        '{"code": "not_a_participant", "detail": "You are not a participant of this chat.", "errors": []}'
    )
    alices.page.route(
        "**/api/v1/messages",
        lambda route: route.fulfill(status=403, content_type="application/problem+json", body=problem),
    )
    alices.write("Let me in")
    failed = alices.sees("Let me in", "failed")
    expect(failed.get_by_role("alert")).to_have_text("Not sent. You are not in this chat.")
    assert len(sent.keys) == 1
    failed.get_by_role("button", name="Discard").click()
    expect(alices.message("Let me in")).to_have_count(0)
    expect(alices.composer).to_be_focused()


def test_unsent_message_survives_a_reload(own_server: LiveServer, account: MakeAccount, tab: MakeTab) -> None:
    """A pending message is sent once after a reload."""
    alice, bob = account("Alice", own_server), account("Bob", own_server)
    chat = alice.chat_with(bob)
    alices = tab(own_server).enter(alice).open("Bob")
    alices.is_connected()
    alices.page.route("**/api/v1/messages", lose_response)
    alices.write("Kept for later")
    assert alices.page.evaluate("sessionStorage.length") == 1
    with alices.page.expect_response("**/api/v1/messages"):
        alices.page.reload()
        alices.page.unroute("**/api/v1/messages")
    alices.sees("Kept for later", "sent")
    assert alice.history(chat) == ["Kept for later"]


def test_deaf_socket_is_replaced(tab: MakeTab, alice: Account, bob: Account) -> None:
    """C3: the client reopens a socket that does not deliver an own message within 2 s of the response."""
    chat = alice.chat_with(bob)
    alices = tab()
    opened = []

    def deaf_at_first(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()
        opened.append(socket)
        if len(opened) == 1:
            server.on_message(lambda _: None)

    alices.page.route_web_socket(SOCKETS, deaf_at_first)
    alices.enter(alice).open("Bob")
    alices.is_connected()
    bob.say(chat, "Dropped by the socket")
    alices.write("Anybody there?")
    alices.sees("Anybody there?", "sent")
    alices.sees("Dropped by the socket")
    alices.wait_until(lambda: len(opened) == 2)
    bob.say(chat, "Now I hear you")
    alices.sees("Now I hear you")


@pytest.mark.parametrize("code", [1012, 4408, 4429])
def test_client_reconnects_after_a_close(tab: MakeTab, alice: Account, bob: Account, code: int) -> None:
    """After a close code that is not final, the client reconnects by itself."""
    chat = alice.chat_with(bob)
    alices = tab()
    opened: list[WebSocketRoute] = []

    def watch(socket: WebSocketRoute) -> None:
        socket.connect_to_server()
        opened.append(socket)

    alices.page.route_web_socket(SOCKETS, watch)
    alices.enter(alice).open("Bob")
    alices.is_connected()
    opened[0].close(code=code, reason="closed by the test")
    alices.wait_until(lambda: len(opened) == 2)
    alices.is_connected()
    bob.say(chat, "After the break")
    alices.sees("After the break")


def test_final_close_is_final(tab: MakeTab, alice: Account) -> None:
    """After a close code of 4500 to 4999 the client does not reconnect, says so, and offers to reload."""
    alices = tab()
    opened: list[WebSocketRoute] = []
    alices.page.route_web_socket(SOCKETS, lambda socket: opened.append(socket))  # noqa: PLW0108
    alices.enter(alice)
    alices.is_connected()
    opened[0].close(code=4500, reason="profile_unknown")
    expect(alices.page.locator(".banner")).to_contain_text("The server refused the connection.")
    expect(alices.page.get_by_role("button", name="Reload")).to_be_visible()
    expect(alices.page.locator(".shell")).to_have_attribute("data-connection", "refused")
    assert len(opened) == 1


def test_refused_token_is_renewed(tab: MakeTab, alice: Account, bob: Account) -> None:
    """After 1008 the client refreshes the token and opens a socket with the new one."""
    chat = alice.chat_with(bob)
    alices = tab()
    opened: list[WebSocketRoute] = []

    def expired_at_first(socket: WebSocketRoute) -> None:
        opened.append(socket)
        if len(opened) == 1:
            socket.close(code=1008, reason="token_expired")
        else:
            socket.connect_to_server()

    alices.page.route_web_socket(SOCKETS, expired_at_first)
    refreshes = Requests().watch(alices.page, "/auth/refresh")
    alices.enter(alice).open("Bob")
    alices.wait_until(lambda: len(opened) == 2)
    assert opened[0].url != opened[1].url
    alices.is_connected()
    bob.say(chat, "After the refresh")
    alices.sees("After the refresh")
    assert len(refreshes.headers) == 1


def test_without_sockets_messages_still_come(tab: MakeTab, alice: Account, bob: Account) -> None:
    """If no socket opens, for example behind a proxy, each try to connect fetches the missed messages."""
    chat = alice.chat_with(bob)
    alices = tab()
    alices.page.route_web_socket(SOCKETS, lambda socket: socket.close(code=1011, reason="not through here"))
    alices.enter(alice).open("Bob")
    alices.write("Can you read this?")
    alices.sees("Can you read this?", "sent")
    bob.say(chat, "I can")
    expect(alices.message("I can")).to_have_count(1, timeout=(LONGEST_PAUSE + PATIENCE) * 1000)


def test_responses_of_an_earlier_session_are_dropped(tab: MakeTab, alice: Account, bob: Account) -> None:
    """A response to a request of the previous user is not shown to the next."""
    alice.chat_with(bob)
    shared = tab().log_in(alice)
    shared.is_connected()
    held: list[Route] = []
    shared.page.route("**/api/v1/chats", lambda route: held.append(route), times=1)  # noqa: PLW0108
    with shared.page.expect_request("**/api/v1/chats"):
        shared.page.evaluate("window.dispatchEvent(new Event('online'))")  # fetches everything again
    shared.wait_until(lambda: len(held) == 1)
    shared.page.get_by_role("button", name="Log out").click()
    shared.sign_in(bob)
    secret = {"id": 999, "title": "Secret", "is_group": True, "created_at": "2024-11-04T14:00:00Z"}
    with shared.page.expect_event("requestfinished", lambda request: request == held[0].request):
        held[0].fulfill(json=[{**secret, "participants": []}])
    expect(shared.page.locator(".chats .name")).to_have_text(["Alice"])
