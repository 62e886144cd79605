"""Acknowledged messages survive the end of the process by SIGKILL."""

import subprocess
import sys
from pathlib import Path

import pytest
import trio

from adapters.storage_sql import open_sqlite
from messaging_core.ids import ChatId, MessageId
from messaging_core.ports import Reader
from tests.storage.people import message_of

ROUNDS = 4
ACKNOWLEDGED = 300

SEND = """
import os, sys, trio
from datetime import UTC, datetime
from pathlib import Path
from adapters.storage_sql import open_sqlite
from messaging_core.effects import AdvanceChat, StoreChat, StoreMessage, StoreUser
from messaging_core.ids import ChatId, UserId
from messaging_core.models import Chat, Member, Message, MessageType, Role, User
from attrs import evolve

NOW = datetime(2024, 11, 4, tzinfo=UTC)

def prepare(tx):
    if tx.chat(ChatId(1)) is None:
        user = User(tx.next_user_id(), "a@test.com", "A", "a", None, NOW)
        tx.apply(StoreUser(user, "hash", user.email))
        members = (Member(user.id, Role.OWNER, NOW),)
        tx.apply(StoreChat(Chat(tx.next_chat_id(), "", True, NOW, members, 0, NOW, None)))

def send(tx):
    chat = tx.lock_chat(ChatId(1))
    message = Message(
        tx.next_message_id(), chat.id, UserId(1), MessageType.TEXT, "x" * 200, None, NOW, None, None, None,
        chat.sequence + 1, chat.sequence + 1
    )
    tx.apply(StoreMessage(message, chat.sequence + 1))
    tx.apply(AdvanceChat(evolve(chat, sequence=chat.sequence + 1, last_message_id=message.id)))
    return message.id

async def caller(storage):
    while True:
        message_id = await storage.transact(send)
        os.write(1, b"%d\\n" % message_id)

async def main():
    async with open_sqlite(Path(sys.argv[1])) as storage, trio.open_nursery() as nursery:
        await storage.transact(prepare)
        for _ in range(16):
            nursery.start_soon(caller, storage)

trio.run(main)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "test.db"


async def test_acknowledged_messages_survive_sigkill(path: Path) -> None:
    """After each kill under load, each acknowledged message is stored once, in a log without gaps."""
    acknowledged: list[int] = []
    for round_ in range(ROUNDS):
        acknowledged += await trio.to_thread.run_sync(kill_in_mid_stream, path, ACKNOWLEDGED + 37 * round_)
        async with open_sqlite(path) as storage:
            ids, log, sequence = await storage.read(everything)
        assert set(acknowledged) <= set(ids)
        assert ids == log
        assert sequence == len(ids)
    assert len(set(acknowledged)) == len(acknowledged)


def kill_in_mid_stream(path: Path, count: int) -> list[int]:
    """Kill a process after `count` acknowledgements; all messages that it has acknowledged."""
    with subprocess.Popen([sys.executable, "-c", SEND, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(count)]
        process.kill()
        lines += process.stdout.readlines()
    return [int(line) for line in lines if line.endswith(b"\n")]


def everything(reader: Reader) -> tuple[list[MessageId], list[MessageId | None], int]:
    chat = reader.chat(ChatId(1))
    assert chat is not None
    messages = reader.messages_after(chat.id, MessageId(0), 1_000_000)
    entries = reader.log(chat.id, 0, 1_000_000)
    assert [entry.sequence for entry in entries] == list(range(1, len(entries) + 1))
    return [message.id for message in messages], [message_of(entry) for entry in entries], chat.sequence
