"""Runs the check against this distribution's server, intact or with a fault."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog

from adapters.checklist import running
from adapters.checklist.judging import RowVerdict
from adapters.checklist.running import CheckPlan, CheckResult, run_check
from adapters.cli import composition
from adapters.listener import ListenerConfig
from adapters.quart_app import create_app
from adapters.security import passwords
from messaging_core.limits import Limits
from tests.checklist.faults import Layer
from tests.server.servers import ServerHere, serving

TIMEOUT = 0.6
"""Seconds for an event: it arrives after a few milliseconds, and a lost event costs all of them."""


@asynccontextmanager
async def serving_with(
    layer: Layer | None = None, limits: Limits | None = None, **settings: Any
) -> AsyncIterator[ServerHere]:
    """The server with a layer around its ASGI application."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "MEMORY_KIB", 8)  # these tests do not depend on the cost of a hash
        if layer is not None:

            def create_layered(*parts: Any, **more: Any) -> Any:
                app = create_app(*parts, **more)
                layered: Any = layer(app)
                layered.load = app.load
                return layered

            patch.setattr(composition, "create_app", create_layered)
            settings["listener"] = ListenerConfig(quick_path=False)  # which bypasses ASGI, and so the layer
        # A check logs hundreds of lines; capture them instead of printing.
        with structlog.testing.capture_logs():
            async with serving(limits, **settings) as server:
                yield server


async def checked(server: ServerHere, *only: str, event_timeout: float = TIMEOUT) -> CheckResult:
    """Check a server's rows, all by default.

    With the default `event_timeout`, responses and rows may take ten times as long as usual.
    """
    plan = CheckPlan(server.address, only=only, timeout=event_timeout)
    if event_timeout != TIMEOUT:
        return await run_check(plan)
    with pytest.MonkeyPatch.context() as patch:
        # Only a lost event costs the timeout; a busy machine may delay a response.
        patch.setattr(running, "RESPONSE_TIMEOUTS", running.RESPONSE_TIMEOUTS * 10)
        patch.setattr(running, "ROW_TIMEOUTS", running.ROW_TIMEOUTS * 10)
        return await run_check(plan)


def rows(result: CheckResult, verdict: RowVerdict) -> set[str]:
    """The rows with this verdict."""
    return {outcome.row.id for outcome in result.outcomes if outcome.verdict is verdict}


def findings_text(result: CheckResult, row_id: str) -> str:
    """The texts of the row's findings, in both languages."""
    texts = [
        text
        for outcome in result.outcomes
        if outcome.row.id == row_id
        for finding in outcome.findings
        for text in (finding.expected, finding.actual, finding.advice)
        if text is not None
    ]
    return "\n".join(f"{text.en}\n{text.ru}" for text in texts)
