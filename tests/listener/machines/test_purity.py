"""The machines know nothing of a network, a task or Hypercorn, whichever of our modules they import."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
IMPURE = {"asyncio", "hypercorn", "os", "quart", "selectors", "socket", "structlog", "threading", "trio"}


def imports(module: str) -> set[str]:
    """What a module imports, for the type checker too."""
    source = (ROOT / module.replace(".", "/")).with_suffix(".py").read_text()
    found = set[str]()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found.add(node.module)
    return found


@pytest.mark.parametrize("machine", ["adapters.listener.http1", "adapters.listener.websocket"])
def test_a_machine_imports_nothing_that_waits(machine: str) -> None:
    """Neither does any module of ours that it imports."""
    seen, waiting = {machine}, [machine]
    outside = set[str]()
    while waiting:
        for name in imports(waiting.pop()) - seen:
            seen.add(name)
            if (ROOT / name.replace(".", "/")).with_suffix(".py").exists():
                waiting.append(name)
            else:
                outside.add(name.partition(".")[0])
    assert outside & IMPURE == set()
    assert {"h11"} & outside or {"wsproto"} & outside
