"""The report: what it says in each form and language, and what it must not say."""

import json
import re
from xml.etree import ElementTree as ET

import jsonschema
import pytest
import trio

from adapters.checklist.judging import Verdict
from adapters.checklist.recording import Secrets
from adapters.checklist.report import FORMATS, exchanges_of
from adapters.checklist.rows import ROWS
from adapters.checklist.running import ORDER, Result
from adapters.checklist.words import LANGUAGES, Language, language_of
from tests.checklist import faults
from tests.checklist.checks import checked, rows, spoiled
from tests.checklist.faults import answers, frames, together

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
def whole() -> Result:
    """The result for our server as it is; made once, for it takes a second or two."""

    async def check() -> Result:
        async with spoiled() as server:
            return await checked(server, patience=2)

    return trio.run(check)


@pytest.fixture(scope="module")
def broken() -> Result:
    """The result for one that tells authors alone, closes before accepting, and rotates strictly."""

    async def check() -> Result:
        deaf = frames(lambda user, frame: [frame] if faults.author_of(frame) == user else [])
        refusing = faults.door({"type": "websocket.close", "code": 1008})
        cross = answers(faults.no_cors_on_401)
        async with spoiled(together(deaf, refusing, faults.StrictRotation, cross)) as server:
            return await checked(server)

    return trio.run(check)


def test_every_row_of_the_checklist_is_there() -> None:
    """The rows are those of the contract, each once, and each said in both languages."""
    assert sorted(row.id for row in ROWS) == sorted(ORDER)
    for row in ROWS:
        for text in (row.title, row.rule):
            assert re.search(r"[А-я]", text.ru), row.id
            assert not re.search(r"[А-я]", text.en), row.id


def test_our_server_holds(whole: Result) -> None:
    """Our own server passes: every row holds but the log's, which nobody can see from outside."""
    assert rows(whole, Verdict.HOLDS) == set(ORDER) - {"L"}
    assert rows(whole, Verdict.NOT_CHECKABLE) == {"L"}
    assert whole.holds


def test_several_faults_are_told_apart(broken: Result) -> None:
    """Each of several faults at once is named by its own row."""
    assert rows(broken, Verdict.FAILS) == {"C1", "C2", "C3", "P2"}
    assert rows(broken, Verdict.NOT_JUDGED) == {"C10", "P1"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_text(whole: Result, broken: Result, language: Language) -> None:
    """Text has the three marks that the checklist asks for, and says why a row was not judged."""
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
def test_json(whole: Result, broken: Result, language: Language) -> None:
    """JSON has one form, whatever the result; findings point at their exchanges."""
    for result in (whole, broken):
        told = json.loads(FORMATS["json"](result, language))
        jsonschema.validate(told, SCHEMA)
        assert told["holds"] is result.holds
        assert [row["id"] for row in told["rows"]] == list(ORDER)
        for row in told["rows"]:
            assert bool(row["findings"]) is (row["verdict"] == "fails")
            assert bool(row["needs"]) is (row["verdict"] == "not_judged")
            for finding in row["findings"]:
                assert all(0 <= number < len(row["exchanges"]) for number in finding["exchanges"])


@pytest.mark.parametrize("language", LANGUAGES)
def test_junit(whole: Result, broken: Result, language: Language) -> None:
    """JUnit counts what it holds: a test case a row, failures and skips with their reasons."""
    for result in (whole, broken):
        root = ET.fromstring(FORMATS["junit"](result, language))  # noqa: S314 - our own report
        (suite,) = root.findall("testsuite")
        assert len(suite.findall("testcase")) == int(suite.attrib["tests"]) == len(ORDER)
        assert len(suite.findall("testcase/failure")) == int(suite.attrib["failures"])
        assert len(suite.findall("testcase/skipped")) == int(suite.attrib["skipped"])
        assert int(suite.attrib["failures"]) == result.count(Verdict.FAILS)
        for failure in suite.iter("failure"):
            assert failure.attrib["message"]
            assert "→" in (failure.text or "")


@pytest.mark.parametrize("language", LANGUAGES)
def test_markdown(whole: Result, broken: Result, language: Language) -> None:
    """Markdown is a list to tick off, and its fences are closed."""
    for result in (whole, broken):
        told = FORMATS["markdown"](result, language)
        assert told.startswith("# messaging check http://127.0.0.1:")
        ticked = re.findall(r"^- \[x\] \*\*(\w+)\*\*", told, re.MULTILINE)
        assert set(ticked) == rows(result, Verdict.HOLDS)
        open_fence = ""
        for line in told.splitlines():
            fence = re.match(r"`{3,}", line)
            if fence and not open_fence:
                open_fence = fence[0]
            elif line == open_fence:
                open_fence = ""
        assert open_fence == ""


@pytest.mark.parametrize("form", FORMATS)
def test_no_report_holds_a_secret(broken: Result, form: str) -> None:
    """Tokens and passwords went over the wire, and stay out of the report; which token it was can be seen."""
    told = FORMATS[form](broken, "en")
    sent = [exchange for outcome in broken.outcomes for exchange in exchanges_of(outcome)]
    wire = " ".join(str(exchange) for exchange in sent)
    tokens = set(re.findall(r"eyJ[\w-]+\.[\w-]+\.[\w-]+", wire))
    assert tokens
    assert not [token for token in tokens if token in told]
    assert not re.search(r"eyJ[\w-]{8,}", told)
    assert "‹refresh_token" in told


def test_secrets_are_masked_everywhere() -> None:
    """Opaque tokens are known from the answers that brought them, JWTs by form, cookies by header."""
    secrets = Secrets()
    secrets.add_from({"tokens": [{"access_token": "opaque-1"}], "user": {"token": "opaque-12"}})
    secrets.add("password123", "password")
    told = secrets.mask("opaque-12 opaque-1 password123 eyJhbGciOiJI.eyJzdWIi.sig")
    assert told == "‹token 2› ‹access_token 1› ‹password 3› ‹JWT›"
    assert secrets.header("Set-Cookie", "session=1") == "‹…›"
    assert secrets.shown("x" * 5000).endswith("… (+3000)")


@pytest.mark.parametrize(
    ("locale", "language"),
    [("ru_RU.UTF-8", "ru"), ("en_GB.UTF-8", "en"), ("C", "en"), ("", "en"), ("RU", "ru")],
)
def test_the_language_is_that_of_the_locale(locale: str, language: str) -> None:
    """Russian where the locale is, English everywhere else."""
    assert language_of(locale) == language
