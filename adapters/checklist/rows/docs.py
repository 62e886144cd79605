"""The interactive documentation page."""

import re
from urllib.parse import urljoin, urlsplit

from adapters.checklist.client import Response
from adapters.checklist.judging import ChecklistRow, Probe
from adapters.checklist.phrases import Phrase, verbatim

SCRIPT = re.compile(r"<script[^>]+src=[\"']([^\"']+)", re.IGNORECASE)


async def documentation(probe: Probe) -> None:
    """D: /docs is an HTML page, and its own server serves the scripts that it loads from there."""
    page = await probe.run.client.request("GET", "//docs", follow=True)
    advice = Phrase(
        "FastAPI serves /docs itself unless docs_url is None; with a root_path or a proxy, check that /docs "
        "still reaches the application.",
        "FastAPI сам отдаёт /docs, если docs_url не None; при root_path или прокси проверьте, что запрос "
        "/docs доходит до приложения.",
    )
    if not probe.expect_status(page, 200, what=Phrase("an HTML page", "HTML-страница"), advice=advice):
        return
    kind = page.headers.get("Content-Type", "")
    body = page.exchange.response_body
    if not kind.startswith("text/html") or "<html" not in body.lower():
        probe.add_finding(
            page,
            expected=Phrase("GET /docs: text/html with a page", "GET /docs: text/html со страницей"),
            actual=verbatim(f"Content-Type {kind!r}"),
            advice=advice,
        )
        return
    for script in _own_scripts(probe, page):
        response = await probe.run.client.request("GET", script)
        probe.expect_status(
            response, 200, what=Phrase("a script that /docs loads", "скрипт, который загружает /docs")
        )


def _own_scripts(probe: Probe, page: Response) -> list[str]:
    base = probe.run.client.base
    addresses = [urljoin(page.exchange.url, found) for found in SCRIPT.findall(page.exchange.response_body)]
    return [address for address in addresses if urlsplit(address).netloc == urlsplit(base).netloc]


D = ChecklistRow(
    "D",
    Phrase("/docs opens an interactive page of the API", "/docs открывает интерактивную страницу API"),
    Phrase(
        "GET /docs returns an HTML page, and the server serves every script that the page loads from it.",
        "GET /docs возвращает HTML-страницу, и сервер отдаёт все скрипты, которые она с него загружает.",
    ),
    documentation,
)
