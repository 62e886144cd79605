"""The load parses HTTP responses and WebSocket frames correctly."""

import pytest

from benchmarks.load.wire import Malformed, frame_size, pong, request, response_body, response_size, walk

RESPONSE = b"HTTP/1.1 201 Created\r\nX-Content-Length: 7\r\ncontent-length:  4\r\n\r\nbody"


def frame(size: int, *, opcode: int = 1) -> bytes:
    """A server's frame with a payload of `size` bytes."""
    if size < 126:
        head = bytes([size])
    elif size < 65_536:
        head = b"\x7e" + size.to_bytes(2)
    else:
        head = b"\x7f" + size.to_bytes(8)
    return bytes([0x80 | opcode]) + head + b"x" * size


def test_a_response_ends_after_its_content_length() -> None:
    assert response_size(RESPONSE) == len(RESPONSE)
    assert response_size(RESPONSE + b"HTTP/1.1") == len(RESPONSE)
    assert response_body(RESPONSE) == b"body"


def test_the_size_of_a_response_is_zero_until_its_head_is_complete() -> None:
    head = RESPONSE.removesuffix(b"body")
    assert {response_size(head[:end]) for end in range(len(head))} == {0}
    assert response_size(head) == len(RESPONSE)


def test_a_response_without_a_length_is_malformed() -> None:
    with pytest.raises(Malformed):
        response_size(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\ncontent-length: 4\r\n\r\n")


def test_a_request_with_a_body_has_a_content_length() -> None:
    whole = request("POST", "/a", token="t", body="ü".encode(), Idempotency_Key="k")
    head, _, body = whole.partition(b"\r\n\r\n")
    assert body == "ü".encode()
    assert head.split(b"\r\n")[0] == b"POST /a HTTP/1.1"
    assert {b"Content-Length: 2", b"Idempotency-Key: k", b"Authorization: Bearer t"} <= set(
        head.split(b"\r\n")
    )


@pytest.mark.parametrize(("size", "header"), [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)])
def test_a_frames_header_has_2_4_or_10_bytes(size: int, header: int) -> None:
    whole = frame(size)
    assert frame_size(whole, 0) == (header, len(whole))
    assert frame_size(b"x" + whole, 1) == (header, len(whole))
    assert {frame_size(whole[:end], 0) for end in range(header)} == {(0, 0)}


@pytest.mark.parametrize(
    "first", [b"\x81\x81", b"\x01\x01", b"\xc1\x01"], ids=["masked", "fragment", "reserved"]
)
def test_a_frame_that_a_server_must_not_send_is_malformed(first: bytes) -> None:
    with pytest.raises(Malformed):
        frame_size(first, 0)


def test_walk_yields_every_whole_frame_and_no_other() -> None:
    frames = [frame(3), frame(0, opcode=9), frame(300), frame(2, opcode=8)]
    data = b"".join(frames)
    assert [opcode for opcode, *_ in walk(data)] == [1, 9, 1, 8]
    assert [data[start:end] for _, start, _, end in walk(data)] == frames
    assert [end - payload for _, _, payload, end in walk(data)] == [3, 0, 300, 2]
    assert len(list(walk(data[:-1]))) == 3


def test_a_pong_is_masked_and_has_the_payload_of_the_ping() -> None:
    assert pong(b"ab") == b"\x8a\x82\x00\x00\x00\x00ab"
