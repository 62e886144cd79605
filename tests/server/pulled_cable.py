"""python -m tests.server.pulled_cable INTERFACE ADDRESS ADDRESS: disconnects the second host for a while.

Its socket, which nobody has closed, must receive all messages in order once the cable is back. See
scripts/two_hosts.sh.
"""

import sys
from collections.abc import Sequence
from uuid import uuid4

import trio
from attrs import evolve, frozen

from tests.server.clients import browser, register

MESSAGES = 50
BACK_SECONDS = 90
"""Seconds within which TCP retransmits, and the host reaches its bus and its database again."""


@frozen
class Server:
    address: str


async def main(interface: str, addresses: Sequence[str]) -> None:
    here, there = map(Server, addresses)
    async with browser(here) as http, browser(there) as http_there:
        alice, bob = [await register(here, http, f"{name}-{uuid4().hex[:8]}") for name in ("Alice", "Bob")]
        chat = await alice.direct_chat_with(bob)
        bob_there = evolve(bob, server=there, http=http_there)
        async with bob_there.socket() as socket:
            for seconds in (0.5, 3.0, 12.0):
                await trio.run_process(["ip", "link", "set", interface, "down"])
                sent = []
                for _ in range(MESSAGES):
                    sent.append((await alice.send(chat))["id"])
                    await trio.sleep(seconds / MESSAGES)
                await trio.run_process(["ip", "link", "set", interface, "up"])
                began = trio.current_time()
                with trio.fail_after(BACK_SECONDS):
                    heard = [(await socket.message(BACK_SECONDS))["id"] for _ in sent]
                assert heard == sent, (heard, sent)
                took = trio.current_time() - began
                sys.stdout.write(f"cut off for {seconds:g} s: all heard, {took:.1f} s after it was back\n")
                again = await alice.send(chat)
                assert (await socket.message())["id"] == again["id"]


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2:])
