"""Runs Autobahn's cases against the WebSocket's machine, without a network.

kosoku ships the case files of the Autobahn testsuite, which are Python: each calls its protocol `p` to send
frames and to be called later, and receives what arrives. Here `p` is a client that talks to our machine, in a
time of its own.
"""

import heapq
import struct
from collections import Counter, deque
from collections.abc import Callable
from itertools import count
from types import SimpleNamespace
from typing import Any

from kosoku.cases import CASES

from adapters.listener import ListenerConfig
from adapters.listener.websocket import SocketEffects, SocketEnd, SocketMessage, WebSocket
from tests.listener.autobahn import Verdict
from tests.listener.harness import CLOSE, KEY, PING, PONG, TEXT, frame


def payload_bytes(payload: str | bytes | int, size: int | None = None) -> bytes:
    """A payload of the cases, whose strings are bytes as in Python 2, repeated up to `size`."""
    if isinstance(payload, int):
        return bytes([payload])  # of bytes by an index
    data = payload if isinstance(payload, bytes) else payload.encode("latin-1")
    return data if size is None else (data * (size // max(len(data), 1) + 1))[:size]


class AutobahnClient:
    """The client of one case: Autobahn's names and ways, and our server's machine at the other end."""

    # ruff: noqa: N802, N803 - Autobahn's names
    STATE_CLOSED, STATE_CONNECTING, STATE_CLOSING, STATE_OPEN = range(4)
    CLOSE_STATUS_CODE_NORMAL = 1000
    CLOSE_STATUS_CODE_GOING_AWAY = 1001
    CLOSE_STATUS_CODE_PROTOCOL_ERROR = 1002
    CLOSE_STATUS_CODE_INVALID_PAYLOAD = 1007

    def __init__(self, message_bytes: int) -> None:
        limits = ListenerConfig(message_bytes=message_bytes)
        self._machine = WebSocket.begin(KEY, limits, 0.0)
        self._machine.accept(None, (), 0.0)
        self._case: Any = None
        self._unsent = deque[bytes]()
        """Segments for the server. It receives them after the case's call, as over a network."""
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._now = 0.0
        self.state = self.STATE_OPEN
        self.connectionWasOpen = True
        self.closedByMe = self.droppedByMe = self.wasClean = False
        self.remoteCloseCode: int | None = None
        self.localCloseReason = ""
        self.autoFragmentSize = 0
        self.createWirelog = False
        self.factory = SimpleNamespace(isServer=False)
        self.trafficStats = None
        self.txFrameStats: Counter[int] = Counter()

    def run(self, case: type) -> tuple[str, str]:
        """Play a case to its end; returns its two verdicts."""
        self._case = case(self)
        self._case.onOpen()
        self._flush()
        while self.state != self.STATE_CLOSED and self._timers:
            self._now, _, callback = heapq.heappop(self._timers)
            callback()
            self._flush()
        assert self.state == self.STATE_CLOSED, "the case waits for nothing"
        self._case.onConnectionLost(self.droppedByMe)
        return self._case.behavior, self._case.behaviorClose

    # --- what a case calls ---------------------------------------------------------------------------------

    def sendFrame(
        self,
        opcode: int,
        payload: str | bytes = "",
        *,
        fin: bool = True,
        rsv: int = 0,
        mask: None = None,
        payload_len: int | None = None,
        chopsize: int | None = None,
        sync: bool = False,
    ) -> None:
        whole = frame(opcode, payload_bytes(payload, payload_len), fin=fin, rsv=rsv)
        step = chopsize or len(whole)
        self.txFrameStats[opcode] += 1
        for start in range(0, len(whole), step):
            self._unsent.append(whole[start : start + step])

    def sendMessage(
        self, payload: str | bytes, isBinary: bool = False, fragmentSize: int | None = None, **_: Any
    ) -> None:
        data = payload_bytes(payload)
        step = fragmentSize or self.autoFragmentSize or max(len(data), 1)
        starts = range(0, max(len(data), 1), step)
        for start in starts:
            opcode = 0 if start else 1 + isBinary
            self.sendFrame(opcode, data[start : start + step], fin=start == starts[-1])

    def beginMessage(self) -> None:
        """The frames follow."""

    def beginMessageFrame(self, length: int) -> None:
        # The head and the key of a frame whose payload comes later; a key of zeros leaves it as it is.
        head = frame(TEXT, bytes(length))
        self._unsent.append(head[: len(head) - length - 4] + bytes(4))

    def sendMessageFrameData(self, payload: str | bytes | int, sync: bool = False) -> None:
        self._unsent.append(payload_bytes(payload))

    def endMessage(self) -> None:
        """Its frame is complete."""

    def sendClose(self, code: int | None = None, reason: str | None = None) -> None:
        if self.state == self.STATE_OPEN:
            self.closedByMe = True
            self.sendCloseFrame(code, None if reason is None else reason.encode())

    def sendCloseFrame(
        self, code: int | None = None, reasonUtf8: str | bytes | None = None, isReply: bool = False
    ) -> None:
        if self.state != self.STATE_OPEN:
            return
        self.state = self.STATE_CLOSING
        self.closedByMe = not isReply
        payload = b"" if code is None else struct.pack("!H", code) + payload_bytes(reasonUtf8 or b"")
        self._unsent.append(frame(CLOSE, payload))

    def killAfter(self, seconds: float) -> None:
        self.continueLater(seconds, self._drop)

    def closeAfter(self, seconds: float) -> None:
        self.continueLater(seconds, lambda: self.sendClose(self.CLOSE_STATUS_CODE_NORMAL))

    def continueLater(self, seconds: float, callback: Callable[[], None], tag: str = "") -> None:
        heapq.heappush(self._timers, (self._now + seconds, next(self._order), callback))

    def enableWirelog(self, enabled: bool) -> None:
        """No log."""

    # --- the two ends --------------------------------------------------------------------------------------

    def _flush(self) -> None:
        while self._unsent and self.state != self.STATE_CLOSED:
            self._machine.receive(self._unsent.popleft(), self._now)
            while (effects := self._machine.next_effects(self._now)) is not None:
                self._perform(effects)
                if self.state == self.STATE_CLOSED:
                    return

    def _perform(self, effects: SocketEffects) -> None:
        for effect in effects:
            if isinstance(effect, bytes):
                self._receive(effect)
            elif isinstance(effect, SocketMessage):
                self._perform(self._machine.send(effect.data))
            elif isinstance(effect, SocketEnd):
                self.state = self.STATE_CLOSED

    def _drop(self) -> None:
        if self.state != self.STATE_CLOSED:
            self.state = self.STATE_CLOSED
            self.droppedByMe = True

    def _receive(self, data: bytes) -> None:
        """Process a frame of the server; the machine gives whole ones."""
        first, size = data[0], data[1]
        payload = data[{126: 4, 127: 10}.get(size, 2) :]
        opcode, text = first & 0x0F, payload.decode("latin-1")
        if opcode in {PING, PONG}:
            (self._case.onPing if opcode == PING else self._case.onPong)(text)
        elif opcode == CLOSE:
            self._closed(payload)
        else:
            self._case.onMessage(text, opcode == 2)

    def _closed(self, payload: bytes) -> None:
        self.remoteCloseCode = struct.unpack("!H", payload[:2])[0] if payload else None
        self.wasClean = True
        if self.state == self.STATE_OPEN:
            self.sendCloseFrame(self.remoteCloseCode, isReply=True)


def run_case(case: str, *, message_bytes: int = 65_536) -> Verdict:
    """Play one case against a new machine."""
    chosen = CASES[case]
    payloads = {name: value for name, value in vars(chosen).items() if name.startswith("PAYLOAD")}
    if "µ" in "".join(map(str, payloads.values())):
        # Literals whose bytes Python 2 took from the source, which is in UTF-8.
        literals = {name: str(value).encode().decode("latin-1") for name, value in payloads.items()}
        chosen = type(chosen.__name__, (chosen,), literals)
    behavior, close = AutobahnClient(message_bytes).run(chosen)
    return Verdict(case, behavior, close)


def case_ids(*sections: str) -> list[str]:
    """The cases of these sections."""
    return [case for case in CASES if case.split(".")[0] in sections]
