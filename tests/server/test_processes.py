"""The contract with users on different processes: two `messaging serve`, one database, a bus between them.

The rules are the same with either bus.
"""

import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import cycle
from typing import Any
from uuid import uuid4

import httpx
import pytest
import trio
from attrs import evolve, frozen

from adapters.checklist import running
from adapters.checklist.client import HttpClient, Response
from adapters.checklist.judging import RowVerdict
from adapters.checklist.socket_client import RecordedSocket
from adapters.runtime.messaging import SWEEP_SECONDS
from tests.bus.nats_server import NatsServer
from tests.postgresql import new_database_with_tables
from tests.server.clients import (
    MESSAGE_KEYS,
    PASSWORD,
    Person,
    browser,
    expect,
    log_in,
    new_key,
    open_socket,
    register,
)
from tests.server.fleet import Member, fleet, free_fixed_port
from tests.server.known_client import KnownClient, page_load
from tests.server.test_races import MANY, at_once

SIGNALLED = SWEEP_SECONDS - 5
"""Seconds within which a signal arrives on a busy machine. Without signals, a process finds others' commits
after `SWEEP_SECONDS`."""


ADDRESSES = os.environ.get("MESSAGING_TEST_PROCESSES", "").split()
"""Two servers that run already, on other hosts, as in scripts/two_hosts.sh; by default two are started."""


@frozen
class Elsewhere:
    address: str


