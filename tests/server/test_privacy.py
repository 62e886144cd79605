"""What users see of each other, over a real port, in every response that shows a user."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from attrs import frozen

from adapters.cli.settings import Hosts
from adapters.listener import ListenerConfig
from messaging_core.avatars import AvatarHosts
from messaging_core.privacy import EmailVisibility
from tests.patience import PATIENCE
from tests.server.clients import (
    PASSWORD,
    USER_KEYS,
    Person,
    browser,
    expect,
    log_in,
    new_key,
    person,
    register,
)
from tests.server.servers import ServerHere, process, serving

EVERYONE, SHARED_CHAT, SELF = EmailVisibility

each_visibility = pytest.mark.parametrize("visibility", EmailVisibility)


@frozen
class Town:
    """Alice and Bob have a chat; Carol is a stranger to both."""

    server: ServerHere
    http: httpx.AsyncClient
    alice: Person
    bob: Person
    carol: Person
    chat: int


@asynccontextmanager
async def town(**settings: Any) -> AsyncIterator[Town]:
    async with serving(**settings) as server, browser(server) as http:
        alice, bob, carol = [await register(server, http, name) for name in ("Alice", "Bob", "Carol")]
        yield Town(server, http, alice, bob, carol, await alice.direct_chat_with(bob))


def email_of(person: Person, shown: Any) -> str | None:
    """The e-mail in a view of a user, which must have all keys."""
    assert list(shown) == USER_KEYS
    assert shown["id"] == person.id
    email: str | None = shown["email"]
    assert email is None or email == f"{person.user['tag']}@test.com"
    return email


@each_visibility
async def test_the_own_email_is_always_shown(visibility: EmailVisibility) -> None:
    """Registration, its replay, log-in, `/users/me`, and the own id and tag show the own e-mail."""
    async with town(email_visibility=visibility) as here:
        alice, key = here.alice, new_key()
        body = {"email": "dave@test.com", "password": PASSWORD, "display_name": "Dave"}
        registered = await here.http.post("/auth/register", json=body, headers={"Idempotency-Key": key})
        replayed = await here.http.post("/auth/register", json=body, headers={"Idempotency-Key": key})
        for response in (registered, replayed):
            assert expect(response, 201)["user"]["email"] == "dave@test.com"
        again = await log_in(here.server, here.http, "Alice")
        assert email_of(alice, again.user)
        for path in ("/users/me", f"/users/{alice.id}", "/users/search?tag=@alice"):
            assert email_of(alice, expect(await alice.ask("GET", path), 200)), path


@each_visibility
async def test_participants_follow_the_setting(visibility: EmailVisibility) -> None:
    """In every response with a chat, the own e-mail is shown, and others' are shown or null."""
    async with town(email_visibility=visibility) as here:
        alice, bob, carol = here.alice, here.bob, here.carol
        group = {"title": "Trip", "member_ids": [bob.id, carol.id]}
        created = expect(await alice.ask("POST", "/chats", group, key=new_key()), 201)
        direct = expect(await alice.ask("POST", "/chats/direct", {"user_id": carol.id}, key=new_key()), 200)
        for viewer in (alice, carol):
            listed = expect(await viewer.ask("GET", "/chats"), 200)
            single = expect(await viewer.ask("GET", f"/chats/{created['id']}"), 200)
            assert {created["id"], direct["id"]} <= {chat["id"] for chat in listed}
            in_responses = (created, direct) if viewer is alice else ()
            for chat in (*listed, single, *in_responses):
                people = {user["id"]: user for user in chat["participants"]}
                assert len(people) >= 2
                for person in (alice, bob, carol):
                    if person.id in people:
                        is_shown = email_of(person, people[person.id]) is not None
                        assert is_shown is (person is viewer or visibility is not SELF)


@each_visibility
async def test_search_follows_the_setting(visibility: EmailVisibility) -> None:
    """Part 2: `everyone` shows strangers' e-mails in search as part 1 requires; the other values do not."""
    async with town(email_visibility=visibility) as here:
        for found, sees in ((here.bob, visibility is not SELF), (here.carol, visibility is EVERYONE)):
            path = f"/users/search?tag={found.user['tag']}"
            shown = expect(await here.alice.ask("GET", path), 200)
            assert (email_of(found, shown) is not None) is sees


