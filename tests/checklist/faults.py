"""ASGI layers that give this distribution's server one fault each, over a real port."""

import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

import trio
from attrs import define, field

App = Callable[[Any, Any, Any], Awaitable[None]]
Layer = Callable[[App], App]

API = "/api/v1"


@define
class PassingResponse:
    """A request and its response on the way to the client, which a layer may change."""

    method: str
    path: str
    request_headers: dict[str, str]
    request_body: bytes
    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(factory=list)
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @json.setter
    def json(self, value: Any) -> None:
        self.body = json.dumps(value).encode()

    def header(self, name: str, value: str | None) -> None:
        """Replace a header field; None removes it."""
        self.headers = [(key, old) for key, old in self.headers if key.decode().lower() != name.lower()]
        if value is not None:
            self.headers.append((name.encode(), value.encode()))


def responses(change: Callable[[PassingResponse], None]) -> Layer:
    """A layer that calls `change` with every response."""

    def layer(app: App) -> App:
        async def layered(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                await _change_response(app, change, scope, receive, send)
            else:
                await app(scope, receive, send)

        return layered

    return layer


async def _change_response(
    app: App, change: Callable[[PassingResponse], None], scope: Any, receive: Any, send: Any
) -> None:
    headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
    passing = PassingResponse(scope["method"], scope["path"], headers, b"")

    async def receive_and_record() -> Any:
        event = await receive()
        passing.request_body += event.get("body", b"")
        return event

    async def buffer(event: Any) -> None:
        if event["type"] == "http.response.start":
            passing.status = event["status"]
            passing.headers = [(bytes(name), bytes(value)) for name, value in event["headers"]]
        elif event["type"] == "http.response.body":
            passing.body += event.get("body", b"")
            if not event.get("more_body"):
                await send_changed()

    async def send_changed() -> None:
        length = len(passing.body)
        change(passing)
        if len(passing.body) != length:
            passing.header("content-length", str(len(passing.body)))
        start = {"status": passing.status, "headers": passing.headers}
        await send({"type": "http.response.start", **start})
        await send({"type": "http.response.body", "body": passing.body, "more_body": False})

    await app(scope, receive_and_record, buffer)


def frames(change: Callable[[int, str], list[str]]) -> Layer:
    """A layer that replaces each frame to a user with the frames that `change(user_id, frame)` returns."""

    def layer(app: App) -> App:
        async def layered(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "websocket":
                await app(scope, receive, send)
                return

            async def pass_on(event: Any) -> None:
                if event["type"] != "websocket.send":
                    await send(event)
                    return
                text = event["text"] if event.get("text") is not None else event["bytes"].decode()
                for frame in change(user_of(token_of(scope)), text):
                    await send({"type": "websocket.send", "text": frame})

            # Without extensions the server sends every frame as an ASGI event, which passes here.
            await app({**scope, "extensions": {}}, receive, pass_on)

        return layered

    return layer


def requests(change: Callable[[Any, bytes], tuple[Any, bytes]]) -> Layer:
    """A layer that replaces the scope and the body of every request with what `change` returns."""

    def layer(app: App) -> App:
        async def layered(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            body, more = b"", True
            while more:
                event = await receive()
                body, more = body + event.get("body", b""), event.get("more_body", False)
            changed, body = change(scope, body)
            pending = [{"type": "http.request", "body": body, "more_body": False}]

            async def receive_changed() -> Any:
                return pending.pop() if pending else await receive()

            await app(changed, receive_changed, send)

        return layered

    return layer


def together(*layers: Layer) -> Layer:
    """The layers as one, the first innermost."""

    def layer(app: App) -> App:
        for one in layers:
            app = one(app)
        return app

    return layer


def token_of(scope: Any) -> str:
    """The token in a socket's query."""
    query: bytes = scope["query_string"]
    return parse_qs(query.decode()).get("token", [""])[0]


def user_of(token: str) -> int:
    """The id of the token's user; 0 for a token that is no JWT."""
    from adapters.checklist.accounts import claims  # noqa: PLC0415 - beside its one use

    return int((claims(token) or {}).get("sub", 0))


def author_of(frame: str) -> int:
    return int(json.loads(frame)["data"]["author_id"])


# --- sockets -----------------------------------------------------------------------------------------------


class FirstSocketsOnly:
    """Delivers to one socket of each user: a second tab opens, and receives nothing."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._users: set[int] = set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
            return
        user = user_of(token_of(scope))
        second = user in self._users
        self._users.add(user)

        async def pass_on(event: Any) -> None:
            if not second or event["type"] != "websocket.send":
                await send(event)

        try:
            await self._app({**scope, "extensions": {}}, receive, pass_on)
        finally:
            if not second:
                self._users.discard(user)


class Eavesdropping:
    """Sends every event to every open socket."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._sends: dict[int, Any] = {}
        self._seen: set[tuple[int, str]] = set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
            return

        async def pass_on(event: Any) -> None:
            if event["type"] == "websocket.accept":
                self._sends[id(scope)] = send
            if event["type"] != "websocket.send":
                await send(event)
                return
            for socket, theirs in list(self._sends.items()):
                if (socket, event["text"]) not in self._seen:
                    self._seen.add((socket, event["text"]))
                    await theirs(event)

        try:
            await self._app({**scope, "extensions": {}}, receive, pass_on)
        finally:
            self._sends.pop(id(scope), None)


class OwnHandshake:
    """Handles sockets with invalid tokens itself: sends the ASGI events `closes` instead of the app's."""

    def __init__(self, app: App, *closes: Any) -> None:
        self._closes = closes
        self._good: set[str] = set()
        self._app = responses(self._note)(app)

    def _note(self, passing: PassingResponse) -> None:
        if passing.path.startswith(f"{API}/auth/") and passing.status in {200, 201}:
            self._good.add(passing.json["access_token"])
        if passing.path == f"{API}/auth/logout":
            self._good.discard(passing.request_headers["authorization"].removeprefix("Bearer "))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket" or token_of(scope) in self._good:
            await self._app(scope, receive, send)
            return
        await receive()
        for event in self._closes:
            await send(event)
        if not self._closes or self._closes[-1]["type"] != "websocket.close":
            while (await receive())["type"] != "websocket.disconnect":
                pass


def own_handshake(*closes: Any) -> Layer:
    return lambda app: OwnHandshake(app, *closes)


ACCEPT = {"type": "websocket.accept"}


def greeting(app: App) -> App:
    """Sends a greeting frame after the handshake."""

    async def layered(scope: Any, receive: Any, send: Any) -> None:
        async def pass_on(event: Any) -> None:
            await send(event)
            if event["type"] == "websocket.accept":
                await send({"type": "websocket.send", "text": '{"event": "connected", "data": {}}'})

        await app({**scope, "extensions": {}} if scope["type"] == "websocket" else scope, receive, pass_on)

    return layered


# --- CORS --------------------------------------------------------------------------------------------------


def no_cors_on_401(passing: PassingResponse) -> None:
    if passing.status == 401:
        passing.header("access-control-allow-origin", None)


def star_with_credentials(passing: PassingResponse) -> None:
    passing.header("access-control-allow-origin", "*")


def star_for_headers(passing: PassingResponse) -> None:
    if passing.method == "OPTIONS":
        passing.header("access-control-allow-headers", "*")


def cors_twice(passing: PassingResponse) -> None:
    passing.headers.append((b"access-control-allow-origin", b"*"))


def no_vary(passing: PassingResponse) -> None:
    passing.header("vary", None)


# --- REST --------------------------------------------------------------------------------------------------


def without(key: str, *, method: str = "", path: str = "/chats") -> Callable[[PassingResponse], None]:
    """Remove a key from the objects in responses."""

    def change(passing: PassingResponse) -> None:
        fits = passing.path.startswith(f"{API}{path}") and method in {"", passing.method}
        if fits and passing.status in {200, 201}:
            body = passing.json
            for one in body if isinstance(body, list) else [body]:
                one.pop(key, None)
            passing.json = body

    return change


def wrapped_list(passing: PassingResponse) -> None:
    if passing.method == "GET" and passing.path == f"{API}/chats" and passing.status == 200:
        passing.json = {"items": passing.json}


def a_new_chat_each_time(app: App) -> App:
    """Creates a group at every call, and returns it as a direct chat."""

    def create_group(scope: Any, body: bytes) -> tuple[Any, bytes]:
        if (scope["method"], scope["path"]) != ("POST", f"{API}/chats/direct"):
            return scope, body
        group = {"title": "Direct Message", "member_ids": [json.loads(body)["user_id"]]}
        body = json.dumps(group).encode()
        headers = [(name, value) for name, value in scope["headers"] if name.lower() != b"content-length"]
        headers.append((b"content-length", str(len(body)).encode()))
        path = f"{API}/chats"
        return {**scope, "path": path, "raw_path": path.encode(), "headers": headers}, body

    def show_as_direct(passing: PassingResponse) -> None:
        if passing.path == f"{API}/chats/direct" and passing.status == 201:
            passing.status = 200
            passing.json = {**passing.json, "is_group": False}

    return responses(show_as_direct)(requests(create_group)(app))


def created_at_first(passing: PassingResponse) -> None:
    if passing.path == f"{API}/chats/direct" and passing.status == 200:
        passing.status = 201


def search_without_at(scope: Any, body: bytes) -> tuple[Any, bytes]:
    if scope["path"] == f"{API}/users/search":
        query = scope["query_string"].replace(b"%40", b"@").replace(b"@", b"at.")
        return {**scope, "query_string": query}, body
    return scope, body


def search_in_a_list(passing: PassingResponse) -> None:
    if passing.path == f"{API}/users/search" and passing.status == 200:
        passing.json = [passing.json]


def search_finds_nobody_politely(passing: PassingResponse) -> None:
    if passing.path == f"{API}/users/search" and passing.status == 404:
        passing.status, passing.body = 200, b"null"


def nobody_is_me(passing: PassingResponse) -> None:
    if passing.method == "GET" and passing.path == f"{API}/users/me":
        passing.status, passing.body = 401, b'{"detail": "Could not validate credentials"}'


def own_email_hidden(passing: PassingResponse) -> None:
    """Hide the caller's own e-mail."""
    if passing.path == f"{API}/users/me" and passing.status == 200:
        passing.json = {**passing.json, "email": None}


def everybody_is_me(passing: PassingResponse) -> None:
    if passing.path == f"{API}/users/me" and passing.status == 401:
        passing.status, passing.body = 200, b'{"id": 1}'


def oldest_first(passing: PassingResponse) -> None:
    if passing.method == "GET" and passing.path == f"{API}/messages" and passing.status == 200:
        passing.json = passing.json[::-1]


def no_tokens_at_registration(passing: PassingResponse) -> None:
    if passing.path == f"{API}/auth/register" and passing.status == 201:
        passing.json = passing.json["user"]


def no_messages(passing: PassingResponse) -> None:
    if passing.method == "POST" and passing.path == f"{API}/messages" and passing.status == 201:
        passing.status, passing.body = 500, b"Internal Server Error"


class StrictRotation:
    """Accepts each refresh token once."""

    def __init__(self, app: App) -> None:
        self._used: set[bytes] = set()
        self._app = responses(self._change)(app)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app(scope, receive, send)

    def _change(self, passing: PassingResponse) -> None:
        if passing.path == f"{API}/auth/refresh":
            if passing.request_body in self._used:
                passing.status, passing.body = 401, b'{"detail": "Refresh token reused"}'
            self._used.add(passing.request_body)


class StoredRefusals:
    """Stores the first response to each Idempotency-Key, even a 401, and repeats it."""

    def __init__(self, app: App) -> None:
        self._stored: dict[str, tuple[int, bytes]] = {}
        self._app = responses(self._change)(app)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app(scope, receive, send)

    def _change(self, passing: PassingResponse) -> None:
        key = passing.request_headers.get("idempotency-key")
        if key is not None:
            passing.status, passing.body = self._stored.setdefault(key, (passing.status, passing.body))


def late_at(path: str, wait: Callable[[], Awaitable[None]]) -> Layer:
    """Lets requests to this path wait."""

    def layer(app: App) -> App:
        async def layered(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http" and scope["path"] == f"{API}{path}":
                await wait()
            await app(scope, receive, send)

        return layered

    return layer


def nonsense(body: bytes) -> Layer:
    """Responds to every request with 200 and this body, and sends it to every socket."""

    def layer(app: App) -> App:
        async def layered(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "lifespan":
                await app(scope, receive, send)
            elif scope["type"] == "websocket":
                await receive()
                await send(ACCEPT)
                await send({"type": "websocket.send", "text": body.decode()})
                await trio.sleep_forever()
            else:
                while (await receive()).get("more_body"):
                    pass
                headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                await send({"type": "http.response.body", "body": body, "more_body": False})

        return layered

    return layer
