"""A request's head, before and after it is parsed: what is refused, and what is made plain.

Pure functions. The bytes are judged before h11 sees them because h11 0.16 takes more than is safe behind
a proxy that reads differently: a bare LF as a line's end, obsolete folding, control characters in values;
and its size limit holds only for heads that come in pieces.
"""

import re
from urllib.parse import urlsplit

import h11

from adapters.listener.answers import RefusedRequest

END = b"\r\n\r\n"

_CONTROLS = frozenset((*range(0x20), 0x7F)) - frozenset(b"\t")
_REGULAR = bytes(byte for byte in range(256) if byte not in _CONTROLS)
_METHOD = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]")
_HOST = re.compile(rb"(?:[-A-Za-z0-9._~!$&'()*+,;=%]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_ABSOLUTE = re.compile(rb"https?://", re.IGNORECASE)

Fields = list[tuple[bytes, bytes]]


def take_head(received: bytearray, *, max_bytes: int, max_fields: int) -> bytes | None:
    """Take one whole head off the front of what was received, or None when its end has not come yet.

    Blank lines before it are dropped (RFC 9112, 2.2). Raises `RefusedRequest` as soon as no continuation could make
    it a head that is taken.
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
    """Whether what `take_head` has left is a part of a head: a CR alone is that of a blank line."""
    return bool(received) and received != b"\r"


def is_regular(head: bytes | bytearray) -> bool:
    """Whether all of its control characters but tabs are line ends, none followed by a space or tab.

    A head, or a part of one, that is not whole may end amid a line end.
    """
    ends = head.count(b"\r\n")
    controls = head.translate(None, _REGULAR)  # a regular expression would take ten times as long
    if len(controls) != 2 * ends and not (head.endswith(b"\r") and len(controls) == 2 * ends + 1):
        return False
    return b"\r\n " not in head and b"\r\n\t" not in head


def plain_request(request: h11.Request) -> tuple[bytes, Fields]:
    """Target in origin form and header fields of a request; raises `RefusedRequest` for what is not HTTP/1.x.

    An absolute form (RFC 9112, 3.2.2) becomes its path, and its authority the Host. `*` stays as it is.
    """
    fields = list(request.headers)
    names = {name for name, _ in fields}
    if request.http_version not in (b"1.0", b"1.1"):
        raise RefusedRequest(505, "This server speaks HTTP/1.1.", code="http_version_not_supported")
    if b"transfer-encoding" in names and (b"content-length" in names or request.http_version == b"1.0"):
        raise RefusedRequest(400, "A body has one length: Transfer-Encoding stands beside another.")
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
    """Whether a Host header, or an authority, has the form of one."""
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
