"""Fuzzes a live server: `python -m tests.listener.fuzz --inputs 200000`.

An input is one TCP connection: generated segments of requests, handshakes and frames, and an end. After each
the server must have ended the connection too; every thousand, a request and a WebSocket of long standing must
be answered. The inputs are Hypothesis's and the same in every run.
"""

import argparse
import socket
import struct
import sys
import time
from contextlib import suppress

from attrs import define, frozen
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.listener.harness import KEY, TEXT, UPGRADE, frame
from tests.listener.server_process import server
from tests.patience import PATIENCE

CHECK_EVERY = 1_000

# --- the inputs -------------------------------------------------------------------------------------------

junk = st.binary(max_size=40)

methods = st.sampled_from(
    [b"GET", b"POST", b"HEAD", b"OPTIONS", b"CONNECT", b"PRI", b"get", b"", b"\xff", b"G T"]
)
targets = st.sampled_from(
    [
        b"/",
        b"/ws",
        b"/a?x",
        b"?x",
        b"*",
        b"http://h/a",
        b"http://[::1",
        b"h:1",
        b"/\xff",
        b"/%ff",
        b"//",
        b"/a b",
        b"",
    ]
)
versions = st.sampled_from(
    [b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.1 ", b"http/1.1", b""]
)
breaks = st.sampled_from([b"\r\n"] * 12 + [b"\n", b"\r", b"\r\n ", b"\r\r\n", b"\0\r\n"])
names = st.sampled_from(
    b"Host|Connection|Upgrade|Content-Length|Transfer-Encoding|Expect|Sec-WebSocket-Key|Sec-WebSocket-Version|"
    b"Sec-WebSocket-Protocol|Sec-WebSocket-Extensions|HTTP2-Settings|Cookie|X|X |:authority|".split(b"|")
)
values = st.one_of(
    st.sampled_from(
        b"test|close|keep-alive, Upgrade|upgrade|websocket|h2c|0|3|3, 3|-1|+3|1e3|99999999999|chunked|"
        b"gzip, chunked|\x0bchunked|100-continue|13|8|permessage-deflate; client_max_window_bits|"
        b"a, b|a/b|[::1]:8".split(b"|")
    ),
    st.just(KEY),
    junk,
)
fields = st.tuples(names, values).map(lambda field: field[0] + b": " + field[1])
chunks = st.sampled_from(
    [
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
        b"0\r\nX: y\r\n\r\n",
        b"fffffff\r\n",
        b"3;a=b\nabc",
        b"-1\r\n",
        b"3\r\nabcd",
    ]
)
bodies = st.one_of(st.just(b""), st.just(b"abc"), junk, st.lists(chunks, max_size=4).map(b"".join))


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request, more or less."""
    parts = [b" ".join([draw(methods), draw(targets), draw(versions)])]
    if draw(st.booleans()):
        parts.append(b"Host: test")
    parts += draw(st.lists(fields, max_size=5))
    ends = [draw(breaks) if draw(st.integers(0, 3)) == 0 else b"\r\n" for _ in parts]
    head = b"".join(part + end for part, end in zip(parts, ends, strict=True))
    return head + draw(breaks) + draw(bodies)


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """A frame, more or less: any opcode, flags and declared length, masked or not, whole or not."""
    if draw(st.integers(0, 2)):
        opcode = draw(st.sampled_from([0, 1, 2, 8, 9, 10]))
        return frame(
            opcode, draw(junk), fin=bool(draw(st.integers(0, 3))), masked=bool(draw(st.integers(0, 9)))
        )
    first, second = draw(st.integers(0, 255)), draw(st.integers(0, 255))
    length = draw(
        st.sampled_from([b"", b"\x00\x05", b"\xff\xff", struct.pack("!Q", 5), struct.pack("!Q", 1 << 40)])
    )
    return bytes([first, second]) + length + draw(junk)


@st.composite
def handshakes(draw: st.DrawFn) -> bytes:
    """A WebSocket's handshake with lines added, changed or left out."""
    lines = UPGRADE.rstrip().split(b"\r\n")
    match draw(st.integers(0, 3)):
        case 1:
            del lines[draw(st.integers(0, len(lines) - 1))]
        case 2:
            at = draw(st.integers(1, len(lines) - 1))
            lines[at] = lines[at].partition(b":")[0] + b": " + draw(values)
        case 3:
            lines[1:1] = draw(st.lists(fields, max_size=3))
        case _:
            pass
    return b"\r\n".join(lines) + b"\r\n\r\n"


@frozen
class FuzzInput:
    """The bytes of one connection, and how the client ends it."""

    segments: list[bytes]
    end: str


@st.composite
def fuzz_inputs(draw: st.DrawFn) -> FuzzInput:
    match draw(st.integers(0, 5)):
        case 0:
            data = b"".join(draw(st.lists(requests(), min_size=1, max_size=3)))
        case 1 | 2 | 3:
            data = draw(handshakes()) + b"".join(draw(st.lists(frames(), max_size=6)))
        case 4:
            data = UPGRADE + b"\r\n" + b"".join(draw(st.lists(frames(), max_size=6)))
        case _:
            data = draw(st.binary(max_size=200))
    if data and draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(data) - 1))
        data = data[:at] + draw(junk) + data[at + draw(st.integers(0, 3)) :]
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=3)))
    segments = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    return FuzzInput(
        [part for part in segments if part], draw(st.sampled_from(["half-close"] * 6 + ["close", "reset"]))
    )


