"""Logs: readable or JSON, and without secrets, also in tracebacks."""

import json
import subprocess
import sys

import pytest

PROGRAM = """
import sys
import structlog
from adapters.cli.logs import configure_logs

configure_logs("info", sys.argv[1])
log = structlog.get_logger()

def fail(token):
    raise ValueError("it failed")

try:
    fail("a" + "-" + "secret")
except ValueError:
    log.exception("A request failed", path="/ws")
"""


@pytest.mark.parametrize("style", ["console", "json", "auto"])
def test_a_traceback_holds_no_local_variable(style: str) -> None:
    """The arguments of a function that failed, such as a token, are not in the log."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, style], capture_output=True, text=True, check=True, timeout=60
    )
    assert "it failed" in run.stderr
    assert "a-secret" not in run.stderr
    if style != "console":  # without a terminal, "auto" is JSON
        (line,) = run.stderr.splitlines()
        assert json.loads(line)["event"] == "A request failed"
