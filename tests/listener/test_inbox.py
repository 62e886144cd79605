"""The application receives all events that the reader puts, at any time."""

import trio
from hypercorn.typing import ASGIReceiveEvent, HTTPDisconnectEvent, HTTPRequestEvent

from adapters.listener.inbox import Inbox
from tests.patience import PATIENCE

BODY: ASGIReceiveEvent = HTTPRequestEvent(type="http.request", body=b"body", more_body=False)
GONE: ASGIReceiveEvent = HTTPDisconnectEvent(type="http.disconnect")


class PromptPeer:
    """A peer that sends, or disconnects, while the 100 is being written."""

    def __init__(self, *sent: ASGIReceiveEvent) -> None:
        self.sent = sent
        self.inbox = Inbox(self, 10, 1000)

    async def body_awaited(self) -> None:
        for event in self.sent:
            self.inbox.put(event)
        self.sent = ()

    def inbox_has_room(self) -> None:
        raise AssertionError("it was never full")


async def test_events_that_arrive_during_the_100_are_received() -> None:
    """A body may arrive before the 100 that the peer waits for is written."""
    peer = PromptPeer(BODY, GONE)
    with trio.fail_after(PATIENCE):
        assert [await peer.inbox.receive(), await peer.inbox.receive()] == [BODY, GONE]