# --- the fire ---------------------------------------------------------------------------------------------


class FuzzFailure(AssertionError):
    """The server violated a rule."""


def play(address: tuple[str, int], fuzz_input: FuzzInput) -> None:
    """Send an input; raises `FuzzFailure` if the server does not end the connection in its turn."""
    with socket.create_connection(address, timeout=PATIENCE) as peer, suppress(ConnectionError):
        for part in fuzz_input.segments:
            peer.sendall(part)
        if fuzz_input.end == "reset":
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif fuzz_input.end == "half-close":
            peer.shutdown(socket.SHUT_WR)
            try:
                while peer.recv(65_536):
                    pass
            except TimeoutError:
                raise FuzzFailure(f"the connection does not end after {fuzz_input}") from None


class LongStandingPeer:
    """A long-standing WebSocket, and new requests: both must get responses."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._peer = socket.create_connection(address, timeout=PATIENCE)
        self._peer.sendall(UPGRADE + b"\r\n")
        self._read_until(b"\r\n\r\n")

    def check(self) -> None:
        self._peer.sendall(frame(TEXT, b"still here"))
        self._read_until(b"still here")
        with socket.create_connection(self._address, timeout=PATIENCE) as peer:
            peer.sendall(b"GET / HTTP/1.0\r\n\r\n")
            if not peer.recv(100).startswith(b"HTTP/1.1 200"):
                raise FuzzFailure("a good request gets no response")

    def close(self) -> None:
        self._peer.close()

    def _read_until(self, end: bytes) -> None:
        found = b""
        while end not in found:
            data = self._peer.recv(65_536)
            if not data:
                raise FuzzFailure("a connection of long standing has ended")
            found += data


@define
class FuzzReport:
    """The result of a run."""

    inputs: int = 0
    seconds: float = 0.0
    rss_kib_warm: int = 0
    """After the first twentieth: imports, caches and the allocator have settled."""
    rss_kib_end: int = 0
    counts: dict[str, int] | None = None


def fuzz(inputs: int) -> FuzzReport:
    """Send `inputs` generated inputs; raises `FuzzFailure` with the input that caused it."""
    report = FuzzReport()
    with server(linger_time=1.0, drain_time=5.0, ping_interval=3600.0) as served:
        witness = LongStandingPeer(served.address)

        @settings(
            max_examples=inputs,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(fuzz_inputs())
        def run(fuzz_input: FuzzInput) -> None:
            play(served.address, fuzz_input)
            report.inputs += 1
            if report.inputs % CHECK_EVERY == 0:
                witness.check()
            if report.inputs == max(inputs // 20, 1):
                report.rss_kib_warm = served.rss_kib

        began = time.monotonic()
        run()
        report.seconds = time.monotonic() - began
        witness.check()
        report.rss_kib_end = served.rss_kib
        witness.close()
    report.counts = served.counts
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000)
    report = fuzz(parser.parse_args().inputs)
    print(  # noqa: T201 - its report
        f"{report.inputs} inputs in {report.seconds:.0f} s; server alive; "
        f"RSS {report.rss_kib_warm} KiB after the first twentieth, {report.rss_kib_end} KiB at the end\n"
        f"counts: {report.counts}"
    )
    assert report.counts is not None
    sys.exit(report.counts["faults"] != 0)


if __name__ == "__main__":
    main()
