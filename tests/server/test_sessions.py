"""Log-in and log-out, the contents of a 401, and Idempotency-Keys."""

from typing import Any

import httpx
import jwt
import pytest
from attrs import evolve

from messaging_core.effects import StoreResponse
from messaging_core.ids import UserId
from messaging_core.models import IdempotencyKey, Resource, ResourceKind
from messaging_core.ports import OutcomeUnknown, StorageUnavailable, Transaction
from tests.server.calls import Scene
from tests.server.clients import FAULTS_EXPECTED, PASSWORD, Person, expect, log_in, new_key, register
from tests.server.servers import ServerHere

# --- log-in and log-out -------------------------------------------------------------------------------------


async def test_logout_ends_the_session_and_no_other(
    server: ServerHere, http: httpx.AsyncClient, alice: Person, chat: int
) -> None:
    """Part 2: 204; the session's sockets close with 1008, its tokens are refused, other sessions continue."""
    phone = await log_in(server, http, "Alice")
    async with alice.socket() as tab, alice.socket() as other_tab, phone.socket() as pocket:
        expect(await alice.ask("POST", "/auth/logout"), 204)
        assert await tab.closed() == (1008, "session_revoked")
        assert await other_tab.closed() == (1008, "session_revoked")
        sent = await phone.send(chat)
        assert (await pocket.message())["id"] == sent["id"]
    expect(await alice.ask("GET", "/users/me"), 401, "session_revoked")
    expect(await alice.ask("POST", "/auth/logout"), 401, "session_revoked")
    refresh = {"refresh_token": alice.refresh_token}
    expect(await http.post("/auth/refresh", json=refresh), 401, "refresh_token_invalid")
    expect(await phone.ask("GET", "/users/me"), 200)


async def test_logout_accepts_a_key_and_a_body(alice: Person) -> None:
    """Clients that send a key and `{}` with every POST get a 204 too."""
    expect(await alice.ask("POST", "/auth/logout", {}, key=new_key()), 204)


async def test_login_does_not_show_who_has_an_account(
    server: ServerHere, http: httpx.AsyncClient, alice: Person
) -> None:
    """Part 2: an unknown e-mail and a wrong password get the same response and cost the same one hash."""
    responses = []
    for email in ("alice@test.com", "nobody@test.com", "not an e-mail", ""):
        before = server.hasher.verified
        response = await http.post("/auth/login", json={"email": email, "password": "wrong-password"})
        body = expect(response, 401, "invalid_credentials")
        del body["request_id"]
        responses.append((body, response.headers["WWW-Authenticate"]))
        assert server.hasher.verified == before + 1, email
    assert all(response == responses[0] for response in responses)
    assert server.hasher.made == 1
    expect(await http.post("/auth/login", json={"email": "alice@test.com", "password": PASSWORD}), 200)


@pytest.mark.parametrize("email", ["alice@test.com", "ALICE@test.com", "Alice@TEST.COM"])
async def test_login_accepts_the_email_in_any_case(
    http: httpx.AsyncClient, alice: Person, email: str
) -> None:
    """Phones capitalise the first letter; the account is the same."""
    response = expect(await http.post("/auth/login", json={"email": email, "password": PASSWORD}), 200)
    assert response["user"] == alice.user


@pytest.mark.parametrize(
    "password", ["Password123", "password123 ", " password123", "password12", "", "é" * 64]
)
async def test_login_compares_the_password_exactly(
    http: httpx.AsyncClient, alice: Person, password: str
) -> None:
    """A password is compared as it is; a wrong one of any length is a 401, never a 422 with details."""
    body = {"email": "alice@test.com", "password": password}
    expect(await http.post("/auth/login", json=body), 401, "invalid_credentials")


@pytest.mark.parametrize("password", ["пароль из букв", "🔑" * 8, " spaces ", "line\nbreak tab\t", "x" * 128])
async def test_any_password_works(http: httpx.AsyncClient, password: str) -> None:
    """A password has 8 to 128 characters of any kind."""
    account = {"email": "a@test.com", "password": password}
    expect(await http.post("/auth/register", json={**account, "display_name": "A"}), 201)
    expect(await http.post("/auth/login", json=account), 200)


