"""P2: a reload keeps the user logged in."""

import httpx

from tests.server.clients import Person, expect, log_in
from tests.server.known_client import KnownClient, page_load
from tests.server.servers import ServerHere


async def test_p2_a_reload_with_an_expired_token(
    server: ServerHere, http: httpx.AsyncClient, alice: Person, bob: Person, chat: int
) -> None:
    """P2: six requests cause six refreshes with one token, and six retries, which send one message."""
    client = KnownClient(http, alice.access_token, alice.refresh_token)
    for reload in range(1, 4):
        server.clock.advance(minutes=16)
        responses = await client.reload(page_load(chat, bob.id))
        assert not client.logged_out
        assert sorted(response.status_code for response in responses) == [200, 200, 200, 200, 200, 201]
        reader = await log_in(server, http, "Bob")
        assert len(expect(await reader.ask("GET", f"/messages?chat_id={chat}"), 200)) == reload


async def test_p2_a_reload_within_a_reload(
    server: ServerHere, http: httpx.AsyncClient, alice: Person, bob: Person, chat: int
) -> None:
    """P2: after F5 while the page loads, old tokens are sent again, and the session continues."""
    server.clock.advance(minutes=16)
    first = KnownClient(http, alice.access_token, alice.refresh_token)
    await first.reload(page_load(chat, bob.id))
    server.clock.advance(seconds=10)
    second = KnownClient(http, alice.access_token, alice.refresh_token)
    responses = await second.reload(page_load(chat, bob.id))
    assert not second.logged_out
    assert {response.status_code for response in responses} == {200, 201}


async def test_p2_a_week_away(
    server: ServerHere, http: httpx.AsyncClient, alice: Person, bob: Person, chat: int
) -> None:
    """P2: a page that is reopened after a week is still logged in."""
    client = KnownClient(http, alice.access_token, alice.refresh_token)
    for _ in range(3):
        server.clock.advance(days=6, hours=23)
        await client.reload(page_load(chat, bob.id))
        assert not client.logged_out
