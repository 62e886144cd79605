"""What former and new members of a group read, change and replay, and what not."""

from pathlib import Path
from typing import Any

import pytest

from adapters.listener import ListenerConfig
from messaging_core import members
from messaging_core.effects import Decision
from messaging_core.ids import ChatId, UserId
from messaging_core.models import Chat
from messaging_core.ports import Transaction
from tests.server.clients import Person, browser, expect, register
from tests.server.servers import ServerHere, serving


async def remove(server: ServerHere, chat_id: int, person: Person) -> None:
    def operation(tx: Transaction) -> Decision[Chat]:
        chat = tx.lock_chat(ChatId(chat_id))
        return members.remove_member(chat, UserId(person.id), now=server.clock())

    await server.messaging.execute(operation)


async def add(server: ServerHere, chat_id: int, person: Person, *, reads_all: bool = False) -> None:
    def operation(tx: Transaction) -> Decision[Chat]:
        chat = tx.lock_chat(ChatId(chat_id))
        return members.add_member(chat, UserId(person.id), reads_all=reads_all, now=server.clock())

    await server.messaging.execute(operation)


def pages(*ids: int) -> list[str]:
    """The queries of a page without and with each kind of anchor, at each of these messages."""
    anchors = [f"&{name}={id_ + 1}" for id_ in ids for name in ("before_id", "after_id", "around_id")]
    return ["", "&limit=5", "&limit=200", "&after_id=0", *(f"&limit=5{anchor}" for anchor in anchors)]


async def contents(person: Person, chat_id: int, query: str) -> set[str]:
    found = expect(await person.ask("GET", f"/messages?chat_id={chat_id}{query}"), 200)
    return {message["content"] for message in (found["messages"] if isinstance(found, dict) else found)}


@pytest.mark.parametrize("on_disk", [False, True])
async def test_a_range_bounds_all_that_a_member_reads(on_disk: bool, tmp_path: Path) -> None:
    """A former member reads and changes nothing; one who joins again, nothing from before; replays agree."""
    settings: dict[str, Any] = {"database": f"sqlite:///{tmp_path}/test.db"} if on_disk else {}
    async with (
        serving(**settings, listener=ListenerConfig(quick_path=on_disk)) as server,
        browser(server) as http,
    ):
        alice, bob = await register(server, http, "Alice"), await register(server, http, "Bob")
        body: dict[str, Any] = {"title": "Walk", "member_ids": [bob.id]}
        group = expect(await alice.ask("POST", "/chats", body), 201)["id"]
        old = [await alice.send(group, "old"), await bob.send(group, "own", key="own")]
        body = {"chat_id": group, "type": "text", "content": "own"}
        async with bob.socket() as socket:
            await remove(server, group, bob)
            old.append(await alice.send(group, "secret"))
            ids = [message["id"] for message in old]
            for query in pages(*ids):
                expect(await bob.ask("GET", f"/messages?chat_id={group}{query}"), 403, "not_a_participant")
            expect(await bob.ask("GET", f"/chats/{group}"), 403, "not_a_participant")
            assert expect(await bob.ask("GET", "/chats"), 200) == []
            for method, change in (("PATCH", {"content": "x"}), ("DELETE", None)):
                expect(await bob.ask(method, f"/messages/{ids[1]}", change), 403, "not_a_participant")
            expect(await bob.ask("POST", "/messages", body), 403, "not_a_participant")
            replay = await bob.ask("POST", "/messages", body, key="own")
            expect(replay, 403, "not_a_participant")
            assert replay.headers["Idempotency-Replayed"] == "true"

            await add(server, group, bob)
            new = await alice.send(group, "new")
            assert (await socket.message())["content"] == "new"
            for query in pages(*ids, new["id"]):
                assert await contents(bob, group, query) <= {"new"}
            page = expect(await bob.ask("GET", f"/messages?chat_id={group}&limit=1"), 200)
            assert (page["has_more"], page["next_cursor"]) == (False, None)
            for id_ in ids:
                for method, change in (("PATCH", {"content": "x"}), ("DELETE", None)):
                    expect(await bob.ask(method, f"/messages/{id_}", change), 404, "message_not_found")
                expect(await bob.ask("POST", "/messages", {**body, "reply_to_id": id_}), 422)
            expect(await bob.ask("POST", "/messages", body, key="own"), 404, "message_not_found")
            expect(await alice.ask("PATCH", f"/messages/{ids[2]}", {"content": "secret, edited"}), 200)
            await alice.send(group, "last")
            assert (await socket.message())["content"] == "last"

        await remove(server, group, bob)
        await add(server, group, bob, reads_all=True)
        everything = {"old", "own", "secret, edited", "new", "last"}
        assert await contents(bob, group, "") == await contents(alice, group, "") == everything
        expect(await bob.ask("PATCH", f"/messages/{ids[1]}", {"content": "own, edited"}), 200)