async def test_refresh_needs_only_its_token(http: httpx.AsyncClient, alice: Person) -> None:
    """Part 2: no Authorization is needed, and an expired or malformed one is ignored."""
    for authorization in ("Bearer garbage", "nonsense"):
        response = await http.post(
            "/auth/refresh",
            json={"refresh_token": alice.refresh_token},
            headers={"Authorization": authorization},
        )
        expect(response, 200)


@pytest.mark.parametrize("token", ["", "garbage", "a.b.c", "я", "\x00", "a" * 60_000])
async def test_refresh_refuses_other_strings(http: httpx.AsyncClient, token: str) -> None:
    """Part 2: any string that is not a refresh token of this server is a 401."""
    expect(await http.post("/auth/refresh", json={"refresh_token": token}), 401, "refresh_token_invalid")


async def test_tokens_have_one_purpose(http: httpx.AsyncClient, alice: Person) -> None:
    """Part 3: an access token cannot refresh, and a refresh token gives no access."""
    refresh = {"refresh_token": alice.access_token}
    expect(await http.post("/auth/refresh", json=refresh), 401, "refresh_token_invalid")
    headers = {"Authorization": f"Bearer {alice.refresh_token}"}
    expect(await http.get("/users/me", headers=headers), 401, "token_invalid")


async def test_a_token_has_one_spelling(http: httpx.AsyncClient, alice: Person) -> None:
    """A valid token with padding after one of its parts is refused."""
    for number in range(3):
        parts = alice.access_token.split(".")
        parts[number] += "="
        headers = {"Authorization": f"Bearer {'.'.join(parts)}"}
        expect(await http.get("/users/me", headers=headers), 401, "token_invalid")
    expect(await alice.ask("GET", "/users/me"), 200)


async def test_refresh_tokens_expire(server: ServerHere, http: httpx.AsyncClient, alice: Person) -> None:
    """Part 3: a session ends `refresh_ttl` after its last refresh."""
    server.clock.advance(days=31)
    refresh = {"refresh_token": alice.refresh_token}
    expect(await http.post("/auth/refresh", json=refresh), 401, "refresh_token_expired")


async def test_claims_of_an_access_token(alice: Person) -> None:
    """Part 3: `sub` is a string; `sid`, `iat`, `exp` and `typ` are present, `exp` 15 minutes after `iat`."""
    claims = jwt.decode(alice.access_token, options={"verify_signature": False})
    assert claims["sub"] == str(alice.id)
    assert {"sid", "iat", "exp", "typ"} <= set(claims)
    assert claims["exp"] - claims["iat"] == 900
    header = jwt.get_unverified_header(alice.access_token)
    assert header["alg"] == "HS256"
    assert header["kid"]


# --- contents of a 401 --------------------------------------------------------------------------------------


async def test_www_authenticate(server: ServerHere, http: httpx.AsyncClient, alice: Person) -> None:
    """RFC 6750 3: `Bearer` alone without a token, with `error="invalid_token"` for an invalid one."""
    without_token = await http.get("/chats")
    assert without_token.headers["WWW-Authenticate"] == "Bearer"
    for token in ("garbage", alice.refresh_token):
        refused = await http.get("/chats", headers={"Authorization": f"Bearer {token}"})
        assert refused.headers["WWW-Authenticate"].startswith('Bearer error="invalid_token"')
    server.clock.advance(minutes=16)
    expired = await alice.ask("GET", "/chats")
    assert expired.headers["WWW-Authenticate"].startswith('Bearer error="invalid_token"')
    login = await http.post("/auth/login", json={"email": "a@test.com", "password": PASSWORD})
    assert login.headers["WWW-Authenticate"] == "Bearer"


async def test_a_401_precedes_other_errors(http: httpx.AsyncClient) -> None:
    """Without a valid token nothing else is checked: no 400, 404, 415 or 422."""
    expect(await http.post("/messages", content=b"{"), 401, "token_missing")
    expect(await http.post("/messages", json={}), 401, "token_missing")
    expect(await http.post("/chats", content=b"x", headers={"Content-Type": "text/plain"}), 401)
    expect(await http.get("/chats/99999999999999999999"), 401, "token_missing")
    expect(await http.post("/messages", json={}, headers=[(b"Idempotency-Key", b"\xff")]), 401)


# --- Idempotency-Key ----------------------------------------------------------------------------------------


