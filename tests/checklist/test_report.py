"""The report: its contents in each form and language, and the secrets that it must not contain."""

import json
import re
from xml.etree import ElementTree as ET

import jsonschema
import pytest
import trio

from adapters.checklist.judging import RowVerdict
from adapters.checklist.phrases import LANGUAGES, Language, language_of
from adapters.checklist.recording import Secrets
from adapters.checklist.report import FORMATS, exchanges_of
from adapters.checklist.rows import ROWS
from adapters.checklist.running import ORDER, CheckResult
from tests.checklist import faults
from tests.checklist.checks import checked, rows, serving_with
from tests.checklist.faults import frames, responses, together

TEXT = {"type": "string", "minLength": 1}
HEADERS = {
    "type": "array",
    "items": {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2},
}
SCHEMA = {
    "type": "object",
    "required": ["url", "checked_at", "seconds", "language", "holds", "summary", "rows"],
    "properties": {
        "url": TEXT,
        "checked_at": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"},
        "seconds": {"type": "number", "minimum": 0},
        "language": {"enum": ["en", "ru"]},
        "holds": {"type": "boolean"},
        "summary": {
            "type": "object",
            "required": ["holds", "fails", "not_judged", "not_checkable"],
            "additionalProperties": {"type": "integer", "minimum": 0},
        },
        "rows": {
            "type": "array",
            "items": {
                "type": "object",
                "required": [
                    "id",
                    "title",
                    "rule",
                    "verdict",
                    "needs",
                    "seconds",
                    "findings",
                    "remarks",
                    "exchanges",
                ],
                "additionalProperties": False,
                "properties": {
                    "id": {"enum": list(ORDER)},
                    "title": TEXT,
                    "rule": TEXT,
                    "verdict": {"enum": ["holds", "fails", "not_judged", "not_checkable"]},
                    "needs": {"type": "array", "items": {"enum": list(ORDER)}},
                    "seconds": {"type": "number", "minimum": 0},
                    "remarks": {"type": "array", "items": TEXT},
                    "findings": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["expected", "came", "advice", "exchanges"],
                            "properties": {
                                "expected": TEXT,
                                "came": TEXT,
                                "advice": {"type": ["string", "null"]},
                                "exchanges": {"type": "array", "items": {"type": "integer"}, "minItems": 1},
                            },
                        },
                    },
                    "exchanges": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["kind", "at", "url", "request_headers"],
                            "properties": {"kind": {"enum": ["http", "socket"]}, "request_headers": HEADERS},
                        },
                    },
                },
            },
        },
    },
}


@pytest.fixture(scope="module")
def whole() -> CheckResult:
    """The result for the intact server; shared by the module, because a check takes a second or two."""

    async def check() -> CheckResult:
        async with serving_with() as server:
            return await checked(server, event_timeout=2)

    return trio.run(check)


@pytest.fixture(scope="module")
def broken() -> CheckResult:
    """The result for a server with four faults, of which each breaks another row."""

    async def check() -> CheckResult:
        author_only = frames(lambda user, frame: [frame] if faults.author_of(frame) == user else [])
        refusing = faults.own_handshake({"type": "websocket.close", "code": 1008})
        cross = responses(faults.no_cors_on_401)
        async with serving_with(together(author_only, refusing, faults.StrictRotation, cross)) as server:
            return await checked(server)

    return trio.run(check)


def test_every_row_of_the_checklist_is_there() -> None:
    """The rows are those of the checklist, each once, with texts in both languages."""
    assert sorted(row.id for row in ROWS) == sorted(ORDER)
    for row in ROWS:
        for text in (row.title, row.rule):
            assert re.search(r"[А-я]", text.ru), row.id
            assert not re.search(r"[А-я]", text.en), row.id


def test_our_server_holds(whole: CheckResult) -> None:
    """The intact server passes: every row holds except L, which a client cannot check."""
    assert rows(whole, RowVerdict.HOLDS) == set(ORDER) - {"L"}
    assert rows(whole, RowVerdict.NOT_CHECKABLE) == {"L"}
    assert whole.holds


