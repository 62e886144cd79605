"""One HTTP request between the connection and the application."""

from time import time

import trio
from hypercorn.protocol.events import Body, EndBody, Response, StreamClosed
from hypercorn.protocol.http_stream import ASGIHTTPState, HTTPStream
from hypercorn.typing import ASGISendEvent
from hypercorn.utils import suppress_body

from adapters.listener.answers import RefusedRequest, closing_answer
from adapters.listener.logs import LoggedResponse


class HttpStream(HTTPStream):
    """Sends each message of the application completely or not at all.

    Overrides of Hypercorn 0.18: sends that the cancellation of the application's task cuts short, above all
    the last send, after which http.disconnect makes quart-trio cancel that task; sends to a disconnected
    peer, which never yield; a 500 without a body.
    """

    _sent_bytes = 0

    async def app_send(self, message: ASGISendEvent | None) -> None:
        """ASGI's `send`; None marks the application's end. A cancellation takes effect before the send
        only.
        """
        if message is None:
            with trio.CancelScope(shield=True):
                await super().app_send(None)
            return
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.closed:
            await trio.lowlevel.checkpoint()  # a tight loop of sends must let other tasks run
            return
        with trio.CancelScope(shield=True):
            if message["type"] == "http.response.body" and self.state is ASGIHTTPState.RESPONSE:
                suppressed = suppress_body(self.scope["method"], int(self.response["status"]))
                self._sent_bytes += 0 if suppressed else len(message.get("body", b""))
            await super().app_send(message)

    async def log_listener_answer(self, status: int) -> None:
        """Log a request that the listener has answered in place of the application."""
        self.state = ASGIHTTPState.CLOSED
        await self._log({"status": status, "headers": []})

    async def _send_closed(self) -> None:
        await self.send(EndBody(stream_id=self.stream_id))
        self.state = ASGIHTTPState.CLOSED
        await self._log(
            {
                "status": self.response["status"],
                "headers": self.response.get("headers", []),
                "bytes": self._sent_bytes,
            }
        )
        await self.send(StreamClosed(stream_id=self.stream_id))

    async def _send_error_response(self, status_code: int) -> None:
        headers, body = closing_answer(
            RefusedRequest(status_code, "The server failed.", code="internal_error")
        )
        await self.send(Response(stream_id=self.stream_id, headers=headers, status_code=status_code))
        if not suppress_body(self.scope["method"], status_code):
            await self.send(Body(stream_id=self.stream_id, data=body))
        await self.send(EndBody(stream_id=self.stream_id))
        self.state = ASGIHTTPState.CLOSED
        await self._log({"status": status_code, "headers": [], "bytes": len(body)})

    async def _log(self, response: LoggedResponse) -> None:
        await self.config.log.access(self.scope, response, time() - self.start_time)