async def test_a_401_consumes_no_key(
    server: ServerHere, http: httpx.AsyncClient, alice: Person, bob: Person, chat: int
) -> None:
    """P2: after a 401 the same key is new for the retry."""
    key = new_key()
    body = {"chat_id": chat, "type": "text", "content": "after the refresh"}
    server.clock.advance(minutes=16)
    expect(await alice.ask("POST", "/messages", body, key=key), 401, "token_expired")
    again = await log_in(server, http, "Alice")
    response = await again.ask("POST", "/messages", body, key=key)
    expect(response, 201)
    assert "Idempotency-Replayed" not in response.headers


async def test_refusals_consume_no_key(alice: Person, bob: Person, chat: int) -> None:
    """Part 5: only successful responses are stored; after a refusal the key is free for a corrected body."""
    key = new_key()
    for body, status in (
        ({"chat_id": 999, "type": "text", "content": "x"}, 404),
        ({"chat_id": chat, "type": "text", "content": ""}, 422),
        ({"chat_id": chat, "type": "text"}, 422),
    ):
        expect(await alice.ask("POST", "/messages", body, key=key), status)
    sent = await alice.send(chat, "now it is right", key=key)
    assert await alice.send(chat, "now it is right", key=key) == sent


async def test_a_replay_repeats_the_response_only(alice: Person, bob: Person, chat: int) -> None:
    """Part 5: equal status and bytes, `Idempotency-Replayed: true`, and one message."""
    key = new_key()
    body = {"chat_id": chat, "type": "text", "content": "once"}
    first = await alice.ask("POST", "/messages", body, key=key)
    again = await alice.ask("POST", "/messages", body, key=key)
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["Content-Type"] == first.headers["Content-Type"]
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    assert len(expect(await bob.ask("GET", f"/messages?chat_id={chat}"), 200)) == 1


async def test_a_replay_shows_the_current_message(
    server: ServerHere, alice: Person, bob: Person, chat: int
) -> None:
    """Part 5: the stored response names the message and has no copy, so deleted content is not shown."""
    body = {"chat_id": chat, "type": "text", "content": "a text to be forgotten"}
    sent = expect(await alice.ask("POST", "/messages", body, key="send"), 201)
    path, changes = f"/messages/{sent['id']}", {"content": "another text"}
    edited = expect(await alice.ask("PATCH", path, changes, key="edit"), 200)
    assert expect(await alice.ask("POST", "/messages", body, key="send"), 201) == edited
    expect(await alice.ask("DELETE", path), 204)
    for response, status in (
        (await alice.ask("POST", "/messages", body, key="send"), 201),
        (await alice.ask("PATCH", path, changes, key="edit"), 200),
    ):
        shown = expect(response, status)
        assert (shown["content"], shown["payload"]) == (None, {"deleted": True})
        assert response.headers["Idempotency-Replayed"] == "true"
    for text in ("a text to be forgotten", "another text"):
        assert text not in repr(server.state())


@pytest.mark.parametrize("kind", [ResourceKind.MESSAGE, ResourceKind.CHAT])
@pytest.mark.parametrize("exists", [True, False])
async def test_a_replay_checks_access(
    server: ServerHere, http: httpx.AsyncClient, scene: Scene, kind: ResourceKind, exists: bool
) -> None:
    """A caller who may no longer read the resource gets the refusal of reading it, marked as a replay."""
    alice, bob, carol = scene.alice, scene.bob, await register(server, http, "Carol")
    theirs = await bob.direct_chat_with(carol)
    ids = {ResourceKind.MESSAGE: (await bob.send(theirs))["id"], ResourceKind.CHAT: theirs}
    body = {"chat_id": scene.chat, "type": "text", "content": "hello"}
    expect(await alice.ask("POST", "/messages", body, key="k"), 201)
    key = IdempotencyKey(UserId(alice.id), "POST", "/api/v1/messages", "k")

    def point_elsewhere(tx: Transaction) -> None:
        stored = tx.lock_stored_response(key)
        assert stored is not None
        tx.apply(StoreResponse(evolve(stored, resource=Resource(kind, ids[kind] if exists else 999))))

    await server.messaging._storage.transact(point_elsewhere)
    before = server.state()
    response = await alice.ask("POST", "/messages", body, key="k")
    refusal = (403, "not_a_participant") if exists else (404, f"{kind}_not_found")
    expect(response, *refusal)
    assert response.headers["Idempotency-Replayed"] == "true"
    assert server.state() == before