@pytest.fixture(scope="module", params=["given"] if ADDRESSES else ["postgresql", "nats"])
def members(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two processes, for all tests of this module; their users have names of their own."""
    if ADDRESSES:
        yield [Elsewhere(address) for address in ADDRESSES]
        return
    directory = tmp_path_factory.mktemp("fleet")
    with new_database_with_tables("messaging_test_processes") as database:
        if request.param == "postgresql":
            with fleet(directory, database, "postgresql") as members:
                yield members
            return
        broker = NatsServer(free_fixed_port())
        trio.run(broker.start)
        try:
            with fleet(directory, database, f"nats://127.0.0.1:{broker.port}") as members:
                yield members
        finally:
            trio.run(broker.stop)


@frozen
class Two:
    """Alice on one process, Bob on another, and each of them on the other one too."""

    alice: Person
    bob: Person
    alice_there: Person
    bob_there: Person

    def side(self, number: int) -> Person:
        """Alice, on one process or the other."""
        return (self.alice, self.alice_there)[number % 2]


@pytest.fixture
async def two(members: Sequence[Member]) -> AsyncIterator[Two]:
    here, there = members
    run = uuid4().hex[:8]
    async with browser(here) as http, browser(there) as http_there:
        alice = await register(here, http, f"Alice-{run}")
        bob = await register(there, http_there, f"Bob-{run}")
        yield Two(
            alice,
            bob,
            evolve(alice, server=there, http=http_there),
            evolve(bob, server=here, http=http),
        )


# --- the whole checklist ------------------------------------------------------------------------------------


async def test_the_checklist_holds_with_alternating_processes(
    members: Sequence[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every row holds if each request and socket goes to the next process."""
    turn = cycle(member.address for member in members)
    addresses = dict.fromkeys((member.address for member in members), 0)

    class Alternating(HttpClient):
        def _turn(self) -> None:
            self.base = next(turn)
            addresses[self.base] += 1

        async def request(self, *parts: Any, **more: Any) -> Response:
            self._turn()
            return await super().request(*parts, **more)

        @asynccontextmanager
        async def socket(self, query: str, *, label: str) -> AsyncIterator[RecordedSocket]:
            self._turn()
            async with super().socket(query, label=label) as socket:
                yield socket

    monkeypatch.setattr(running, "HttpClient", Alternating)
    result = await running.run_check(running.CheckPlan(members[0].address))
    findings = {outcome.row.id: outcome.findings for outcome in result.outcomes if outcome.findings}
    assert result.holds, findings
    assert result.count(RowVerdict.NOT_JUDGED) == 0
    assert min(addresses.values()) > 20


# --- events -------------------------------------------------------------------------------------------------


async def test_c3_c10_both_sockets_receive_the_same_event(two: Two) -> None:
    """Every socket on both processes gets the same bytes in the order of the chat, from any sender."""
    chat = await two.alice.direct_chat_with(two.bob)
    async with (
        two.alice.socket() as one,
        two.alice_there.socket() as two_,
        two.bob.socket() as three,
        two.bob_there.socket() as four,
    ):
        senders = (two.alice, two.bob, two.alice_there, two.bob_there)
        sent = []
        for number in range(12):
            sent.append(await senders[number % 4].send(chat, f"Number {number}"))
            frames = [await socket.text(SIGNALLED) for socket in (one, two_, three, four)]
            assert len(set(frames)) == 1, frames
        # The same without taking turns.
        await at_once(MANY, lambda number: senders[number % 4].send(chat, f"At once {number}"))
        received = [
            [(await socket.message())["id"] for _ in range(MANY)] for socket in (one, two_, three, four)
        ]
        assert received[0] == sorted(received[0])
        assert received.count(received[0]) == 4


async def test_a_chat_created_on_one_process_is_known_on_the_other_at_once(two: Two) -> None:
    """C3: sockets that are open already receive the first message of a new chat."""
    async with two.alice.socket() as a, two.bob.socket() as b:
        chat = await two.bob.direct_chat_with(two.alice)
        sent = await two.alice.send(chat, "The first")
        assert (await a.message(SIGNALLED))["id"] == (await b.message(SIGNALLED))["id"] == sent["id"]
        group = expect(
            await two.alice.ask(
                "POST", "/chats", {"title": "Trip", "member_ids": [two.bob.id], "is_group": True}
            ),
            201,
        )
        sent = await two.bob.send(group["id"], "The second")
        assert (await a.message(SIGNALLED))["id"] == (await b.message(SIGNALLED))["id"] == sent["id"]


async def test_p1_edits_and_deletions_appear_without_a_reload(two: Two) -> None:
    """P1: a socket on one process receives what was done on the other, as a reload there reads it."""
    chat = await two.alice.direct_chat_with(two.bob)
    async with two.bob.socket() as socket:
        messages = [await two.alice.send(chat, f"Number {number}") for number in range(3)]
        expect(await two.alice.ask("PATCH", f"/messages/{messages[0]['id']}", {"content": "Edited"}), 200)
        expect(await two.alice.ask("DELETE", f"/messages/{messages[1]['id']}"), 204)
        shown = {}
        for _ in range(5):
            frame = await socket.frame(SIGNALLED)
            shown[frame["data"]["id"]] = frame["data"]
    read = expect(await two.bob.ask("GET", f"/messages?chat_id={chat}"), 200)
    stored = {message["id"]: {key: message[key] for key in MESSAGE_KEYS} for message in read}
    assert shown == stored


async def test_a_client_comes_back_on_another_process(two: Two) -> None:
    """The numbers are the log's, not a process's; so is the order of a joining and what follows it."""
    chat = await two.alice.direct_chat_with(two.bob)
    async with two.bob.full_socket() as (socket, hello):
        sent = await two.alice.send(chat, "Before")
        last = await socket.next_of("message.created", SIGNALLED)
        assert last["data"] == sent
    missed = await two.alice.send(chat, "While he was away")
    async with two.bob_there.full_socket("&resume=1") as (socket, hello_there):
        assert hello_there["log"] == hello["log"]
        await socket.ask("resume", log=hello["log"], chats={str(chat): last["sequence"]})
        assert (await socket.next_of("message.created"))["data"] == missed
        await socket.next_of("resumed")
        body = {"title": "Trip", "member_ids": [two.alice.id, two.bob.id], "is_group": True}
        group = expect(await two.alice_there.ask("POST", "/chats", body), 201)
        assert (await socket.next_of("chat.created", SIGNALLED))["chat_id"] == group["id"]
        sent = await two.alice.send(group["id"], "Hello all")
        assert (await socket.next_of("message.created", SIGNALLED))["data"] == sent


# --- races --------------------------------------------------------------------------------------------------


async def test_a_member_is_added_and_removed_on_the_other_process(
    two: Two, members: Sequence[Member]
) -> None:
    """A new member receives the group's events from their joining to their removal, and nothing later."""
    async with browser(members[1]) as http_there:
        carol = await register(members[1], http_there, f"Carol-{uuid4().hex[:8]}")
        direct = await two.alice.direct_chat_with(carol)
        created = await two.alice.ask("POST", "/chats", {"title": "Trip", "member_ids": [two.bob.id]})
        chat = expect(created, 201)["id"]
        path = f"/chats/{chat}/members"
        async with open_socket(members[1], f"?token={carol.access_token}&profile=2") as socket:
            assert (await socket.frame())["event"] == "hello"
            added = {"user_ids": [carol.id]}
            expect(await two.alice.ask("POST", path, added), 201)
            expect(await two.alice_there.ask("PATCH", f"{path}/{carol.id}", {"role": "admin"}), 200)
            await two.bob.send(chat, "to Carol, too")
            expect(await two.alice.ask("DELETE", f"{path}/{carol.id}"), 204)
            await two.alice.send(chat, "without Carol")
            await two.alice.send(direct, "the end")
            received: list[Any] = []
            while not received or received[-1]["chat_id"] != direct:
                received.append(await socket.frame())
    assert [(frame["event"], frame["sequence"]) for frame in received[:-1]] == [
        ("member.added", 2),
        ("message.created", 3),
        ("member.updated", 4),
        ("message.created", 5),
        ("member.removed", 6),
    ]
    first, joined, promoted, _, last = (frame["data"] for frame in received[:-1])
    assert (first["user"]["id"], first["chat"]["my_role"]) == (carol.id, "member")
    assert joined["content"].endswith(f" added {carol.user['display_name']}.")
    assert (promoted["role"], last["user"]["id"]) == ("admin", carol.id)


async def test_c8_direct_chat_raced_from_both_sides_on_two_processes(two: Two) -> None:
    """32 concurrent calls from both users on both processes create one chat, and all return it."""

    async def ask(number: int) -> httpx.Response:
        people = (two.alice, two.bob, two.alice_there, two.bob_there)
        me, other = people[number % 4], people[(number + 1) % 4]
        key = new_key() if number % 8 < 4 else None
        return await me.ask("POST", "/chats/direct", {"user_id": other.id}, key=key)

    responses = [expect(response, 200) for response in await at_once(MANY, ask)]
    assert all(response == responses[0] for response in responses)
    for person in (two.alice, two.bob, two.alice_there, two.bob_there):
        assert [chat["id"] for chat in expect(await person.ask("GET", "/chats"), 200)] == [responses[0]["id"]]


async def test_one_key_at_two_processes_creates_one_message(two: Two) -> None:
    """Part 5: of 32 concurrent sends with one key one is carried out, and 31 are replays with equal bytes."""
    chat = await two.alice.direct_chat_with(two.bob)
    body = {"chat_id": chat, "type": "text", "content": "once"}
    key = new_key()
    async with two.alice.socket() as a, two.bob.socket() as b:
        responses = await at_once(MANY, lambda n: two.side(n).ask("POST", "/messages", body, key=key))
        bodies = [expect(response, 201) for response in responses]
        assert all(response.content == responses[0].content for response in responses)
        assert sum("Idempotency-Replayed" in response.headers for response in responses) == MANY - 1
        fence = await two.alice_there.send(chat, "the end")
        for socket in (a, b):
            assert [(await socket.message())["id"] for _ in range(2)] == [bodies[0]["id"], fence["id"]]
    messages = expect(await two.bob.ask("GET", f"/messages?chat_id={chat}"), 200)
    assert [message["content"] for message in messages] == ["the end", "once"]


async def test_registration_raced_at_two_processes(members: Sequence[Member]) -> None:
    """One e-mail is one account: with one key all get sessions of it, without a key only the first."""
    async with browser(members[0]) as here, browser(members[1]) as there:
        for key, statuses in ((new_key(), {201: 4}), (None, {201: 1, 409: 3})):
            body = {"email": f"{uuid4().hex}@test.com", "password": PASSWORD, "display_name": "Carol"}
            headers = {} if key is None else {"Idempotency-Key": key}

            async def ask(number: int, body: Any = body, headers: Any = headers) -> httpx.Response:
                http = (here, there)[number % 2]
                return await http.post("/auth/register", json=body, headers=headers)

            responses = await at_once(4, ask)
            got = [response.status_code for response in responses]
            assert {status: got.count(status) for status in set(got)} == statuses
            assert (
                len({response.json()["user"]["id"] for response in responses if response.status_code == 201})
                == 1
            )


async def test_p2_refresh_raced_at_two_processes(two: Two) -> None:
    """Part 3: sixteen refreshes with one token, eight at once, get one successor, valid everywhere."""

    async def refresh(number: int) -> httpx.Response:
        http = two.side(number).http
        return await http.post("/auth/refresh", json={"refresh_token": two.alice.refresh_token})

    responses = [expect(response, 200) for response in await at_once(8, refresh)]
    responses += [expect(response, 200) for response in await at_once(8, refresh)]
    assert len({response["refresh_token"] for response in responses}) == 1
    for number, response in enumerate(responses):
        again = evolve(two.side(number), access_token=response["access_token"])
        expect(await again.ask("GET", "/users/me"), 200)


async def test_p2_a_reload_whose_requests_are_spread_over_processes(two: Two) -> None:
    """P2: each 401 causes a refresh at any process, with one token; the session continues."""
    chat = await two.alice.direct_chat_with(two.bob)

    @asynccontextmanager
    async def spread() -> AsyncIterator[httpx.AsyncClient]:
        """A client whose requests alternate between the processes."""
        turn = cycle((two.alice.http, two.alice_there.http))

        class Turns(httpx.AsyncClient):
            async def request(self, *parts: Any, **more: Any) -> httpx.Response:
                return await next(turn).request(*parts, **more)

            async def post(self, url: Any, **more: Any) -> httpx.Response:
                return await self.request("POST", url, **more)

        async with Turns(trust_env=False) as client:
            yield client

    async with spread() as http:
        for reload in range(1, 4):
            client = KnownClient(http, "outlived", two.alice.refresh_token)
            responses = await client.reload(page_load(chat, two.bob.id))
            assert not client.logged_out
            assert sorted(response.status_code for response in responses) == [200, 200, 200, 200, 200, 201]
            assert len(expect(await two.bob.ask("GET", f"/messages?chat_id={chat}"), 200)) == reload


# --- the end of a session -----------------------------------------------------------------------------------


async def test_a_logout_takes_effect_on_the_other_process(two: Two) -> None:
    """The session's sockets close there with 1008 and a reason, and its cached token is refused."""
    expect(await two.alice_there.ask("GET", "/users/me"), 200)
    async with two.alice_there.socket() as socket, two.bob.socket() as other:
        expect(await two.alice.ask("POST", "/auth/logout"), 204)
        with trio.fail_after(SIGNALLED):
            assert await socket.closed() == (1008, "session_revoked")
        expect(await two.alice_there.ask("GET", "/users/me"), 401, "session_revoked")
        refreshed = {"refresh_token": two.alice.refresh_token}
        expect(await two.alice_there.http.post("/auth/refresh", json=refreshed), 401)
        # Other users' sessions, and other sessions of the same user, continue.
        again = await log_in(two.alice_there.server, two.alice_there.http, two.alice.user["display_name"])
        chat = await again.direct_chat_with(two.bob)
        sent = await again.send(chat)
        assert (await other.message())["id"] == sent["id"]


async def test_a_stolen_refresh_token_ends_the_session_on_both_processes(two: Two) -> None:
    """Part 3: a token older than the previous one ends the session, and its sockets on every process."""
    pair = {"refresh_token": two.alice.refresh_token}
    for http in (two.alice.http, two.alice_there.http):
        pair = expect(await http.post("/auth/refresh", json={"refresh_token": pair["refresh_token"]}), 200)
    now = evolve(two.alice_there, access_token=pair["access_token"])
    async with now.socket() as socket:
        stolen = {"refresh_token": two.alice.refresh_token}
        expect(await two.alice.http.post("/auth/refresh", json=stolen), 401, "refresh_token_reused")
        with trio.fail_after(SIGNALLED):
            assert await socket.closed() == (1008, "session_revoked")
        expect(await now.ask("GET", "/users/me"), 401, "session_revoked")
