"""Measures the processor time of a client that comes back, without a network.

    python benchmarks/resuming.py [--chats 50] [--rounds 500]

A person with direct chats connects to a server over a new SQLite file and sends the numbers of all chats; the
time is that from the client's message to `resumed`, and, in brackets, with the handshake's token, `hello` and
the end of the socket. Three clients: one that missed nothing, one that missed a message in each fifth chat,
and one that knows no chat.
"""

import argparse
import json
import logging
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median

import structlog
import trio

from adapters.http_api.sockets import FULL
from adapters.http_api.wire import encode
from adapters.runtime import Hub, Messaging
from adapters.security import Argon2Hasher, JwtSigner, parse_email
from adapters.security.keyring import make_keyring
from adapters.storage_sql import open_sqlite
from messaging_core import operations
from messaging_core.commands import OpenDirectChat, RegisterUser, SendMessage
from messaging_core.ids import UserId
from messaging_core.limits import Limits
from messaging_core.models import MessageType
from messaging_core.operations import Context
from messaging_core.ports import Storage
from messaging_core.privacy import Privacy

LIMITS = Limits(sockets_per_user=10)


class Line:
    """A connection that accepts everything at once."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.resumed = trio.Event()
        self.size = 0
        self._nursery = nursery

    def offer(self, frames: bytes) -> int:
        self.size += len(frames)
        if b'{"event":"resumed"' in frames:
            self.resumed.set()
        return len(frames)

    async def write(self, frames: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.offer(frames)

    async def close(self, code: int, reason: str) -> None:
        raise ConnectionError(f"{code} {reason}")

    def start_soon(self, task: Callable[[], Awaitable[None]]) -> None:
        self._nursery.start_soon(task)


async def measure(storage: Storage, chats: int, rounds: int) -> None:
    messaging = Messaging(
        storage=storage,
        hub=Hub(LIMITS, encode),
        signer=JwtSigner(make_keyring()),
        hasher=Argon2Hasher(1),
        parse_email=parse_email,
        limits=LIMITS,
    )

    async def register(name: str) -> tuple[UserId, str]:
        command = RegisterUser(f"{name}@test.com", "password123", name)
        registered = await messaging.register(
            command, device="", network="", key=None, path="", privacy=Privacy()
        )
        signed_in = registered.result
        return signed_in.user.id, signed_in.tokens.access_token

    user_id, token = await register("alice")
    context = Context(await messaging.authenticate(token), messaging.now(), LIMITS, Privacy())
    known: dict[str, int] = {}
    for number in range(chats):
        other, _ = await register(f"person{number}")
        chat = await messaging.execute(operations.open_direct_chat(OpenDirectChat(other), context))
        for _ in range(20):
            command = SendMessage(chat.id, MessageType.TEXT, "How about lunch at one?")
            sent = await messaging.execute(operations.send_message(command, context))
            known[str(chat.id)] = sent.sequence
    late = {chat: number - (place % 5 == 0) for place, (chat, number) in enumerate(known.items())}
    clients = {"missed nothing": known, "missed a message in each fifth chat": late, "knows no chat": {}}
    print(f"user {user_id}, {chats} direct chats")
    async with trio.open_nursery() as nursery:
        for name, numbers in clients.items():
            message = json.dumps({"event": "resume", "data": {"log": storage.incarnation, "chats": numbers}})
            resumed: list[float] = []
            size = 0
            begun = time.process_time()
            for _ in range(rounds):
                line = Line(nursery)
                socket = await messaging.connect(token, FULL, resumes=True)
                socket.attach(line)
                asked = time.process_time()
                socket.receive(message)
                await line.resumed.wait()
                resumed.append(time.process_time() - asked)
                size = line.size
                socket.end()
            whole = (time.process_time() - begun) / rounds
            print(f"{name}: {median(resumed) * 1e6:.0f} us ({whole * 1e6:.0f} with the rest), {size:,} bytes")


async def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--chats", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=500)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory() as directory:
        async with open_sqlite(Path(directory) / "messaging.db") as storage:
            await measure(storage, arguments.chats, arguments.rounds)


if __name__ == "__main__":
    trio.run(main)
