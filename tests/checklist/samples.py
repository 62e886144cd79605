"""The sample reports of docs/check.md; `python -m tests.checklist.samples` updates them."""

import re
from pathlib import Path

import trio

from adapters.checklist.phrases import LANGUAGES, Language
from adapters.checklist.report import as_text
from adapters.checklist.running import CheckResult
from tests.checklist import faults
from tests.checklist.checks import checked, serving_with
from tests.checklist.faults import frames, together

PAGE = Path(__file__).parents[2] / "docs" / "check.md"
BLOCK = re.compile(r"(<!-- sample (en|ru) -->\n).*?(<!-- end -->)", re.DOTALL)

# Values that differ from run to run, and their replacements in the samples.
VARYING = (
    (r"(https?|ws)://127\.0\.0\.1:\d+", r"\1://localhost:8000"),
    (r"127\.0\.0\.1:\d+", "localhost:8000"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", "2024-11-04 14:30:00Z"),
    (r"\d+\.\d{3} (?=[→←⇄✕])", "1.234 "),
    (r"за 0\.6\s+с", "за 2 с"),
    (r"within(\s+)0\.6\s+s\b", r"within\g<1>2 s"),
    (r"\d+\.\d (с|s)$", r"2.0 \1"),
    (r"\b[0-9a-f]{8}-(\d+)\.", r"3f9a2b1c-\1."),
)


async def sample() -> CheckResult:
    """The result for the server that the page describes."""
    author_only = frames(lambda user, frame: [frame] if faults.author_of(frame) == user else [])
    refusing = faults.own_handshake({"type": "websocket.close", "code": 1008})
    async with serving_with(together(author_only, refusing)) as server:
        return await checked(server)


def sample_text(result: CheckResult, language: Language) -> str:
    """The report for the page: with fixed values for the varying ones, and only the first exchange."""
    report = as_text(result, language)
    for pattern, shown in VARYING:
        report = re.sub(pattern, shown, report, flags=re.MULTILINE)
    head, mark, exchanges = report.partition("📋")
    title, first, *others = exchanges.split("\n\n")
    summary = others[-1].strip()
    return f"{head}{mark}{title}\n\n{first}\n  …\n\n{summary}"


def page_with(result: CheckResult, page: str) -> str:
    """The page with the samples replaced by this result's reports."""

    def block(found: re.Match[str]) -> str:
        language = next(language for language in LANGUAGES if language == found[2])
        return f"{found[1]}\n```text\n{sample_text(result, language)}\n```\n\n{found[3]}"

    return BLOCK.sub(block, page)


if __name__ == "__main__":
    PAGE.write_text(page_with(trio.run(sample), PAGE.read_text(encoding="utf-8")), encoding="utf-8")