def test_each_of_several_faults_fails_its_own_row(broken: CheckResult) -> None:
    """With several faults, the row of each fault fails, and rows that need one are not judged."""
    assert rows(broken, RowVerdict.FAILS) == {"C1", "C2", "C3", "P2"}
    assert rows(broken, RowVerdict.NOT_JUDGED) == {"C10", "P1"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_text(whole: CheckResult, broken: CheckResult, language: Language) -> None:
    """Text has the three marks that the checklist requires, and the reason why a row is not judged."""
    good, bad = (FORMATS["text"](result, language) for result in (whole, broken))
    assert "✅" in good
    assert "❌" not in good
    assert "📋" not in good
    for mark in ("✅", "❌", "📋"):
        assert mark in bad
    assert ("не проверено: нужно C3" if language == "ru" else "not judged: needs C3") in bad
    assert "✕ refused HTTP 403" in bad
    assert "→ POST http://127.0.0.1" in bad
    for row in ROWS:
        assert row.title.into(language) in bad


@pytest.mark.parametrize("language", LANGUAGES)
def test_json(whole: CheckResult, broken: CheckResult, language: Language) -> None:
    """JSON has one schema for every result, and a finding refers to its exchanges by index."""
    for result in (whole, broken):
        report = json.loads(FORMATS["json"](result, language))
        jsonschema.validate(report, SCHEMA)
        assert report["holds"] is result.holds
        assert [row["id"] for row in report["rows"]] == list(ORDER)
        for row in report["rows"]:
            assert bool(row["findings"]) is (row["verdict"] == "fails")
            assert bool(row["needs"]) is (row["verdict"] == "not_judged")
            for finding in row["findings"]:
                assert all(0 <= number < len(row["exchanges"]) for number in finding["exchanges"])


@pytest.mark.parametrize("language", LANGUAGES)
def test_junit(whole: CheckResult, broken: CheckResult, language: Language) -> None:
    """JUnit has a test case for each row, right counts, and a reason for each failure and skip."""
    for result in (whole, broken):
        root = ET.fromstring(FORMATS["junit"](result, language))  # noqa: S314 - our own report
        (suite,) = root.findall("testsuite")
        assert len(suite.findall("testcase")) == int(suite.attrib["tests"]) == len(ORDER)
        assert len(suite.findall("testcase/failure")) == int(suite.attrib["failures"])
        assert len(suite.findall("testcase/skipped")) == int(suite.attrib["skipped"])
        assert int(suite.attrib["failures"]) == result.count(RowVerdict.FAILS)
        for failure in suite.iter("failure"):
            assert failure.attrib["message"]
            assert "→" in (failure.text or "")


@pytest.mark.parametrize("language", LANGUAGES)
def test_markdown(whole: CheckResult, broken: CheckResult, language: Language) -> None:
    """Markdown ticks the rows that hold, and closes every code fence."""
    for result in (whole, broken):
        report = FORMATS["markdown"](result, language)
        assert report.startswith("# messaging check http://127.0.0.1:")
        ticked = re.findall(r"^- \[x\] \*\*(\w+)\*\*", report, re.MULTILINE)
        assert set(ticked) == rows(result, RowVerdict.HOLDS)
        open_fence = ""
        for line in report.splitlines():
            fence = re.match(r"`{3,}", line)
            if fence and not open_fence:
                open_fence = fence[0]
            elif line == open_fence:
                open_fence = ""
        assert open_fence == ""


@pytest.mark.parametrize("form", FORMATS)
def test_no_report_holds_a_secret(broken: CheckResult, form: str) -> None:
    """The report contains none of the sent tokens and passwords, but a name for each token."""
    report = FORMATS[form](broken, "en")
    sent = [exchange for outcome in broken.outcomes for exchange in exchanges_of(outcome)]
    wire = " ".join(str(exchange) for exchange in sent)
    tokens = set(re.findall(r"eyJ[\w-]+\.[\w-]+\.[\w-]+", wire))
    assert tokens
    assert not [token for token in tokens if token in report]
    assert not re.search(r"eyJ[\w-]{8,}", report)
    assert "‹refresh_token" in report


def test_secrets_are_masked_everywhere() -> None:
    """Secrets masks opaque tokens found in responses, JWTs by their form, and cookies by header field."""
    secrets = Secrets()
    secrets.add_from({"tokens": [{"access_token": "opaque-1"}], "user": {"token": "opaque-12"}})
    secrets.add("password123", "password")
    masked = secrets.mask("opaque-12 opaque-1 password123 eyJhbGciOiJI.eyJzdWIi.sig")
    assert masked == "‹token 2› ‹access_token 1› ‹password 3› ‹JWT›"
    assert secrets.header("Set-Cookie", "session=1") == "‹…›"
    assert secrets.excerpt("x" * 5000).endswith("… (+3000)")


@pytest.mark.parametrize(
    ("locale", "language"),
    [("ru_RU.UTF-8", "ru"), ("en_GB.UTF-8", "en"), ("C", "en"), ("", "en"), ("RU", "ru")],
)
def test_the_language_is_that_of_the_locale(locale: str, language: str) -> None:
    """A Russian locale gives Russian, every other locale English."""
    assert language_of(locale) == language
