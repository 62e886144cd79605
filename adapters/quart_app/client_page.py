"""`/`: the reference client, local static files under a strict content security policy."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen
from quart import Blueprint, Response, request
from werkzeug.exceptions import NotFound

from messaging_core.avatars import AvatarHosts

FILES = Path(__file__).with_name("client")
PAGE = "index.html"

CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}

HOST = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
"""A Host header that is safe to quote in another header."""


@frozen
class StaticFile:
    """A file of the client, with its headers."""

    content: bytes
    content_type: str
    etag: str


def client_page(avatar_hosts: AvatarHosts) -> Blueprint:
    """The routes of the client, which shows avatars from these hosts; its files are read once.

    A browser caches the files and revalidates them each time, so files of two releases are never mixed.
    """
    files = dict(_read_files())
    blueprint = Blueprint("client", __name__)

    @blueprint.get("/")
    async def page() -> Response:
        response = await _send(files[PAGE])
        response.headers["Content-Security-Policy"] = _content_security_policy(request.host, avatar_hosts)
        return response

    @blueprint.get("/client/<path:name>")
    async def file(name: str) -> Response:
        if name not in files or name == PAGE:
            raise NotFound
        response = await _send(files[name])
        # An SVG file that is opened by itself is a document of this origin; it may load and run nothing.
        response.headers["Content-Security-Policy"] = "default-src 'none'"
        return response

    return blueprint


def _read_files() -> Iterator[tuple[str, StaticFile]]:
    for path in FILES.rglob("*"):
        if path.suffix in CONTENT_TYPES:
            content = path.read_bytes()
            etag = hashlib.sha256(content).hexdigest()[:32]
            yield path.relative_to(FILES).as_posix(), StaticFile(content, CONTENT_TYPES[path.suffix], etag)


async def _send(file: StaticFile) -> Response:
    response = Response(file.content, content_type=file.content_type)
    response.set_etag(file.etag)
    response.headers["Cache-Control"] = "no-cache"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    await response.make_conditional(request)
    return response


def _content_security_policy(host: str, avatar_hosts: AvatarHosts) -> str:
    # Not in every browser does 'self' cover the sockets of the same host.
    sockets = f" ws://{host} wss://{host}" if HOST.fullmatch(host) else ""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; "
        f"img-src {' '.join(_images(avatar_hosts))}; connect-src 'self'{sockets}; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _images(avatar_hosts: AvatarHosts) -> list[str]:
    """The sources of images: the client's own, and avatars. A host without a scheme covers http and https."""
    others = ["http:", "https:"] if avatar_hosts.everywhere else sorted(avatar_hosts.hosts)
    return ["'self'", "data:", *others]
