"""Words that the project's code and prose do not use, because they name nothing."""

import re
from pathlib import Path

import pytest

RETIRED = ("told", "tells", "whoever", "what has come")
"""Write the noun or the verb that fits: a function returns, a log records, a test checks."""

EXEMPT = {"CHANGELOG.md", "package-lock.json", "test_words.py"}
"""The changelog has former names."""


@pytest.mark.parametrize("word", RETIRED)
def test_no_file_has_a_retired_word(root: Path, project_files: list[Path], word: str) -> None:
    """No code, comment, message or page has the word."""
    pattern = re.compile(rf"\b{word}\b", re.IGNORECASE)
    found = {
        f"{path.relative_to(root)}:{number}"
        for path in project_files
        if path.name not in EXEMPT
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    }
    assert found == set()