@pytest.mark.parametrize(
    "body",
    [
        '{"chat_id":%d,"type":"text","content":"x","payload":{"a":1,"b":[2]}}',
        ' { "payload" : {"b": [ 2 ], "a": 1}, "content": "\\u0078",\r\n"type":"text", "chat_id" : %d }',
        '{"chat_id":%d,"type":"text","content":"x","payload":{"a":1,"b":[2]},"reply_to_id":null,"unknown":3}',
    ],
)
async def test_a_key_belongs_to_a_command(
    alice: Person, bob: Person, chat: int, http: httpx.AsyncClient, body: str
) -> None:
    """Part 5: bodies with equal commands are the same request; spelling and unknown fields do not matter."""
    first = {"chat_id": chat, "type": "text", "content": "x", "payload": {"a": 1, "b": [2]}}
    sent = expect(await alice.ask("POST", "/messages", first, key="k"), 201)
    headers = {
        "Authorization": f"Bearer {alice.access_token}",
        "Idempotency-Key": "k",
        "Content-Type": "application/json",
    }
    again = await http.post("/messages", content=body % chat, headers=headers)
    assert expect(again, 201) == sent
    assert again.headers["Idempotency-Replayed"] == "true"


async def test_another_body_under_a_key(alice: Person, bob: Person, chat: int) -> None:
    """Part 5: another command under a key is a 422 `idempotency_key_reused`, and is not carried out."""
    key = new_key()
    await alice.send(chat, "one", key=key)
    body = {"chat_id": chat, "type": "text", "content": "two"}
    expect(await alice.ask("POST", "/messages", body, key=key), 422, "idempotency_key_reused")
    assert len(expect(await bob.ask("GET", f"/messages?chat_id={chat}"), 200)) == 1


async def test_keys_belong_to_a_user_and_a_path(alice: Person, bob: Person, chat: int) -> None:
    """Part 5: a key counts for one user, method and path."""
    await alice.send(chat, "hers", key="k")
    mine = await bob.send(chat, "his", key="k")
    response = await bob.ask("POST", "/chats/direct", {"user_id": alice.id}, key="k")
    assert "Idempotency-Replayed" not in response.headers
    response = await bob.ask("DELETE", f"/messages/{mine['id']}", key="k")
    assert "Idempotency-Replayed" not in response.headers
    assert len(expect(await bob.ask("GET", f"/messages?chat_id={chat}"), 200)) == 2


async def test_keys_expire_after_a_day(
    server: ServerHere, http: httpx.AsyncClient, alice: Person, bob: Person, chat: int
) -> None:
    """Part 5: a stored response expires after 24 h."""
    sent = await alice.send(chat, "x", key="k")
    server.clock.advance(hours=23, minutes=59)
    alice = await log_in(server, http, "Alice")
    assert await alice.send(chat, "x", key="k") == sent
    server.clock.advance(minutes=2)
    assert (await alice.send(chat, "x", key="k"))["id"] != sent["id"]


async def test_a_quoted_key_equals_a_bare_one(alice: Person, bob: Person, chat: int) -> None:
    """Checklist and IETF draft: a bare key, as from `uuidgen`, and the draft's quoted one are equal."""
    key = new_key()
    sent = await alice.send(chat, "once", key=key)
    assert await alice.send(chat, "once", key=f'"{key}"') == sent


@pytest.mark.parametrize("key", ["", '""', "two words", "k" * 256, "tab\tbed", "ключ".encode(), b"\xff"])
async def test_invalid_keys(server: ServerHere, alice: Person, bob: Person, chat: int, key: Any) -> None:
    """Part 5: a key has 1 to 255 visible characters; any other is a 400, and nothing is carried out."""
    body = {"chat_id": chat, "type": "text", "content": "x"}
    before = server.state()
    expect(await alice.ask("POST", "/messages", body, key=key), 400, "idempotency_key_invalid")
    assert server.state() == before


