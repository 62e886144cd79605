"""Requests that do not take the quick path: other paths, and all requests when it is off."""

from adapters.http_api.endpoints import API
from adapters.listener import ListenerConfig
from tests.server.calls import Scene
from tests.server.clients import ORIGIN, browser, register
from tests.server.quick_path.both_ways import ID, JSON, Asks, Line, bearer, get, line_to
from tests.server.servers import serving

FRAMEWORKS: dict[str, tuple[int, Asks]] = {
    "HEAD of an endpoint": (200, Asks("HEAD", "/health", (ID,))),
    "HEAD without a token": (401, Asks("HEAD", f"{API}/users/me", (ID,))),
    "OPTIONS": (200, Asks("OPTIONS", f"{API}/chats", (ID,))),
    "a preflight": (
        204,
        Asks("OPTIONS", f"{API}/chats", (ID, ("Origin", ORIGIN), ("Access-Control-Request-Method", "POST"))),
    ),
    "an unknown path": (404, Asks("GET", "/nothing", (ID,))),
    "an unknown path of the API": (404, Asks("GET", f"{API}/nothing", (ID,))),
    "a slash at the end": (308, Asks("GET", f"{API}/chats/", (ID,))),
    "a slash at the end of another page": (308, Asks("GET", f"{API}/chats/", (ID, ("Origin", ORIGIN)))),
    "a slash behind an id": (308, Asks("DELETE", f"{API}/messages/1/?a=b", (ID,))),
    "two slashes at the end": (404, Asks("GET", f"{API}/chats//", (ID,))),
    "a name for an id": (404, Asks("GET", f"{API}/users/abc", (ID,))),
    "a number below": (404, Asks("GET", f"{API}/users/-1", (ID,))),
    "dots": (404, Asks("GET", f"{API}/users/..", (ID,))),
    "a tilde": (404, Asks("GET", f"{API}/chats/~", (ID,))),
    "what is to come": (404, Asks("GET", f"{API}/messages/search?query=x", (ID,))),
    "another's path": (405, Asks("GET", f"{API}/chats/direct", (ID,))),
    "a slash after a parent": (404, Asks("GET", f"{API}/users/", (ID,))),
    "two parts for a variable": (404, Asks("GET", f"{API}/users/1/2", (ID,))),
    "another case": (404, Asks("GET", "/HEALTH", (ID,))),
    "the wrong method": (405, Asks("DELETE", f"{API}/chats", (ID,))),
    "the wrong method on a variable": (405, Asks("PUT", f"{API}/messages/1", (ID,), b"{}")),
    "an unknown method": (405, Asks("BREW", "/health", (ID,))),
    "the socket's path": (404, Asks("GET", "/ws", (ID,))),
    "the description": (200, Asks("GET", "/openapi.json", (ID,))),
    "the client": (200, Asks("GET", "/", (ID,))),
    "a variable as it is declared": (404, Asks("GET", f"{API}/users/%7Buser_id%7D", (ID,))),
    "a path with escapes": (200, Asks("GET", "/%68ealth", (ID,))),
}


async def test_other_requests_go_through_the_framework(line: Line) -> None:
    """Only exact requests for an endpoint take the quick path."""
    came = await line.all({name: asked for name, (_, asked) in FRAMEWORKS.items()}, quick=False)
    assert {name: one.status for name, one in came.items()} == {
        name: status for name, (status, _) in FRAMEWORKS.items()
    }


async def test_a_large_body_goes_through_the_framework(line: Line, scene: Scene) -> None:
    """A body over the bound of a whole request goes through ASGI, with an equal response."""
    large = Asks("POST", f"{API}/messages", (ID, JSON, bearer(scene.alice)), b" " * 70_000)
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