@each_visibility
async def test_a_user_by_id_shows_an_email_to_acquaintances_only(visibility: EmailVisibility) -> None:
    """`GET /users/{id}` shows an e-mail only to users who share a chat, from the first shared chat on."""
    async with town(email_visibility=visibility) as here:
        alice, bob, carol = here.alice, here.bob, here.carol
        shared = visibility is not SELF
        for viewer, found, sees in ((alice, bob, shared), (bob, alice, shared), (alice, carol, False)):
            shown = expect(await viewer.ask("GET", f"/users/{found.id}"), 200)
            assert (email_of(found, shown) is not None) is sees
        expect(await carol.ask("POST", "/chats", {"title": "Trip", "member_ids": [alice.id]}), 201)
        for viewer, found in ((alice, carol), (carol, alice)):
            shown = expect(await viewer.ask("GET", f"/users/{found.id}"), 200)
            assert (email_of(found, shown) is not None) is shared


async def test_a_replay_shows_each_user_their_own_view() -> None:
    """Equal keys of two users are distinct, so no replay shows what was rendered for another user."""
    async with town(email_visibility=SELF) as here:
        key = new_key()
        for viewer, other in ((here.alice, here.bob), (here.bob, here.alice)) * 2:
            response = await viewer.ask("POST", "/chats/direct", {"user_id": other.id}, key=key)
            people = {user["id"]: user["email"] for user in expect(response, 200)["participants"]}
            assert people == {viewer.id: viewer.user["email"], other.id: None}


