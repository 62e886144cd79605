"""One WebSocket over wsproto: the handshake's outcome, the frames, and the exact close code and reason."""

import ssl
from collections.abc import Callable

import trio
import wsproto
from wsproto import events
from wsproto.connection import ConnectionState
from wsproto.utilities import ProtocolError

from adapters.checklist.phrases import Phrase, verbatim
from adapters.checklist.recording import SocketExchange, SocketLine

ABNORMAL = 1006
"""The code that a browser reports if it received no close frame (RFC 6455, 7.4.1)."""
FAREWELL_SECONDS = 1.0
"""How long the client waits for the server's close frame."""
Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]


class RecordedSocket:
    """A socket that `run` drives in its own task; it records what the server does, and raises nothing."""

    def __init__(self, exchange: SocketExchange, now: Callable[[], float]) -> None:
        self.exchange = exchange
        self.opened = False
        self.refused: int | None = None
        """The HTTP status of a refused handshake."""
        self.failed = ""
        """The error of a handshake that was neither accepted nor refused."""
        self.closed: tuple[int, str] | None = None
        """The server's close code and reason; 1006 if the connection ended without a close frame."""
        self.frames: list[str] = []
        self._now = now
        self._scope = trio.CancelScope()
        self._changed = trio.Event()
        self._protocol = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        self._stream: Stream | None = None
        self._sending = trio.Lock()
        """Held while a frame is sent: the reading task answers pings and closes while other tasks send."""
        self._parts: list[str] = []
        self._pongs = 0

    async def run(self, host: str, port: int, netloc: str, target: str, tls: ssl.SSLContext | None) -> None:
        """Connect, send the handshake, and read until the socket closes."""
        with self._scope:
            try:
                self._stream = await _connect(host, port, tls)
                headers = [(name.encode(), value.encode()) for name, value in self.exchange.request_headers]
                await self._send(events.Request(host=netloc, target=target, extra_headers=headers))
                while self.closed is None and self.refused is None:
                    await self._read()
            except (OSError, trio.BrokenResourceError, ProtocolError, UnicodeError) as error:
                self._end(str(error) or type(error).__name__)
            finally:
                if self._stream is not None:
                    await trio.aclose_forcefully(self._stream)

    async def handshake(self, seconds: float) -> None:
        """Wait for the handshake's outcome."""
        await self._wait_for(lambda: self.opened or self.refused is not None or bool(self.failed), seconds)
        if not self.opened and self.refused is None and not self.failed:
            self._note("failed", f"no response within {seconds:g} s")
            self.failed = f"{seconds:g} s"

    async def receives(self, marker: str, seconds: float) -> bool:
        """Whether a frame that contains `marker` arrives in this time."""
        return await self._wait_for(
            lambda: bool(self.frames_with(marker)) or self.closed is not None, seconds
        ) and bool(self.frames_with(marker))

    def frames_with(self, marker: str) -> list[str]:
        """The received frames that contain `marker`."""
        return [frame for frame in self.frames if marker in frame]

    async def wait_closed(self, seconds: float) -> bool:
        """Whether the server closes the socket in this time."""
        return await self._wait_for(lambda: self.closed is not None, seconds)

    async def ping(self, seconds: float) -> bool:
        """Whether the server answers a ping in this time; all frames before its pong have then arrived."""
        if not self.opened or self.closed is not None:
            return False
        wanted = self._pongs + 1
        await self._send(events.Ping(payload=str(wanted).encode()))
        return (
            await self._wait_for(lambda: self._pongs >= wanted or self.closed is not None, seconds)
            and self.closed is None
        )

    @property
    def outcome(self) -> Phrase:
        """The state of the socket, for a finding."""
        if self.refused is not None:
            status = f"HTTP {self.refused}"
            return Phrase(
                f"the server refused the handshake with {status}", f"рукопожатие отклонено: {status}"
            )
        if self.failed:
            return Phrase(f"the handshake failed ({self.failed})", f"рукопожатие не удалось ({self.failed})")
        if self.closed is None:
            return Phrase("the socket is open", "сокет открыт")
        code, reason = self.closed
        close = f"{code}{f' ({reason})' if reason else ''}"
        return Phrase("the server closed the socket with ", "сервер закрыл сокет с кодом ") + verbatim(close)

    async def aclose(self) -> None:
        """Close the socket with 1000, wait for the server's close frame, and cut the connection."""
        if self.opened and self.closed is None:
            with trio.move_on_after(FAREWELL_SECONDS):
                await self._send(events.CloseConnection(code=1000))
                await self._wait_for(lambda: self.closed is not None, FAREWELL_SECONDS)
        self._scope.cancel()

    async def _wait_for(self, condition: Callable[[], bool], seconds: float) -> bool:
        with trio.move_on_after(seconds):
            while not condition():
                await self._changed.wait()
        return condition()

    async def _send(self, event: events.Event) -> None:
        async with self._sending:
            if self._stream is None or not self._may_send(event):
                return
            try:
                await self._stream.send_all(self._protocol.send(event))
            except (trio.BrokenResourceError, trio.ClosedResourceError, ProtocolError) as error:
                self._end(str(error) or type(error).__name__)

    def _may_send(self, event: events.Event) -> bool:
        """Whether the protocol allows the event: after the server's close frame, only the answer to it."""
        state = self._protocol.state
        if state is ConnectionState.REMOTE_CLOSING:
            return isinstance(event, events.CloseConnection)
        return state in {ConnectionState.CONNECTING, ConnectionState.OPEN}

    async def _read(self) -> None:
        assert self._stream is not None  # noqa: S101 - run() has connected
        data = await self._stream.receive_some(65_536)
        if not data:
            self._end("the server cut the connection")
            return
        self._protocol.receive_data(bytes(data))
        for event in self._protocol.events():
            await self._handle(event)

    async def _handle(self, event: events.Event) -> None:
        match event:
            case events.AcceptConnection():
                self.opened = True
                self._note("opened", "101")
            case events.RejectConnection(status_code=status):
                self.refused = status
                self._note("refused", f"HTTP {status}")
            case events.RejectData(data=data) if data:
                self._note("refused", bytes(data).decode(errors="replace"))
            case events.TextMessage() | events.BytesMessage():
                self._collect(event)
            case events.Ping():
                await self._send(event.response())
            case events.Pong():
                self._pongs += 1
                self._wake()
            case events.CloseConnection(code=code, reason=reason):
                if self._protocol.state is ConnectionState.REMOTE_CLOSING:
                    await self._send(event.response())
                self._close(int(code), reason or "")
            case _:
                pass

    def _collect(self, event: events.TextMessage | events.BytesMessage) -> None:
        self._parts.append(event.data if isinstance(event.data, str) else repr(bytes(event.data)))
        if event.message_finished:
            self.frames.append("".join(self._parts))
            self._parts.clear()
            self._note("frame", self.frames[-1])

    def _end(self, reason: str) -> None:
        if self.closed is not None or self.refused is not None:
            return
        if self.opened:
            self._close(ABNORMAL, reason)
        else:
            self.failed = self.failed or reason
            self._note("failed", reason)

    def _close(self, code: int, reason: str) -> None:
        if self.closed is None:
            self.closed = (code, reason)
            self._note("closed", f"{code} {reason}".strip())

    def _note(self, kind: str, text: str) -> None:
        self.exchange.lines.append(SocketLine(self._now(), kind, text))
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


async def _connect(host: str, port: int, tls: ssl.SSLContext | None) -> Stream:
    if tls is None:
        return await trio.open_tcp_stream(host, port)
    return await trio.open_ssl_over_tcp_stream(host, port, ssl_context=tls, https_compatible=True)
