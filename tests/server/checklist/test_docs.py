"""D: the documentation."""

import re
from urllib.parse import urljoin

import httpx
from openapi_spec_validator import validate

from tests.server.clients import shows_cors
from tests.server.servers import ServerHere, serving


async def test_d_the_page_and_all_that_it_loads(server: ServerHere, stranger: httpx.AsyncClient) -> None:
    """D: `/docs` opens, and every file that it names is served by this machine."""
    page = await stranger.get("/docs")
    assert page.status_code == 200
    assert page.headers["Content-Type"].startswith("text/html")
    named = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(named) >= 3
    for name in named:
        asset = await stranger.get(urljoin(str(page.url), name))
        assert asset.status_code == 200, name
        assert asset.content
        kinds = {"css": "text/css", "js": "text/javascript", "png": "image/png"}
        assert asset.headers["Content-Type"].startswith(kinds[name.rpartition(".")[2]])
    script = (await stranger.get("/docs/start.js")).text
    assert '"/openapi.json"' in script
    assert (await stranger.get("/docs/%2e%2e/index.html")).status_code == 404


async def test_d_the_description_is_valid(server: ServerHere, stranger: httpx.AsyncClient) -> None:
    """D: `/openapi.json` is OpenAPI 3.1, every reference in it leads somewhere."""
    response = await stranger.get("/openapi.json")
    assert response.headers["Content-Type"] == "application/json"
    shows_cors(response)
    description = response.json()
    validate(description)
    assert description["openapi"].startswith("3.1")


async def test_d_it_can_be_turned_off() -> None:
    """D: without `docs` neither is served."""
    async with (
        serving(docs=False) as server,
        httpx.AsyncClient(base_url=server.address, verify=False) as client,  # noqa: S501
    ):
        for path in ("/docs", "/openapi.json", "/docs/start.js"):
            assert (await client.get(path)).status_code == 404
