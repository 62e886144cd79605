"""The sample reports of docs/check.md: `python -m tests.checklist.samples` writes them again."""

import re
from pathlib import Path

import trio

from adapters.checklist.report import as_text
from adapters.checklist.running import Result
from adapters.checklist.words import LANGUAGES, Language
from tests.checklist import faults
from tests.checklist.checks import checked, spoiled
from tests.checklist.faults import frames, together

PAGE = Path(__file__).parents[2] / "docs" / "check.md"
BLOCK = re.compile(r"(<!-- sample (en|ru) -->\n).*?(<!-- end -->)", re.DOTALL)

# What differs from run to run, and how it stands in the sample.
VARYING = (
    (r"(https?|ws)://127\.0\.0\.1:\d+", r"\1://localhost:8000"),
    (r"127\.0\.0\.1:\d+", "localhost:8000"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", "2024-11-04 14:30:00Z"),
    (r"\d+\.\d{3} (?=[→←⇄✕])", "1.234 "),
    (r"\d+\.\d (с|s)$", r"2.0 \1"),
    (r"\b[0-9a-f]{8}-(\d+)\.", r"3f9a2b1c-\1."),
    (r"за 0\.6\s+с", "за 2 с"),
    (r"within 0\.6\s+s\b", "within 2 s"),
)


async def sample() -> Result:
    """The result for the server that the page speaks of."""
    deaf = frames(lambda user, frame: [frame] if faults.author_of(frame) == user else [])
    refusing = faults.door({"type": "websocket.close", "code": 1008})
    async with spoiled(together(deaf, refusing)) as server:
        return await checked(server)


def written(result: Result, language: Language) -> str:
    """The report as the page shows it: without what varies, and with the first of the exchanges."""
    report = as_text(result, language)
    for pattern, shown in VARYING:
        report = re.sub(pattern, shown, report, flags=re.MULTILINE)
    head, mark, exchanges = report.partition("📋")
    title, first, *others = exchanges.split("\n\n")
    summary = others[-1].strip()
    return f"{head}{mark}{title}\n\n{first}\n  …\n\n{summary}"


def page_with(result: Result, page: str) -> str:
    """The page with the reports of this result."""

    def block(found: re.Match[str]) -> str:
        language = next(language for language in LANGUAGES if language == found[2])
        return f"{found[1]}\n```text\n{written(result, language)}\n```\n\n{found[3]}"

    return BLOCK.sub(block, page)


if __name__ == "__main__":
    PAGE.write_text(page_with(trio.run(sample), PAGE.read_text(encoding="utf-8")), encoding="utf-8")
