"""The inbox: what the reader puts is received, whenever it comes."""

import trio
from hypercorn.typing import ASGIReceiveEvent, HTTPDisconnectEvent, HTTPRequestEvent

from adapters.listener.inbox import Inbox

BODY: ASGIReceiveEvent = HTTPRequestEvent(type="http.request", body=b"body", more_body=False)
GONE: ASGIReceiveEvent = HTTPDisconnectEvent(type="http.disconnect")


class Prompt:
    """A peer that sends, or leaves, while it is told that it may send."""

    def __init__(self, *sent: ASGIReceiveEvent) -> None:
        self.sent = sent
        self.inbox = Inbox(self, 10, 1000)

    async def body_awaited(self) -> None:
        for event in self.sent:
            await self.inbox.put(event)
        self.sent = ()

    def state_changed(self) -> None:
        raise AssertionError("it was never full")


async def test_what_comes_while_the_peer_is_told_is_received() -> None:
    """Its body may be there before the 100 that it waits for is written."""
    peer = Prompt(BODY, GONE)
    with trio.fail_after(5):
        assert [await peer.inbox.receive(), await peer.inbox.receive()] == [BODY, GONE]
