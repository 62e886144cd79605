"""One connection: the driver of its machines, which own no socket, no task and no clock."""

from collections.abc import Callable

import trio

from adapters.listener.asgi_http import AsgiExchange
from adapters.listener.asgi_socket import AsgiSocket
from adapters.listener.h11_request import RequestHead, SocketRequest
from adapters.listener.head_refusal import refused_by_head
from adapters.listener.heads import SOON, HeadReader
from adapters.listener.http1 import BodyPart, Http1, HttpEvent, HttpPhase, HttpSignal
from adapters.listener.inbox import AppTasks
from adapters.listener.logs import log
from adapters.listener.peer import Peer
from adapters.listener.refused_request import RefusedRequest
from adapters.listener.responses import closing_response
from adapters.listener.shared import SharedParts
from adapters.listener.tcp import TcpStream
from adapters.listener.unread import UnreadRequests
from adapters.listener.whole_exchange import WholeExchange, begin_exchange
from adapters.listener.whole_requests import PlainHead

TURN = 32
"""Steps of one connection, each a frame or a piece of a body, after which other tasks run: about 0.2 ms of
the loop's time, whereas one read of 64 KiB may hold ten thousand steps."""


class PeerConnection:
    """Serves one connection: **its reader is the only task that advances it**.

    The reader gives bytes and times to the machine in charge (`Http1`, then perhaps `WebSocket`) and performs
    what follows from its events. A connection sleeps, without a reader, before its first bytes; so does a
    WebSocket before its accept, and an adopted one. Bytes or a deadline start a reader.
    """

    __slots__ = (
        "_exchange",
        "_http",
        "_shared",
        "_socket",
        "_tasks",
        "_unread",
        "_whole",
        "peer",
    )

    def __init__(self, tcp: TcpStream, shared: SharedParts) -> None:
        self._shared = shared
        heads = HeadReader(shared.config, tcp.client)
        self._http = Http1(shared.config, heads, trio.current_time())
        self.peer = Peer(tcp, self._http, shared)
        self._unread = self.peer.requests = UnreadRequests(self._http, self.peer)
        self._tasks = AppTasks(shared, self)
        self._exchange: AsgiExchange | None = None
        """The request in progress, if it goes through ASGI,"""
        self._whole: WholeExchange | None = None
        """or if one call of the application responds to it."""
        self._socket: AsgiSocket | None = None

    # --- its life ------------------------------------------------------------------------------------------

    async def serve(self, wake_up: Callable[[], None]) -> bool:
        """Serve the connection, and return whether it has ended; otherwise it sleeps (see `Peer.sleep`).

        At its end, wait for the application's tasks. Raises only for a fault of the listener, which the
        caller must catch.
        """
        over = True
        try:
            over = await self._read()
            if not over:
                self.peer.sleep(wake_up)
        finally:
            if over:
                self._leave()
                self._unread.forget()
                await self.peer.close()
                if await self._tasks.end(self._shared.config.abandon_time):
                    log.warning("application_abandoned")
        return over

    async def _read(self) -> bool:
        """Advance the machine until the connection has ended (true) or sleeps (false)."""
        data = self.peer.take_first()
        while True:
            now = trio.current_time()
            if data is not None:
                self.peer.machine.receive(data, now)
            elif now >= self.peer.machine.deadline:
                await self._expire(now)
            await self._advance(now)
            if self.peer.over:
                return True
            if self._socket is not None and self._socket.sleeps:
                return False
            data = await self.peer.wait()

    async def _expire(self, now: float) -> None:
        """The machine's deadline has passed."""
        if self._socket is not None:
            await self._socket.expire(now)
            return
        try:
            self._http.expire()
        except RefusedRequest as refused:
            self._shared.counts.timeouts += refused.status == 408
            await self._refuse(refused)
        else:
            self.peer.finish()

    async def _advance(self, now: float) -> None:
        """Take all possible steps, in turns with other tasks; never waits for an application called by
        ASGI.
        """
        steps, peer = 0, self.peer
        try:
            while not peer.over and await self._step(now):
                steps += 1
                if steps % TURN == 0:
                    await trio.lowlevel.checkpoint()  # between two steps the state is consistent
                now = trio.current_time()
            if peer.machine.unread != self._unread.counted:
                self._unread.count(receiving=True)
        except RefusedRequest as refused:
            await self._refuse(refused)
        if self._unread.dropped and not peer.over:
            detail = "The server is receiving too much at this moment. Try again."
            await self._refuse(RefusedRequest(503, detail, code="busy", headers=SOON))

    async def _step(self, now: float) -> bool:
        """Take one step; returns whether another may be possible."""
        if self._socket is not None:
            return await self._socket.step(now)
        if self._whole is not None:
            return await self._step_whole(self._whole)
        event = self._http.next_event(now)
        if isinstance(event, PlainHead):
            return await self._choose(event, now)
        if event is not None:
            await self._handle(event)
        return event is not None

    async def _handle(self, event: HttpEvent) -> None:
        if isinstance(event, BodyPart):
            if self._exchange is not None:
                self._http.paused = not self._exchange.receive(event.data)
        elif isinstance(event, RequestHead):
            await self._begin(event)
        elif isinstance(event, SocketRequest):
            self._begin_socket(event)
        elif event is HttpSignal.OVER:
            self.peer.finish()
        elif event is HttpSignal.BODY_ENDED and self._exchange is not None:
            self._exchange.end_body()

    # --- requests ------------------------------------------------------------------------------------------

    async def _choose(self, head: PlainHead, now: float) -> bool:
        """Have one call of the application respond to a plain head, or give it to h11 and ASGI."""
        whole = begin_exchange(head, self._shared.whole_requests, self._shared.config)
        if whole is None:
            await self._handle(self._http.take_in_pieces(now))
            return True
        self._http.take_whole(head.length, now)
        self._shared.counts.requests += 1
        self._whole = whole
        return await self._step_whole(whole)

    async def _step_whole(self, whole: WholeExchange) -> bool:
        possible = await whole.step(self._http, self.peer)
        if whole.has_responded:
            self._whole = None
            if self._http.phase is HttpPhase.OVER:
                self.peer.finish()
            elif possible:
                await trio.lowlevel.checkpoint()  # pipelined requests must let other tasks run
        return possible

    async def _begin(self, request: RequestHead) -> None:
        """Call the application for a request, unless it refuses it by its head."""
        if await refused_by_head(request, self._http, self.peer):
            await self._responded()
            return
        self._shared.counts.requests += 1
        self._exchange = AsgiExchange(request, self._http, self.peer, self._responded)
        self._exchange.begin(self._tasks)

    def _begin_socket(self, request: SocketRequest) -> None:
        """Become a WebSocket, if the application accepts."""
        self._shared.counts.requests += 1
        self._socket = AsgiSocket(request, self._http, self.peer, self._tasks)
        self.peer.machine = self._socket.machine

    async def _responded(self) -> None:
        """The last message of a response has been sent; called by the application's task, too."""
        self._leave()
        if not self._http.responded(trio.current_time()):
            self.peer.abort()
        elif self._http.phase is HttpPhase.OVER:
            self.peer.finish()
        elif self._http.phase is HttpPhase.REST:
            self.peer.wake()
        else:
            self._unread.count()
            if self._http.has_input:
                self.peer.wake()
            else:
                self.peer.rearm()

    def _leave(self) -> None:
        """The application's part in the request or the socket is over."""
        if self._socket is not None:
            self._socket.close_connection()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.close()

    async def _refuse(self, refused: RefusedRequest) -> None:
        """Respond to a refused request, unless a response has started, and close the connection."""
        self._shared.counts.bad_requests += 1
        client = None if self._http.heads.client is None else self._http.heads.client[0]
        log.info("request_refused", status=refused.status, code=refused.code, client=client)
        if self._exchange is not None:
            self._exchange.log_listener_response(refused.status)
        elif self._whole is not None:
            self._whole.log_listener_response(self._http, refused.status)
        self._leave()
        headers, body = closing_response(refused)
        headers += [*self._shared.config.refusal_headers, *self._shared.hypercorn.response_headers("h11")]
        await self.peer.writer.send(self._http.refuse(refused.status, headers, body))
        self.peer.finish()

    # --- called by the inbox -------------------------------------------------------------------------------

    async def body_awaited(self) -> None:
        """The application waits for a body: send the 100 that the peer waits for."""
        if self._http.phase is HttpPhase.BODY and self._http.request.awaits_100:
            with trio.CancelScope(shield=True):
                await self.peer.writer.send(*self._http.request.continue_100())

    def inbox_has_room(self) -> None:
        """The application has received: the reader may go on."""
        if self._socket is not None:
            self._socket.resume()
        else:
            self._http.paused = self._tasks.inbox.full
            self.peer.wake()

    # --- the shutdown --------------------------------------------------------------------------------------

    @property
    def fresh(self) -> bool:
        """Whether no request has arrived yet."""
        return self._http.heads.fresh

    def drain(self) -> None:
        """The server shuts down: close after the current request, or now if idle."""
        self._http.draining = True
        self.peer.wake()

    def restart(self) -> None:
        """The server shuts down: close a WebSocket with 1012, unless the application has closed it."""
        self._http.restarting = True
        self.peer.wake()
