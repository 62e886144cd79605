"""C10, P1 and L: the scenario of two users, against a real server process, and its log."""

import json
from pathlib import Path
from typing import Any

import httpx
from attrs import define

from tests.server.clients import (
    MESSAGE_KEYS,
    PASSWORD,
    Person,
    browser,
    expect,
    is_user,
    new_key,
    open_socket,
    register,
)
from tests.server.servers import ServerProcess, process


@define
class Scenario:
    """The results of the two-user scenario."""

    server: ServerProcess
    alice: Person
    bob: Person
    frames: list[list[Any]]
    keys: list[str]


async def play(server: ServerProcess, http: httpx.AsyncClient) -> Scenario:
    """The checklist's scenario, step by step, with its own values."""
    keys = [new_key() for _ in range(5)]
    alice = await register(server, http, "Alice", key=keys[0])
    bob = await register(server, http, "Bob", key=keys[1])
    assert (alice.id, alice.user["tag"], bob.id, bob.user["tag"]) == (1, "alice", 2, "bob")
    chat = expect(await alice.ask("POST", "/chats/direct", {"user_id": 2}, key=keys[2]), 200)
    assert chat["id"] == 1
    async with alice.socket() as a, bob.socket() as b:
        body = {"chat_id": 1, "type": "text", "content": "Hello Bob!"}
        sent = expect(await alice.ask("POST", "/messages", body, key=keys[3]), 201)
        assert sent["id"] == 1
        frames = [[await a.frame(), await b.frame()]]
        await bob.send(1, "Hello Alice!", key=keys[4])
        frames.append([await a.frame(), await b.frame()])
    return Scenario(server, alice, bob, frames, keys)


async def test_c10_the_scenario(tmp_path: Path) -> None:
    """C10: both sockets receive the same event, identical to the checklist's."""
    async with process(tmp_path) as server, browser(server) as http:
        played = await play(server, http)
    ((at_alice, at_bob), (reply_at_alice, reply_at_bob)) = played.frames
    assert at_alice == at_bob
    assert at_alice.pop("data").pop("ts")
    assert at_bob == {
        "event": "message.created",
        "data": {
            "id": 1,
            "chat_id": 1,
            "author_id": 1,
            "type": "text",
            "content": "Hello Bob!",
            "payload": None,
            "ts": at_bob["data"]["ts"],
        },
    }
    assert reply_at_alice == reply_at_bob
    assert reply_at_bob["data"]["author_id"] == 2


async def test_c10_register_serves_both_kinds_of_clients(http: httpx.AsyncClient) -> None:
    """C10 and part 2: the token pair is at the root for one kind of client, under `tokens` for the other."""
    body = {"email": "alice@test.com", "password": PASSWORD, "display_name": "Alice"}
    for path, status in (("register", 201), ("login", 200)):
        response = await http.post(f"/auth/{path}", json=body if path == "register" else {**body} | {})
        if path == "login":
            response = await http.post("/auth/login", json={k: body[k] for k in ("email", "password")})
        body_shown = expect(response, status)
        is_user(body_shown["user"])
        pair = {key: body_shown[key] for key in ("access_token", "refresh_token", "token_type", "expires_in")}
        assert body_shown["tokens"] == pair
        assert set(body_shown) == {*pair, "user", "tokens"}
        assert response.headers["Cache-Control"] == "no-store"


async def test_p1_messages_appear_without_a_reload(alice: Person, bob: Person, chat: int) -> None:
    """P1: the sockets' messages, in their order, equal what a reload reads."""
    received = []
    async with bob.socket() as socket:
        for number in range(10):
            await (alice, bob)[number % 2].send(chat, str(number))
            received.append(await socket.message())
    read = expect(await bob.ask("GET", f"/messages?chat_id={chat}"), 200)
    assert [{key: message[key] for key in MESSAGE_KEYS} for message in reversed(read)] == received


async def test_l_the_log_has_the_events_and_no_secret(tmp_path: Path) -> None:
    """L: the log has the four lines with their values, and no token, password or query string."""
    async with process(tmp_path, "--log-level", "debug") as server, browser(server) as http:
        played = await play(server, http)
        alice = played.alice
        # Whatever might leak a secret: refusals, faults, a referrer, unknown paths.
        secrets = [alice.access_token, alice.refresh_token, played.bob.access_token, played.bob.refresh_token]
        referrer = {"Referer": f"http://localhost:5173/?token={alice.access_token}"}
        expect(await alice.ask("GET", "/users/search?tag=secret-tag", headers=referrer), 404)
        expect(await http.get(f"/nothing?token={alice.access_token}", headers=referrer), 404)
        wrong = {"email": "alice@test.com", "password": "wrong-password-1"}
        expect(await http.post("/auth/login", json=wrong), 401)
        expect(await http.post("/auth/login", content=b'{"password": "half-password-1'), 400)
        expect(await http.post("/auth/refresh", json={"refresh_token": "garbage-refresh"}), 401)
        async with open_socket(server, "?token=garbage-token") as socket:
            await socket.closed()
        renewed = expect(await http.post("/auth/refresh", json={"refresh_token": alice.refresh_token}), 200)
        secrets += [renewed["access_token"], renewed["refresh_token"]]
        expect(await alice.ask("POST", "/auth/logout"), 204)
        async with alice.socket() as socket:
            await socket.closed()
    lines = [json.loads(line) for line in server.log.splitlines()]
    events = [line["event"] for line in lines]
    for user_id in (1, 2):
        assert f"WebSocket connected: user_id={user_id}" in events
        assert events.count(f"Sending WebSocket event to user {user_id}: message.created") == 2
    assert "Message created: 1 in chat 1" in events
    assert "Message created: 2 in chat 1" in events
    assert events.count("Broadcasting to 2 participants") == 2
    assert not [line for line in lines if line["level"] in {"warning", "error", "critical"}]
    everything = server.log + server.output
    signatures = [token.rpartition(".")[2] for token in secrets]
    passwords = [PASSWORD, "wrong-password-1", "half-password-1", "garbage-refresh", "garbage-token"]
    for secret in (*secrets, *signatures, *passwords, *played.keys, "secret-tag", "?token", "token="):
        assert secret not in everything.replace("/ws?token=<access_token>", "")
