"""Requests that do not take the quick path: other paths, and all requests when it is off."""

from adapters.http_api.endpoints import API
from adapters.listener import ListenerConfig
from tests.server.calls import Scene
from tests.server.clients import ORIGIN, browser, register
from tests.server.quick_path.both_ways import ID, JSON, ExactRequest, Line, bearer, get, line_to
from tests.server.servers import serving

FRAMEWORKS: dict[str, tuple[int, ExactRequest]] = {
    "HEAD of an endpoint": (200, ExactRequest("HEAD", "/health", (ID,))),
    "HEAD without a token": (401, ExactRequest("HEAD", f"{API}/users/me", (ID,))),
    "OPTIONS": (200, ExactRequest("OPTIONS", f"{API}/chats", (ID,))),
    "a preflight": (
        204,
        ExactRequest(
            "OPTIONS", f"{API}/chats", (ID, ("Origin", ORIGIN), ("Access-Control-Request-Method", "POST"))
        ),
    ),
    "an unknown path": (404, ExactRequest("GET", "/nothing", (ID,))),
    "an unknown path of the API": (404, ExactRequest("GET", f"{API}/nothing", (ID,))),
    "a slash at the end": (308, ExactRequest("GET", f"{API}/chats/", (ID,))),
    "a slash at the end of another page": (
        308,
        ExactRequest("GET", f"{API}/chats/", (ID, ("Origin", ORIGIN))),
    ),
    "a slash behind an id": (308, ExactRequest("DELETE", f"{API}/messages/1/?a=b", (ID,))),
    "two slashes at the end": (404, ExactRequest("GET", f"{API}/chats//", (ID,))),
    "a name for an id": (404, ExactRequest("GET", f"{API}/users/abc", (ID,))),
    "a number below": (404, ExactRequest("GET", f"{API}/users/-1", (ID,))),
    "dots": (404, ExactRequest("GET", f"{API}/users/..", (ID,))),
    "a tilde": (404, ExactRequest("GET", f"{API}/chats/~", (ID,))),
    "what is to come": (404, ExactRequest("GET", f"{API}/messages/search?query=x", (ID,))),
    "another's path": (405, ExactRequest("GET", f"{API}/chats/direct", (ID,))),
    "a slash after a parent": (404, ExactRequest("GET", f"{API}/users/", (ID,))),
    "two parts for a variable": (404, ExactRequest("GET", f"{API}/users/1/2", (ID,))),
    "another case": (404, ExactRequest("GET", "/HEALTH", (ID,))),
    "the wrong method": (405, ExactRequest("DELETE", f"{API}/chats", (ID,))),
    "the wrong method on a variable": (405, ExactRequest("PUT", f"{API}/messages/1", (ID,), b"{}")),
    "an unknown method": (405, ExactRequest("BREW", "/health", (ID,))),
    "the socket's path": (404, ExactRequest("GET", "/ws", (ID,))),
    "the description": (200, ExactRequest("GET", "/openapi.json", (ID,))),
    "the client": (200, ExactRequest("GET", "/", (ID,))),
    "a variable as it is declared": (404, ExactRequest("GET", f"{API}/users/%7Buser_id%7D", (ID,))),
    "a path with escapes": (200, ExactRequest("GET", "/%68ealth", (ID,))),
}


async def test_other_requests_go_through_the_framework(line: Line) -> None:
    """Only exact requests for an endpoint take the quick path."""
    responses = await line.all({name: request for name, (_, request) in FRAMEWORKS.items()}, quick=False)
    assert {name: one.status for name, one in responses.items()} == {
        name: status for name, (status, _) in FRAMEWORKS.items()
    }


async def test_a_large_body_goes_through_the_framework(line: Line, scene: Scene) -> None:
    """A body over the bound of a whole request goes through ASGI, with an equal response."""
    large = ExactRequest("POST", f"{API}/messages", (ID, JSON, bearer(scene.alice)), b" " * 70_000)
    assert (await line.both(large, quick=False)).status == 400


async def test_the_quick_path_can_be_off(quick: list[str]) -> None:
    """With `quick_path` off, no request takes it, and all get responses."""
    async with (
        serving(listener=ListenerConfig(quick_path=False)) as server,
        browser(server) as http,
        line_to(server, quick) as line,
    ):
        alice = await register(server, http, "Alice")
        assert (await line.response(get(alice, "/users/me"))).status == 200
        async with alice.socket() as socket:
            bob = await register(server, http, "Bob")
            await bob.send(await bob.direct_chat_with(alice))
            assert (await socket.frame())["event"] == "message.created"
    assert not quick
