"""The documentation that people click through."""

import re
from urllib.parse import urljoin, urlsplit

from adapters.checklist.client import Answer
from adapters.checklist.judging import Probe, Row
from adapters.checklist.words import Text

SCRIPT = re.compile(r"<script[^>]+src=[\"']([^\"']+)", re.IGNORECASE)


async def documentation(probe: Probe) -> None:
    """D: /docs is an HTML page, and the scripts that it loads from its own server are there."""
    page = await probe.world.client.request("GET", "//docs", follow=True)
    advice = Text(
        "FastAPI serves /docs by itself unless docs_url is None; with a root_path or a proxy, see that /docs "
        "still reaches it.",
        "FastAPI сам отдаёт /docs, если docs_url не None; при root_path или прокси проверьте, что "
        "/docs до него "
        "доходит.",
    )
    if not probe.wants(page, 200, what=Text("an HTML page", "HTML-страница"), advice=advice):
        return
    kind = page.headers.get("Content-Type", "")
    body = page.exchange.response_body
    if not kind.startswith("text/html") or "<html" not in body.lower():
        probe.fault(
            page,
            expected=Text("GET /docs: text/html with a page", "GET /docs: text/html со страницей"),
            came=Text(f"Content-Type {kind!r}", f"Content-Type {kind!r}"),
            advice=advice,
        )
        return
    for script in _own_scripts(probe, page):
        answer = await probe.world.client.request("GET", script)
        probe.wants(answer, 200, what=Text("a script that /docs loads", "скрипт, который загружает /docs"))


def _own_scripts(probe: Probe, page: Answer) -> list[str]:
    base = probe.world.client.base
    addresses = [urljoin(page.exchange.url, found) for found in SCRIPT.findall(page.exchange.response_body)]
    return [address for address in addresses if urlsplit(address).netloc == urlsplit(base).netloc]


D = Row(
    "D",
    Text("/docs opens an interactive page of the API", "/docs открывает интерактивную страницу API"),
    Text(
        "GET /docs answers an HTML page, and what it loads from this server is there.",
        "GET /docs отвечает HTML-страницей, и всё, что она загружает с этого сервера, на месте.",
    ),
    documentation,
)