async def test_edits_and_deletions_are_replayed(alice: Person, bob: Person, chat: int) -> None:
    """Part 5: PATCH and DELETE with a key are carried out once; a replay sends no event."""
    sent = await alice.send(chat)
    path = f"/messages/{sent['id']}"
    async with bob.socket() as socket:
        first = await alice.ask("PATCH", path, {"content": "edited"}, key="edit")
        again = await alice.ask("PATCH", path, {"content": "edited"}, key="edit")
        assert (first.status_code, first.content) == (again.status_code, again.content)
        assert again.headers["Idempotency-Replayed"] == "true"
        other = await alice.ask("PATCH", path, {"content": "otherwise"}, key="edit")
        expect(other, 422, "idempotency_key_reused")
        expect(await alice.ask("DELETE", path, key="delete"), 204)
        again = await alice.ask("DELETE", path, key="delete")
        expect(again, 204)
        assert again.headers["Idempotency-Replayed"] == "true"
        expect(await alice.ask("PATCH", path, {"content": "edited"}, key="edit"), 200)
        fence = await alice.send(chat, "the end")
        frames = [await socket.frame() for _ in range(3)]
    assert [frame["event"] for frame in frames] == ["message.updated", "message.updated", "message.created"]
    assert frames[-1]["data"]["id"] == fence["id"]


async def test_groups_are_created_once(alice: Person, bob: Person) -> None:
    """Part 5: a repeated POST /chats with one key creates one group."""
    body = {"title": "Trip", "member_ids": [bob.id]}
    first = expect(await alice.ask("POST", "/chats", body, key="k"), 201)
    assert expect(await alice.ask("POST", "/chats", body, key="k"), 201) == first
    assert len(expect(await bob.ask("GET", "/chats"), 200)) == 1


async def test_a_replayed_registration_has_new_tokens(server: ServerHere, http: httpx.AsyncClient) -> None:
    """Part 5: no token is stored; the same key and body get the same user and a new valid pair."""
    key = new_key()
    first = await register(server, http, "Alice", key=key)
    again = await register(server, http, "Alice", key=key)
    assert again.user == first.user
    assert again.refresh_token != first.refresh_token
    expect(await first.ask("POST", "/auth/logout"), 204)
    expect(await again.ask("GET", "/users/me"), 200)


async def test_a_replayed_registration_needs_the_password(
    server: ServerHere, http: httpx.AsyncClient
) -> None:
    """Part 5: the key without the password gives no access to the account."""
    key = {"Idempotency-Key": new_key()}
    await register(server, http, "Alice", key=key["Idempotency-Key"])
    body = {"email": "alice@test.com", "password": "another-password", "display_name": "Alice"}
    expect(await http.post("/auth/register", json=body, headers=key), 422, "idempotency_key_reused")
    body = {"email": "mallory@test.com", "password": PASSWORD, "display_name": "Alice"}
    expect(await http.post("/auth/register", json=body, headers=key), 422, "idempotency_key_reused")


async def test_no_token_and_no_password_is_stored(
    server: ServerHere, alice: Person, bob: Person, chat: int
) -> None:
    """Part 5: no stored data have a token or a password."""
    await alice.send(chat, "hello", key=new_key())
    stored = repr(server.state())
    for secret in (PASSWORD, alice.access_token, alice.refresh_token, bob.refresh_token):
        assert secret not in stored


# --- faults of the storage ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("failure", "unchanged"), [(StorageUnavailable, True), (OutcomeUnknown, False)])
async def test_a_503_says_whether_the_outcome_is_known(
    server: ServerHere,
    alice: Person,
    monkeypatch: pytest.MonkeyPatch,
    failure: type[Exception],
    unchanged: bool,
) -> None:
    """Only if nothing was changed, the 503 says so; else it advises a retry with the key."""

    async def fail(*_: object, **__: object) -> None:
        raise failure("lost")

    monkeypatch.setattr(server.messaging._storage, "transact", fail)
    body = {"title": "Friday", "member_ids": []}
    response = await alice.ask("POST", "/chats", body, key=new_key(), extensions=FAULTS_EXPECTED)
    detail = expect(response, 503, "storage_unavailable")["detail"]
    assert ("Nothing was changed" in detail) is unchanged
    assert ("Idempotency-Key" in detail) is not unchanged


async def test_a_committed_registration_gets_its_response(
    server: ServerHere, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A committed registration gets a 201, although the storage cannot be read any more."""

    async def fail(*_: object) -> None:
        raise StorageUnavailable("lost")

    monkeypatch.setattr(server.messaging._storage, "read", fail)
    alice = await register(server, http, "Alice")
    assert alice.user["tag"] == "alice"
