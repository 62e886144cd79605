"""One WebSocket over wsproto: what the handshake came to, the frames, and the exact end."""

import ssl
from collections.abc import Callable

import trio
import wsproto
from wsproto import events
from wsproto.connection import ConnectionState
from wsproto.utilities import ProtocolError

from adapters.checklist.recording import SocketExchange, SocketLine
from adapters.checklist.words import Text, same

ABNORMAL = 1006
"""What a browser reports where there was no close frame (RFC 6455, 7.4.1)."""
FAREWELL_SECONDS = 1.0
"""How long the server has to answer our close frame."""
Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]


class Socket:
    """A socket that `run` drives in a task of its own; whatever the server does, it raises nothing."""

    def __init__(self, exchange: SocketExchange, now: Callable[[], float]) -> None:
        self.exchange = exchange
        self.opened = False
        self.refused: int | None = None
        """The HTTP status by which the handshake was refused."""
        self.failed = ""
        """Why there was no outcome of the handshake."""
        self.closed: tuple[int, str] | None = None
        """Code and reason by which the server closed it; 1006 where it only cut the connection."""
        self.frames: list[str] = []
        self._now = now
        self._scope = trio.CancelScope()
        self._changed = trio.Event()
        self._protocol = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        self._stream: Stream | None = None
        self._sending = trio.Lock()
        """Held while a frame goes out: who reads answers pings and closes, while others send."""
        self._parts: list[str] = []
        self._pongs = 0

    async def run(self, host: str, port: int, netloc: str, target: str, tls: ssl.SSLContext | None) -> None:
        """Connect, shake hands, and read until the end."""
        with self._scope:
            try:
                self._stream = await _connect(host, port, tls)
                headers = [(name.encode(), value.encode()) for name, value in self.exchange.request_headers]
                await self._send(events.Request(host=netloc, target=target, extra_headers=headers))
                while self.closed is None and self.refused is None:
                    await self._read()
            except (OSError, trio.BrokenResourceError, ProtocolError, UnicodeError) as error:
                self._ended(str(error) or type(error).__name__)
            finally:
                if self._stream is not None:
                    await trio.aclose_forcefully(self._stream)

    async def handshake(self, within: float) -> None:
        """Wait until it has come to something."""
        await self._until(lambda: self.opened or self.refused is not None or bool(self.failed), within)
        if not self.opened and self.refused is None and not self.failed:
            self._note("failed", f"no answer within {within:g} s")
            self.failed = f"{within:g} s"

    async def hears(self, marker: str, within: float) -> bool:
        """Whether a frame that holds `marker` arrives in time."""
        return await self._until(
            lambda: bool(self.with_marker(marker)) or self.closed is not None, within
        ) and bool(self.with_marker(marker))

    def with_marker(self, marker: str) -> list[str]:
        """The frames so far that hold `marker`."""
        return [frame for frame in self.frames if marker in frame]

    async def closes(self, within: float) -> bool:
        """Whether the server closes it in time."""
        return await self._until(lambda: self.closed is not None, within)

    async def answers(self, within: float) -> bool:
        """Whether a ping is answered in time; what the server sent before its pong has arrived by then."""
        if not self.opened or self.closed is not None:
            return False
        wanted = self._pongs + 1
        await self._send(events.Ping(payload=str(wanted).encode()))
        return (
            await self._until(lambda: self._pongs >= wanted or self.closed is not None, within)
            and self.closed is None
        )

    @property
    def outcome(self) -> Text:
        """What became of it, in a few words."""
        if self.refused is not None:
            told = f"HTTP {self.refused}"
            return Text(f"the handshake was refused with {told}", f"рукопожатие отклонено: {told}")
        if self.failed:
            return Text(f"no handshake ({self.failed})", f"рукопожатия нет ({self.failed})")
        if self.closed is None:
            return Text("it is open", "он открыт")
        code, reason = self.closed
        told = f"{code}{f' ({reason})' if reason else ''}"
        return Text("it was closed with ", "он закрыт с кодом ") + same(told)

    async def aclose(self) -> None:
        """Say goodbye and let go."""
        if self.opened and self.closed is None:
            with trio.move_on_after(FAREWELL_SECONDS):
                await self._send(events.CloseConnection(code=1000))
                await self._until(lambda: self.closed is not None, FAREWELL_SECONDS)
        self._scope.cancel()

    async def _until(self, condition: Callable[[], bool], within: float) -> bool:
        with trio.move_on_after(within):
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
                self._ended(str(error) or type(error).__name__)

    def _may_send(self, event: events.Event) -> bool:
        """Whether it is not too late: with a close under way, all that may still go is the answer to it."""
        state = self._protocol.state
        if state is ConnectionState.REMOTE_CLOSING:
            return isinstance(event, events.CloseConnection)
        return state in {ConnectionState.CONNECTING, ConnectionState.OPEN}

    async def _read(self) -> None:
        assert self._stream is not None  # noqa: S101 - run() has connected
        data = await self._stream.receive_some(65_536)
        if not data:
            self._ended("the connection was cut")
            return
        self._protocol.receive_data(bytes(data))
        for event in self._protocol.events():
            await self._take(event)

    async def _take(self, event: events.Event) -> None:
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

    def _ended(self, told: str) -> None:
        if self.closed is not None or self.refused is not None:
            return
        if self.opened:
            self._close(ABNORMAL, told)
        else:
            self.failed = self.failed or told
            self._note("failed", told)

    def _close(self, code: int, reason: str) -> None:
        if self.closed is None:
            self.closed = (code, reason)
            self._note("closed", f"{code} {reason}".strip())

    def _note(self, kind: str, told: str) -> None:
        self.exchange.lines.append(SocketLine(self._now(), kind, told))
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


async def _connect(host: str, port: int, tls: ssl.SSLContext | None) -> Stream:
    if tls is None:
        return await trio.open_tcp_stream(host, port)
    return await trio.open_ssl_over_tcp_stream(host, port, ssl_context=tls, https_compatible=True)