async def test_the_setting_is_an_option_a_variable_and_a_key(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Each of the three hides Bob's e-mail from Alice; only `everyone` causes a warning at start."""
    directory = tmp_path_factory.mktemp("server")
    config = directory / "settings.toml"
    config.write_text('email_visibility = "self"\n', encoding="utf-8")
    ways: tuple[tuple[tuple[str, ...], dict[str, str], bool], ...] = (
        ((), {}, True),
        (("--email-visibility", "self"), {}, False),
        ((), {"MESSAGING_EMAIL_VISIBILITY": "self"}, False),
        (("--config", str(config)), {}, False),
    )
    for arguments, variables, shown in ways:
        async with (
            process(directory, "--database", "memory:", *arguments, variables=variables) as running,
            browser(running) as http,
        ):
            alice, bob = [await register(running, http, name) for name in ("Alice", "Bob")]
            found = expect(await alice.ask("GET", "/users/search?tag=bob"), 200)
            assert found["email"] == (bob.user["email"] if shown else None)
        assert ("--email-visibility" in running.log + running.output) is shown


# --- avatars ---

ELSEWHERE = "https://elsewhere.example/alice.png"

POLICIES = {
    # setting: (accepts avatars of other hosts, accepts those of the server, images of the client's page)
    "any": (True, True, ["'self'", "data:", "http:", "https:"]),
    "own": (False, True, ["'self'", "data:"]),
    "none": (False, False, ["'self'", "data:"]),
    "cdn.example own": (False, True, ["'self'", "data:", "cdn.example"]),
    "elsewhere.example": (True, False, ["'self'", "data:", "elsewhere.example"]),
}


def hosts(setting: str) -> AvatarHosts:
    return Hosts().convert(setting, None, None)


def with_avatar(url: str) -> dict[str, str]:
    return {
        "email": f"{new_key()}@test.com",
        "password": PASSWORD,
        "display_name": "Alice",
        "avatar_url": url,
    }


@pytest.mark.parametrize("quick_path", [True, False], ids=["quick path", "framework"])
@pytest.mark.parametrize("setting", POLICIES)
async def test_accepted_avatars(setting: str, quick_path: bool) -> None:
    """An avatar of a host that is not allowed is a 422 with a readable message; the own host is the Host."""
    elsewhere, here, _ = POLICIES[setting]
    listener = ListenerConfig(quick_path=quick_path)
    async with serving(avatar_hosts=hosts(setting), listener=listener) as server, browser(server) as http:
        for url, accepted in ((ELSEWHERE, elsewhere), (f"{server.address}/alice.png", here)):
            before = server.state()
            response = await http.post("/auth/register", json=with_avatar(url))
            if accepted:
                assert expect(response, 201)["user"]["avatar_url"] == url
                continue
            (error,) = expect(response, 422, "validation_failed")["errors"]
            assert (error["field"], error["code"]) == ("avatar_url", "host_not_allowed")
            assert "avatar_hosts" not in error["message"]
            assert "avatar-hosts" not in error["message"]
            assert server.state() == before


async def test_an_avatar_of_a_forged_host_is_hidden() -> None:
    """A user may register with a forged Host; others see the avatar only if they call that host."""
    async with serving(avatar_hosts=hosts("own")) as server, browser(server) as http:
        forged = await http.post(
            "/auth/register", json=with_avatar(ELSEWHERE), headers={"Host": "elsewhere.example"}
        )
        user = expect(forged, 201)["user"]
        assert user["avatar_url"] == ELSEWHERE
        bob = await register(server, http, "Bob")
        shown = expect(await bob.ask("GET", f"/users/{user['id']}"), 200)
        assert shown == {**user, "email": None, "avatar_url": None}


async def test_a_stored_avatar_of_another_host_is_null(tmp_path: Path) -> None:
    """An avatar that was stored while any host was allowed is null in every view of the user, also their own.

    A replay too shows the chat as the reader may see it now.
    """
    body, key = with_avatar(ELSEWHERE), new_key()
    async with process(tmp_path, "--avatar-hosts", "any") as server, browser(server) as http:
        alice = person(server, http, expect(await http.post("/auth/register", json=body), 201))
        bob = await register(server, http, "Bob")
        opened = await bob.ask("POST", "/chats/direct", {"user_id": alice.id}, key=key)
        chat = expect(opened, 200)["id"]
        for path in ("/users/me", f"/users/{alice.id}"):
            assert expect(await alice.ask("GET", path), 200)["avatar_url"] == ELSEWHERE
    strict = ("--avatar-hosts", "own", "--email-visibility", "self")
    async with process(tmp_path, *strict) as server, browser(server) as http:
        signed_in = expect(await http.post("/auth/login", json=body), 200)
        assert signed_in["user"] == {**alice.user, "avatar_url": None}
        alice = person(server, http, signed_in)
        bob = await log_in(server, http, "Bob")
        for viewer in (alice, bob):
            tag = alice.user["tag"]
            views = [
                expect(await viewer.ask("GET", path), 200)
                for path in (f"/users/{alice.id}", f"/users/search?tag={tag}", f"/chats/{chat}", "/chats")
            ]
            users = [*views[:2], *views[2]["participants"], *views[3][0]["participants"]]
            assert [user["avatar_url"] for user in users] == [None] * 6
        again = await bob.ask("POST", "/chats/direct", {"user_id": alice.id}, key=key)
        assert again.headers["Idempotency-Replayed"] == "true"
        people = {user["id"]: user for user in expect(again, 200)["participants"]}
        assert people == {alice.id: {**alice.user, "email": None, "avatar_url": None}, bob.id: bob.user}
    async with process(tmp_path, "--avatar-hosts", "elsewhere.example") as server, browser(server) as http:
        signed_in = expect(await http.post("/auth/login", json=body), 200)
        assert signed_in["user"]["avatar_url"] == ELSEWHERE


@pytest.mark.parametrize("setting", POLICIES)
async def test_pages_load_images_of_allowed_hosts_only(setting: str) -> None:
    """The client's content policy has the hosts of the setting; the documentation's page has none."""
    *_, images = POLICIES[setting]
    async with (
        serving(avatar_hosts=hosts(setting)) as server,
        httpx.AsyncClient(base_url=server.address, timeout=PATIENCE) as http,
    ):
        for path, allowed in (("/", images), ("/docs", ["'self'", "data:"])):
            policy = (await http.get(path)).headers["Content-Security-Policy"]
            (found,) = re.findall(r"(?:^|; )img-src ([^;]+)(?:;|$)", policy)
            assert found.split() == allowed
