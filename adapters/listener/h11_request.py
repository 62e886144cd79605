"""One request through h11: its head, its body within the limits, and the framing of its response."""

from enum import Enum, auto
from typing import NamedTuple

import h11

from adapters.listener.config import ListenerConfig
from adapters.listener.head import Fields, plain_request
from adapters.listener.refused_request import NOT_WELL_FORMED, Headers, RefusedRequest
from adapters.listener.request_body import RequestBody
from adapters.listener.socket_handshake import asks_for_socket, plain_handshake
from adapters.listener.whole_requests import SEPARATE

CLOSE = (b"connection", b"close")

Pieces = tuple[bytes, bytes]
"""Bytes to send: small ones together, and a large object that is not copied."""


class RequestHead(NamedTuple):
    """A request through h11; its body follows in pieces."""

    method: bytes
    """In its own spelling: h11 frames the response to a HEAD by it."""
    target: bytes
    """In origin form, or `*`."""
    fields: Fields
    version: str


class SocketRequest(NamedTuple):
    """A WebSocket's handshake; nothing of HTTP follows but its response."""

    target: bytes
    fields: Fields
    """In the normal form of `plain_handshake`."""


class NoPiece(Enum):
    """Why there is no piece of a body."""

    INCOMPLETE = auto()
    """More bytes are needed."""
    PROCESSED = auto()
    """Bytes were processed, and more may be here."""
    END = auto()
    """The body is complete."""


