"""Checks of a request's head before and after parsing, and its normal form.

Pure functions. They check the bytes before h11 does, because h11 0.16 accepts more than is safe behind a
proxy that reads it differently: a bare LF as a line's end, obsolete folding, control characters in values.
Its size limit applies only to heads that arrive in pieces.
"""

import re
from urllib.parse import urlsplit

import h11

from adapters.listener.refused_request import RefusedRequest

END = b"\r\n\r\n"

_CONTROLS = frozenset((*range(0x20), 0x7F)) - frozenset(b"\t")
_REGULAR = bytes(byte for byte in range(256) if byte not in _CONTROLS)
_METHOD = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]")
_HOST = re.compile(rb"(?:[-A-Za-z0-9._~!$&'()*+,;=%]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_ABSOLUTE = re.compile(rb"https?://", re.IGNORECASE)

Fields = list[tuple[bytes, bytes]]


def take_head(received: bytearray, *, max_bytes: int, max_fields: int) -> bytes | None:
    """Remove and return one complete head from the received bytes, or None if its end is still missing.

    Blank lines before it are dropped (RFC 9112, 2.2). Raises `RefusedRequest` as soon as no
    continuation could make the head acceptable.
    """
    while received.startswith(b"\r\n"):
        del received[:2]
    if not has_begun(received):
        return None
    if not _METHOD.match(received):
        raise RefusedRequest(400, "The request does not begin with a method.")
    end = received.find(END)
    head = bytes(received if end < 0 else received[: end + len(END)])
    if len(head) > max_bytes:
        if b"\r\n" not in head[:max_bytes]:
            raise RefusedRequest(414, "The request line is too long.", code="uri_too_long")
        raise RefusedRequest(431, f"The headers are larger than {max_bytes} bytes.", code="headers_too_large")
    if not is_regular(head):
        raise RefusedRequest(400, "The head holds a control character, a bare CR or LF, or a folded line.")
    if head.count(b"\r\n") > max_fields + 2:
        raise RefusedRequest(
            431, f"There are more than {max_fields} header fields.", code="headers_too_large"
        )
    if end < 0:
        return None
    del received[: len(head)]
    return head


def has_begun(received: bytearray) -> bool:
    """Whether the bytes that `take_head` has left are part of a head; a CR alone belongs to a blank line."""
    return bool(received) and received != b"\r"


def is_regular(head: bytes | bytearray) -> bool:
    """Whether all control characters but tabs belong to line ends, and no line is folded.

    An incomplete head may end in the middle of a line end.
    """
    ends = head.count(b"\r\n")
    controls = head.translate(None, _REGULAR)  # ten times as fast as a regular expression
    if len(controls) != 2 * ends and not (head.endswith(b"\r") and len(controls) == 2 * ends + 1):
        return False
    return b"\r\n " not in head and b"\r\n\t" not in head


def plain_request(request: h11.Request) -> tuple[bytes, Fields]:
    """A request's target in origin form and its header fields; raises `RefusedRequest` for invalid HTTP/1.x.

    Of an absolute form (RFC 9112, 3.2.2) the path becomes the target and the authority the Host. `*` stays.
    """
    fields = list(request.headers)
    names = {name for name, _ in fields}
    if request.http_version not in (b"1.0", b"1.1"):
        raise RefusedRequest(505, "This server speaks HTTP/1.1.", code="http_version_not_supported")
    if b"transfer-encoding" in names and (b"content-length" in names or request.http_version == b"1.0"):
        raise RefusedRequest(
            400, "A request with Transfer-Encoding must be HTTP/1.1, without Content-Length."
        )
    if request.method != request.method.upper():
        raise RefusedRequest(501, "Methods are case-sensitive: write GET, not get.", code="not_implemented")
    if request.method == b"CONNECT":
        raise RefusedRequest(501, "This server is no proxy.", code="not_implemented")
    if not all(is_host(value) for name, value in fields if name == b"host"):
        raise RefusedRequest(400, "The Host is not a host.")
    target = request.target
    if b"#" in target:
        raise RefusedRequest(400, "A request target has no fragment.")
    if _ABSOLUTE.match(target):
        return _origin_form(target, fields)
    if target.startswith(b"/") or (target == b"*" and request.method == b"OPTIONS"):
        return target, fields
    raise RefusedRequest(400, "The request target is neither a path nor a URL.")


def is_host(value: bytes) -> bool:
    """Whether a Host header's or an authority's value is a host with an optional port."""
    return _HOST.fullmatch(value) is not None


def _origin_form(target: bytes, fields: Fields) -> tuple[bytes, Fields]:
    try:
        parts = urlsplit(target)
    except ValueError:
        raise RefusedRequest(400, "The request target is not a URL.") from None
    if not parts.netloc or not is_host(parts.netloc):
        raise RefusedRequest(400, "The request target's authority is not a host.")
    path = parts.path or b"/"
    others = [(name, value) for name, value in fields if name != b"host"]
    return path + (b"?" + parts.query if parts.query else b""), [(b"host", parts.netloc), *others]
