"""The check against a server of ours, whole or spoiled."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog

from adapters.checklist.judging import Verdict
from adapters.checklist.running import Plan, Result, run_check
from adapters.cli import composition
from adapters.listener import ListenerConfig
from adapters.quart_app import create_app
from adapters.security import passwords
from messaging_core.limits import Limits
from tests.checklist.faults import Layer
from tests.server.servers import ServerHere, serving

TIMEOUT = 0.6
"""Seconds for an event, of which it takes some thousandths; where it is lost, all of them."""


@asynccontextmanager
async def spoiled(
    layer: Layer | None = None, limits: Limits | None = None, **settings: Any
) -> AsyncIterator[ServerHere]:
    """Our server with a layer around its application."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "MEMORY_KIB", 8)  # what a hash costs is not the matter of these tests
        if layer is not None:

            def create_spoiled(*parts: Any, **more: Any) -> Any:
                whole = create_app(*parts, **more)
                spoiled: Any = layer(whole)
                spoiled.load = whole.load
                return spoiled

            patch.setattr(composition, "create_app", create_spoiled)
            settings["listener"] = ListenerConfig(quick_path=False)  # the layer is one of ASGI
        # Caught, and not printed: a check makes hundreds of lines.
        with structlog.testing.capture_logs():
            async with serving(limits, **settings) as server:
                yield server


async def checked(server: ServerHere, *only: str, patience: float = TIMEOUT) -> Result:
    """The result of a check, of these rows or of all."""
    return await run_check(Plan(server.address, only=only, timeout=patience))


def rows(result: Result, verdict: Verdict) -> set[str]:
    """The rows that came to this verdict."""
    return {outcome.row.id for outcome in result.outcomes if outcome.verdict is verdict}


def said(result: Result, row_id: str) -> str:
    """All that the report's findings say of a row, in both languages."""
    texts = [
        text
        for outcome in result.outcomes
        if outcome.row.id == row_id
        for finding in outcome.findings
        for text in (finding.expected, finding.came, finding.advice)
        if text is not None
    ]
    return "\n".join(f"{text.en}\n{text.ru}" for text in texts)