class H11Request:
    """h11's machine for one request and its response.

    A new one for each request, because h11's own next cycle keeps its buffer; and its parser is created when
    it is needed first, because a handshake that is accepted needs none. All methods of a response raise h11's
    `LocalProtocolError` for a response that cannot be sent.
    """

    __slots__ = ("_body", "_head", "_held_head", "_limits", "_parser", "method")

    def __init__(self, limits: ListenerConfig) -> None:
        self._limits = limits
        self._parser: h11.Connection | None = None
        self._head = b""
        """A head that has been understood without h11; h11 must parse it to frame its response."""
        self.method = b""
        self._held_head = b""
        """A response's head, sent together with the first bytes of its body."""
        self._body: RequestBody | None = None

    # --- the request ---------------------------------------------------------------------------------------

    def parse(self, head: bytes) -> RequestHead | SocketRequest:
        """Parse and check a head. Raises `RefusedRequest`."""
        parser = self._open_parser()
        try:
            parser.receive_data(head)
            request = parser.next_event()
        except h11.RemoteProtocolError as error:
            raise _not_well_formed(error) from None
        assert isinstance(request, h11.Request)  # noqa: S101 - the head is complete
        self.method = request.method
        target, fields = plain_request(request)
        self._body = RequestBody(fields, self._limits)
        if not asks_for_socket(request.method, request.http_version, fields):
            return RequestHead(request.method, target, fields, request.http_version.decode())
        fields = plain_handshake(fields)
        if not isinstance(parser.next_event(), h11.EndOfMessage):
            raise RefusedRequest(400, "A WebSocket's handshake has no body.")
        return SocketRequest(target, fields)

    def skip(self, head: bytes) -> None:
        """Take note of a WebSocket's handshake that has been understood without h11."""
        self._head = head
        self.method = b"GET"

    def next_piece(self, received: bytearray, *, ended: bool) -> bytes | NoPiece:
        """Remove a piece of the body from the received bytes, at most one byte beyond its limit.

        Raises `RefusedRequest`.
        """
        assert self._body is not None  # noqa: S101 - a head has been parsed
        data = self._body.take(received)
        parser = self._open_parser()
        try:
            if data or ended:
                parser.receive_data(data)
            event = parser.next_event()
        except h11.RemoteProtocolError as error:
            raise _not_well_formed(error) from None
        if isinstance(event, h11.Data):
            return self._body.within(bytes(event.data))
        if isinstance(event, h11.EndOfMessage):
            received += parser.trailing_data[0]
            return NoPiece.END
        return NoPiece.PROCESSED if data else NoPiece.INCOMPLETE

    @property
    def begun(self) -> bool:
        """Whether a head has been parsed, whose body follows."""
        return self._body is not None

    @property
    def size(self) -> int:
        """Bytes of the body that have been received."""
        return 0 if self._body is None else self._body.size

    @property
    def too_large(self) -> bool:
        """Whether more bytes of the body have been received than allowed."""
        return self._body is not None and self._body.too_large

    # --- the response --------------------------------------------------------------------------------------

    @property
    def awaits_100(self) -> bool:
        """Whether the peer waits for a 100 before it sends a body that may be accepted."""
        declares_too_much = self._body is not None and self._body.declares_too_much
        return self._expects_100 and not declares_too_much and not self.response_begun

    @property
    def is_last(self) -> bool:
        """Whether the connection cannot be used after this request."""
        body = self._body
        return self._expects_100 or (body is not None and (body.too_large or body.declares_too_much))

    @property
    def response_begun(self) -> bool:
        """Whether the head of a response has been framed."""
        return self._parser is not None and self._parser.our_state not in {h11.IDLE, h11.SEND_RESPONSE}

    @property
    def response_incomplete(self) -> bool:
        """Whether a part of a begun response is missing."""
        return self._parser is not None and self._parser.our_state is h11.SEND_BODY

    @property
    def response_complete(self) -> bool:
        """Whether the response is complete, and another request may follow."""
        return self._parser is not None and self._parser.our_state is h11.DONE

    def continue_100(self) -> Pieces:
        """The informational response for which the peer waits."""
        return self.frame(h11.InformationalResponse(status_code=100, headers=[]))

    def begin_response(self, status: int, headers: Headers, more: Headers, *, last: bool) -> Pieces:
        """The head of a response, which waits for the first bytes of the body; `more` fields come last.

        After the `last` response the connection closes; its head says so.
        """
        if status < 200:
            return self.frame(h11.InformationalResponse(status_code=status, headers=[*headers, *more]))
        closing = [CLOSE] if (last or self.is_last) and CLOSE not in headers else []
        return self.frame(h11.Response(status_code=status, headers=[*headers, *closing, *more]))

    def response_part(self, data: bytes) -> Pieces:
        """A part of the response's body."""
        return self.frame(h11.Data(data=data))

    def end_response(self) -> Pieces:
        """The end of the response."""
        return self.frame(h11.EndOfMessage())

    def refusal(self, status: int, headers: Headers, body: bytes) -> bytes:
        """The whole response to a request that the listener refuses."""
        sent = [*self.frame(h11.Response(status_code=status, headers=headers))]
        if self.method != b"HEAD":
            sent += self.frame(h11.Data(data=body))
        sent += self.frame(h11.EndOfMessage())
        return b"".join(sent)

    def frame(self, event: h11.Event) -> Pieces:
        """The bytes of a part of a response; none if the peer has broken the protocol, and reads none."""
        parser = self._open_parser()
        if self._head:
            parser.receive_data(self._head)
            self._head = b""
            parser.next_event()  # the request, which has been processed already,
            parser.next_event()  # and its end
        try:
            pieces = parser.send_with_data_passthrough(event) or []
        except h11.LocalProtocolError:
            if parser.their_state is not h11.ERROR:
                raise
            return b"", b""
        if isinstance(event, h11.Response):
            self._held_head = b"".join(pieces)
            return b"", b""
        head, self._held_head = self._held_head, b""
        if isinstance(event, h11.Data) and len(event.data) > SEPARATE and event.data is pieces[-1]:
            return head + b"".join(pieces[:-1]), event.data
        return b"".join([head, *pieces]), b""

    @property
    def _expects_100(self) -> bool:
        return self._parser is not None and self._parser.they_are_waiting_for_100_continue

    def _open_parser(self) -> h11.Connection:
        if self._parser is None:
            self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=self._limits.head_bytes)
        return self._parser


def _not_well_formed(error: h11.RemoteProtocolError) -> RefusedRequest:
    """The refusal for an error of h11, whose message may quote the line, and a token in it."""
    return RefusedRequest(error.error_status_hint, NOT_WELL_FORMED)
