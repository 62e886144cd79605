"""Responds to requests through ASGI that the application refuses by their head.

Through ASGI the application would receive the body meanwhile, and hold it in memory.
"""

from functools import partial
from urllib.parse import unquote

import trio

from adapters.http_api.exchange import HttpRequest, HttpResponse
from adapters.listener.boundary import Boundary
from adapters.listener.h11_request import RequestHead
from adapters.listener.head import Fields
from adapters.listener.http1 import Http1
from adapters.listener.logs import log_request
from adapters.listener.peer import Peer


async def refused_by_head(request: RequestHead, http: Http1, peer: Peer) -> bool:
    """Respond to a request with a body if the application refuses it by its head; returns whether it did."""
    offered = peer.shared.whole_requests
    if offered is None or not _has_body(request.fields):
        return False
    path, _, query = request.target.partition(b"?")
    method, plain = request.method.decode(), unquote(path.decode("latin-1"))
    route = offered.route(method, plain)
    if route is None:
        return False
    client = "" if http.heads.client is None else http.heads.client[0]
    began = trio.current_time()
    refusal = None
    with Boundary(partial(peer.shared.report, plain)):
        refusal = await route.refusal(HttpRequest(method, plain, query, _joined(request.fields), b"", client))
    if refusal is None:
        return False
    peer.shared.counts.requests += 1
    await _send(refusal, http, peer)
    log_request(
        method,
        path.decode("latin-1"),
        refusal.status,
        size=len(refusal.body),
        seconds=trio.current_time() - began,
        client=client or None,
        fields=refusal.headers,
    )
    return True


async def _send(refusal: HttpResponse, http: Http1, peer: Peer) -> None:
    headers = [(b"content-length", b"%d" % len(refusal.body))]
    headers += [(name.encode("latin-1"), value.encode("latin-1")) for name, value in refusal.headers]
    more = peer.shared.hypercorn.response_headers("h11")
    request = http.request
    await peer.writer.send(*request.begin_response(refusal.status, headers, more, last=http.closing))
    await peer.writer.send(*request.response_part(refusal.body))
    await peer.writer.send(*request.end_response())


def _has_body(fields: Fields) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0"))
        for name, value in fields
    )


def _joined(fields: Fields) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in fields:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        joined[key] = f"{joined[key]}, {text}" if key in joined else text
    return joined
