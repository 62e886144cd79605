"""The client as the server hands it out; what it does is tested in a browser, by `make browser`."""

import re
from collections.abc import AsyncIterator

import httpx
import pytest

from adapters.quart_app.client_page import FILES
from tests.server.servers import serving

MODULES = sorted(path.relative_to(FILES).as_posix() for path in FILES.rglob("*.js"))


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with serving() as server, httpx.AsyncClient(base_url=server.address) as client:
        yield client


async def test_page_is_served_at_the_root(http: httpx.AsyncClient) -> None:
    """`/` is the client, under a policy that allows files of this server and nothing inline."""
    answer = await http.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["img-src"] == "'self' data: http: https:"
    host = http.base_url.netloc.decode()
    assert policy["connect-src"] == f"'self' ws://{host} wss://{host}"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert "unsafe" not in answer.headers["content-security-policy"]


async def test_page_holds_nothing_inline_and_nothing_from_elsewhere(http: httpx.AsyncClient) -> None:
    """The page and its files ask for files of this server only, each of which is there."""
    page = (await http.get("/")).text
    assert not re.search(r"<script(?![^>]* src=)|<style|\son\w+=|\sstyle=", page)
    asked = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert asked
    for address in asked:
        assert address.startswith("/client/")
        assert (await http.get(address)).status_code == 200
    for name in MODULES:
        text = (await http.get(f"/client/{name}")).text
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text
        )
        assert all(found.startswith(".") for found in re.findall(r'from "([^"]+)"', text))


async def test_every_module_is_preloaded(http: httpx.AsyncClient) -> None:
    """A module that the page does not name is found late, one round trip after another."""
    page = (await http.get("/")).text
    named = re.findall(r'rel="modulepreload" href="/client/([^"]+)"', page)
    assert sorted([*named, "main.js"]) == MODULES


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/client/main.js", "text/javascript; charset=utf-8"),
        ("/client/views/shell.js", "text/javascript; charset=utf-8"),
        ("/client/style.css", "text/css; charset=utf-8"),
        ("/client/icon.svg", "image/svg+xml"),
    ],
)
async def test_files_have_their_type_and_are_revalidated(
    http: httpx.AsyncClient, path: str, content_type: str
) -> None:
    """A file is kept by the browser and asked for with its ETag: 304 without a body while it is the same."""
    answer = await http.get(path)
    assert answer.headers["content-type"] == content_type
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    again = await http.get(path, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert (await http.get(path, headers={"If-None-Match": '"another"'})).content == answer.content
    head = await http.head(path)
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize(
    "path",
    ["/client/index.html", "/client/package.json", "/client/", "/client/../app.py", "/client/%2e%2e/app.py"],
)
async def test_nothing_else_is_served(http: httpx.AsyncClient, path: str) -> None:
    """What is not a file of the client is a 404."""
    assert (await http.get(path)).status_code == 404


@pytest.mark.parametrize("host", ["a b", "x;script-src *", "evil' 'unsafe-inline", "[::1"])
async def test_host_header_cannot_widen_the_policy(http: httpx.AsyncClient, host: str) -> None:
    """A Host header that is none adds nothing to the content policy."""
    answer = await http.get("/", headers={"Host": host})
    if answer.status_code == 200:
        assert "connect-src 'self';" in answer.headers["content-security-policy"]


async def test_client_can_be_left_out() -> None:
    """With `--no-client` there is a problem at `/`, as at every path where nothing is."""
    async with serving(client=False) as server, httpx.AsyncClient(base_url=server.address) as http:
        for path in ("/", "/client/main.js"):
            answer = await http.get(path)
            assert answer.status_code == 404
            assert answer.json()["code"] == "not_found"
