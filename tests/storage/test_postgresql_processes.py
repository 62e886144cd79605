"""Several processes write into one PostgreSQL database: no commit is missed, and none happens twice."""

import subprocess
import sys
from pathlib import Path

import trio

from adapters.storage_sql.postgresql.storage import open_postgresql
from messaging_core.effects import StoreUser
from messaging_core.ids import ChatId
from messaging_core.models import User
from messaging_core.ports import Transaction
from tests.storage.people import ALICE, BOB, CHAT, NOW, OTHER_CHAT, prepare, written

PROCESSES = 3
MESSAGES = 150
"""Messages of each process, by sixteen callers."""

WRITE = f"""
import sys, trio
from adapters.storage_sql.postgresql.storage import open_postgresql
from messaging_core.effects import StoreChat, StoreUser
from messaging_core.models import Chat, Member, Role, User
from tests.storage.people import ALICE, BOB, NOW, send

def open_chat(tx):
    found = tx.lock_direct_chat(BOB, carol)
    if found is None:
        members = tuple(Member(user_id, Role.MEMBER, NOW) for user_id in (BOB, carol))
        found = Chat(tx.next_chat_id(), "", False, NOW, members, 0, NOW, None)
        tx.apply(StoreChat(found))
    return found.id

async def main():
    async with open_postgresql(sys.argv[1]) as storage:
        sys.stdin.readline()
        print(await storage.transact(open_chat))
        numbers = iter(range({MESSAGES}))
        heard = []
        async def caller():
            for number in numbers:
                await storage.transact(send, committed=lambda sent: heard.append(sent[0]))
        async with trio.open_nursery() as nursery:
            for _ in range(16):
                nursery.start_soon(caller)
        assert heard == sorted(heard)
        print(len(heard))

carol = 3
trio.run(main)
"""


def prepare_carol(tx: Transaction) -> None:
    carol = User(tx.next_user_id(), "carol@test.com", "Carol", "carol", None, NOW)
    tx.apply(StoreUser(carol, "hash", carol.email))


async def test_processes_that_share_a_database(postgresql: str) -> None:
    """A reader that goes on from its last sequence gets every entry, in order; a pair has one chat."""
    last = PROCESSES * MESSAGES
    root = Path(__file__).parents[2]
    async with open_postgresql(postgresql) as storage:
        await storage.transact(prepare)
        await storage.transact(prepare_carol)
        processes = [
            subprocess.Popen(  # noqa: ASYNC220 - threads write to it and read from it
                [sys.executable, "-c", WRITE, postgresql],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=root,
                env={"PYTHONPATH": str(root)},
            )
            for _ in range(PROCESSES)
        ]

        async def follow() -> None:
            seen = 0
            while seen < last:
                entries = await storage.read(lambda reader, after=seen: reader.log(CHAT, after, 50))  # type: ignore[misc]
                assert [entry.sequence for entry in entries] == list(range(seen + 1, seen + 1 + len(entries)))
                seen += len(entries)

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for process in processes:
                    assert process.stdin is not None
                    process.stdin.write("\n")
                    process.stdin.flush()
                nursery.start_soon(follow)
                nursery.start_soon(follow)
                said = [await trio.to_thread.run_sync(process.communicate) for process in processes]
        opened = {ChatId(int(out.split()[0])) for out, _ in said}
        assert [int(out.split()[1]) for out, _ in said] == [MESSAGES] * PROCESSES
        assert len(await storage.read(written)) == last
        assert len(opened) == 1
        assert await storage.read(lambda reader: reader.positions([BOB]).keys()) == {
            CHAT,
            OTHER_CHAT,
            *opened,
        }
        assert await storage.read(lambda reader: reader.positions([ALICE]).keys()) == {CHAT, OTHER_CHAT}
