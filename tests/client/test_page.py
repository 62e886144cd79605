"""The client's files as the server sends them; `make browser` tests the client in a browser."""

import re
from collections.abc import AsyncIterator

import httpx
import pytest

from adapters.quart_app.client_page import FILES
from tests.server.servers import serving

MODULES = sorted(path.relative_to(FILES).as_posix() for path in FILES.rglob("*.js"))
STYLE_SHEETS = sorted(path.relative_to(FILES).as_posix() for path in FILES.rglob("*.css"))


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with serving() as server, httpx.AsyncClient(base_url=server.address) as client:
        yield client


async def test_page_is_served_at_the_root(http: httpx.AsyncClient) -> None:
    """`/` is the client's page; its content policy allows files of this server and nothing inline."""
    response = await http.get("/")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(
        part.strip().split(" ", 1) for part in response.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["img-src"] == "'self' data: http: https:"
    host = http.base_url.netloc.decode()
    assert policy["connect-src"] == f"'self' ws://{host} wss://{host}"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert "unsafe" not in response.headers["content-security-policy"]


async def test_page_loads_nothing_inline_and_nothing_from_elsewhere(http: httpx.AsyncClient) -> None:
    """The page and its files refer only to files of this server, each of which exists."""
    page = (await http.get("/")).text
    assert not re.search(r"<script(?![^>]* src=)|<style|\son\w+=|\sstyle=", page)
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert addresses
    for address in addresses:
        assert address.startswith("/client/")
        assert (await http.get(address)).status_code == 200
    for name in MODULES:
        text = (await http.get(f"/client/{name}")).text
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text
        )
        assert all(found.startswith(".") for found in re.findall(r'from "([^"]+)"', text))
    for name in STYLE_SHEETS:
        assert not re.search(r"@import|url\(", (await http.get(f"/client/{name}")).text)


async def test_every_module_is_preloaded(http: httpx.AsyncClient) -> None:
    """The page names every module, because imports alone would be found one round trip after another."""
    page = (await http.get("/")).text
    named = re.findall(r'rel="modulepreload" href="/client/([^"]+)"', page)
    assert sorted([*named, "main.js"]) == MODULES


async def test_every_style_sheet_is_linked_once(http: httpx.AsyncClient) -> None:
    """The page links each style sheet once, the one with the tokens first."""
    page = (await http.get("/")).text
    named = re.findall(r'rel="stylesheet" href="/client/([^"]+)"', page)
    assert sorted(named) == STYLE_SHEETS
    assert named[0] == "styles/tokens.css"


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/client/main.js", "text/javascript; charset=utf-8"),
        ("/client/views/shell.js", "text/javascript; charset=utf-8"),
        ("/client/styles/base.css", "text/css; charset=utf-8"),
        ("/client/icon.svg", "image/svg+xml"),
    ],
)
async def test_files_have_their_type_and_are_revalidated(
    http: httpx.AsyncClient, path: str, content_type: str
) -> None:
    """The browser must revalidate a cached file with its ETag: 304 without a body while it is unchanged."""
    response = await http.get(path)
    assert response.headers["content-type"] == content_type
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
    again = await http.get(path, headers={"If-None-Match": response.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert (await http.get(path, headers={"If-None-Match": '"another"'})).content == response.content
    head = await http.head(path)
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize(
    "path",
    ["/client/index.html", "/client/package.json", "/client/", "/client/../app.py", "/client/%2e%2e/app.py"],
)
async def test_nothing_else_is_served(http: httpx.AsyncClient, path: str) -> None:
    """Every other path is a 404."""
    assert (await http.get(path)).status_code == 404


@pytest.mark.parametrize("host", ["a b", "x;script-src *", "evil' 'unsafe-inline", "[::1"])
async def test_host_header_cannot_widen_the_policy(http: httpx.AsyncClient, host: str) -> None:
    """A malformed Host header adds nothing to the content policy."""
    response = await http.get("/", headers={"Host": host})
    if response.status_code == 200:
        assert "connect-src 'self';" in response.headers["content-security-policy"]


async def test_client_can_be_left_out() -> None:
    """With `--no-client`, `/` is a 404 with a problem document."""
    async with serving(client=False) as server, httpx.AsyncClient(base_url=server.address) as http:
        for path in ("/", "/client/main.js"):
            response = await http.get(path)
            assert response.status_code == 404
            assert response.json()["code"] == "not_found"
