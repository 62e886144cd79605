"""The documentation's examples run, and the names in it exist."""

import re
from pathlib import Path

import pytest
from click import Context
from sybil.document import Document
from sybil.parsers.markdown import PythonCodeBlockParser

from adapters.cli.main import main
from adapters.http_api import closes
from messaging_core import rights

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONSOLE = "\n".join(re.findall(r"^```(?:console|sh|shell|bash)\n(.*?)^```", README, re.MULTILINE | re.DOTALL))
SPANS = "\n".join(re.findall(r"`([^`\n]+)`", README))
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
WORDS = [word.strip() for word in re.findall(r"^\| (?!word )([^|,]+)", GLOSSARY, re.MULTILINE)]
CODE = re.sub(r"^\$ ", "", f"{CONSOLE}\n{SPANS}", flags=re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_examples_run(page: Path) -> None:
    """Every Python example of a page runs, in order, and its assertions hold."""
    for example in Document.parse(str(page), PythonCodeBlockParser()):
        example.evaluate()


def test_readme_has_a_python_example() -> None:
    """The README has a Python example, so that the test of examples is not empty."""
    assert "```python\n" in README


def test_the_api_prints_the_rights() -> None:
    """The table of rights in docs/api.md is the one that the decisions ask."""
    assert rights.table() in (ROOT / "docs" / "api.md").read_text(encoding="utf-8")


def test_the_api_prints_the_close_codes() -> None:
    """The table of close codes in docs/api.md is the one in `/asyncapi.json`."""
    assert closes.table() in (ROOT / "docs" / "api.md").read_text(encoding="utf-8")


def test_make_targets_exist() -> None:
    """Every `make` command of the README is a target of the Makefile."""
    named = set(re.findall(r"^make ([a-z]+)", CODE, re.MULTILINE))
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {"serve", "test"} <= named
    assert named <= targets


def test_commands_exist() -> None:
    """Every `messaging …` command of the README exists, with each of its options."""
    invocations = re.findall(r"^(?:\S*/)?messaging ([a-z]+)(.*)$", CODE, re.MULTILINE)
    invocations += [
        ("serve", options) for options in re.findall(r"\bmake serve ARGS=(.*)$", CODE, re.MULTILINE)
    ]
    assert invocations
    for name, arguments in invocations:
        command = main.get_command(Context(main), name)
        assert command is not None, name
        known = {
            option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
        }
        assert set(re.findall(r"--[a-z][a-z-]*", arguments)) <= known | {"--help"}


def test_settings_exist() -> None:
    """Every `MESSAGING_…` variable of the README is in `serve --help` or in the tests."""
    serve = main.get_command(Context(main), "serve")
    assert serve is not None
    documented = serve.get_help(Context(serve, info_name="serve"))
    documented += (ROOT / "tests" / "postgresql.py").read_text(encoding="utf-8")
    named = set(re.findall(r"\bMESSAGING_[A-Z_]+[A-Z]\b", README))
    assert {name for name in named if name not in re.sub(r"\s+", "", documented)} == set()


def test_the_code_uses_each_word_of_the_glossary(project_files: list[Path]) -> None:
    """Each word of the glossary occurs in the code, as itself or in a name such as `stored_response`."""
    code = "\n".join(
        path.read_text(encoding="utf-8")
        for path in project_files
        if path.suffix == ".py" and "tests" not in path.relative_to(ROOT).parts
    ).lower()
    unused = [word for word in WORDS if not re.search(rf"\b_?{re.sub('[ -]', '[ _-]?', word)}", code)]
    assert "hub" in WORDS
    assert unused == []


def test_the_glossary_is_sorted() -> None:
    """The glossary is sorted."""
    assert sorted(WORDS) == WORDS


def test_ci_runs_the_readmes_test_command() -> None:
    """CI runs the same command that the README gives for testing."""
    command = re.search(r"## Test.*?^```console\n(?:\$ )?(make test)$", README, re.MULTILINE | re.DOTALL)
    assert command is not None
    assert re.search(
        rf"^step {command[1]}$", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE
    )
