"""The report in the checklist's form: what works, what does not, and the exchanges of the failed rows."""

import json
from collections.abc import Callable, Iterator, Mapping
from textwrap import wrap
from typing import Any
from xml.etree import ElementTree as ET

from adapters.checklist.findings import Finding
from adapters.checklist.judging import RowOutcome, RowVerdict
from adapters.checklist.phrases import Language, Phrase, joined, verbatim
from adapters.checklist.recording import Exchange, HttpExchange, Secrets, SocketLine
from adapters.checklist.running import CheckResult

WORKS = Phrase("What works", "Что работает")
FAILS = Phrase("What does not work", "Что не работает")
NOT_JUDGED = Phrase("Not judged", "Не проверено")
NOT_CHECKABLE = Phrase("Not checkable from outside", "Снаружи не проверить")
EXCHANGES = Phrase("Exchanges of the failed rows", "Обмен данными по неработающим пунктам")
EXPECTED, ACTUAL = Phrase("Expected", "Ожидалось"), Phrase("Actual", "Фактически")
ADVICE, NOTE = Phrase("Advice", "Совет"), Phrase("Note", "Примечание")

COLUMNS = 100
"""The width of a terminal, and of a code block in the documentation."""

MARKS = {
    RowVerdict.HOLDS: "✅",
    RowVerdict.FAILS: "❌",
    RowVerdict.NOT_JUDGED: "⏸",
    RowVerdict.NOT_CHECKABLE: "👀",
}
SECTIONS = (
    (RowVerdict.HOLDS, WORKS),
    (RowVerdict.FAILS, FAILS),
    (RowVerdict.NOT_JUDGED, NOT_JUDGED),
    (RowVerdict.NOT_CHECKABLE, NOT_CHECKABLE),
)
SOCKET_MARKS = {"opened": "⇄", "frame": "←", "closed": "✕", "refused": "✕", "failed": "✕"}


def heading(result: CheckResult) -> str:
    """The report's first line: the server and the time."""
    return f"messaging check {result.plan.base} — {result.began:%Y-%m-%d %H:%M:%SZ}"


def summary(result: CheckResult) -> Phrase:
    """The number of rows with each verdict, and the duration, in one line."""
    holds, fails = result.count(RowVerdict.HOLDS), result.count(RowVerdict.FAILS)
    skipped, unseen = result.count(RowVerdict.NOT_JUDGED), result.count(RowVerdict.NOT_CHECKABLE)
    seconds = f"{result.seconds:.1f}"
    return Phrase(
        f"{holds} hold, {fails} fail, {skipped} not judged, {unseen} not checkable from outside; {seconds} s",
        f"работает: {holds}, не работает: {fails}, не проверено: {skipped}, снаружи не проверить: {unseen}; "
        f"{seconds} с",
    )


def needs(outcome: RowOutcome) -> Phrase:
    """The reason why a row is not judged."""
    rows = ", ".join(outcome.needs)
    return Phrase(f"not judged: needs {rows}", f"не проверено: нужно {rows}")


# --- text ---------------------------------------------------------------------------------------------------


def as_text(result: CheckResult, language: Language) -> str:
    """The report for a terminal."""
    lines = [heading(result)]
    for verdict, title in SECTIONS:
        outcomes = [outcome for outcome in result.outcomes if outcome.verdict is verdict]
        if outcomes:
            lines += ["", f"{MARKS[verdict]} {title.into(language)}"]
        for outcome in outcomes:
            for line in _text_of(outcome, result.secrets, language):
                lines += wrap(f"  {line}", COLUMNS, subsequent_indent=" " * 9, break_long_words=False)
    failed = [outcome for outcome in result.outcomes if outcome.verdict is RowVerdict.FAILS]
    if failed:
        lines += ["", f"📋 {EXCHANGES.into(language)}"]
    for outcome in failed:
        for exchange in exchanges_of(outcome):
            lines.append("")
            first, *rest = exchange_lines(exchange, result.secrets)
            lines += [f"  {outcome.row.id:<4} {first}", *(f"       {line}" for line in rest)]
    lines += ["", summary(result).into(language), ""]
    return "\n".join(lines)


def _text_of(outcome: RowOutcome, secrets: Secrets, language: Language) -> Iterator[str]:
    yield f"{outcome.row.id:<4} {outcome.row.title.into(language)}"
    if outcome.needs:
        yield f"     {needs(outcome).into(language)}"
    for finding in outcome.findings if outcome.verdict is RowVerdict.FAILS else ():
        for name, text in _parts(finding):
            yield f"     {name.into(language)}: {secrets.mask(text.into(language))}"
    for remark in outcome.remarks:
        yield f"     {NOTE.into(language)}: {remark.into(language)}"


def _parts(finding: Finding) -> Iterator[tuple[Phrase, Phrase]]:
    yield EXPECTED, finding.expected
    yield ACTUAL, finding.actual
    if finding.advice is not None:
        yield ADVICE, finding.advice


def exchanges_of(outcome: RowOutcome) -> list[Exchange]:
    """The exchanges of the row's findings, each once, by time."""
    found = {id(exchange): exchange for finding in outcome.findings for exchange in finding.exchanges}
    return sorted(found.values(), key=lambda exchange: exchange.started)


def exchange_lines(exchange: Exchange, secrets: Secrets) -> list[str]:
    """An exchange as text, without secrets; times are seconds since the check began."""
    sent = [f"{name}: {secrets.header(name, value)}" for name, value in exchange.request_headers]
    if isinstance(exchange, HttpExchange):
        lines = [f"{exchange.started:.3f} → {exchange.method} {secrets.mask(exchange.url)}", *sent]
        if exchange.request_body:
            lines += secrets.excerpt(exchange.request_body).splitlines()
        if exchange.status is None:
            return [*lines, f"← — {exchange.error}"]
        lines.append(
            f"{exchange.started + exchange.seconds:.3f} ← {exchange.status} {exchange.reason}".rstrip()
        )
        lines += [f"{name}: {secrets.header(name, value)}" for name, value in exchange.response_headers]
        return lines + secrets.excerpt(exchange.response_body).splitlines()
    label = f" ({exchange.label})" if exchange.label else ""
    lines = [f"{exchange.started:.3f} → WebSocket {secrets.mask(exchange.url)}{label}", *sent]
    return lines + [_socket_line(line, secrets) for line in exchange.lines]


def _socket_line(line: SocketLine, secrets: Secrets) -> str:
    text = " ".join(secrets.excerpt(line.text).splitlines())
    return (
        f"{line.at:.3f} {SOCKET_MARKS[line.kind]} {text if line.kind == 'frame' else f'{line.kind} {text}'}"
    )


# --- markdown -----------------------------------------------------------------------------------------------


def as_markdown(result: CheckResult, language: Language) -> str:
    """The report for an issue, or for a chat with the other team."""
    lines = [f"# {heading(result)}", "", summary(result).into(language)]
    for verdict, title in SECTIONS:
        outcomes = [outcome for outcome in result.outcomes if outcome.verdict is verdict]
        if outcomes:
            lines += ["", f"## {MARKS[verdict]} {title.into(language)}", ""]
        for outcome in outcomes:
            lines += _markdown_of(outcome, result.secrets, language)
    failed = [outcome for outcome in result.outcomes if outcome.verdict is RowVerdict.FAILS]
    if failed:
        lines += ["", f"## 📋 {EXCHANGES.into(language)}"]
    for outcome in failed:
        lines += ["", f"### {outcome.row.id}"]
        for exchange in exchanges_of(outcome):
            text = "\n".join(exchange_lines(exchange, result.secrets))
            fence = "`" * max(3, _longest_run(text) + 1)
            lines += ["", f"{fence}http", text, fence]
    return "\n".join(lines) + "\n"


def _markdown_of(outcome: RowOutcome, secrets: Secrets, language: Language) -> list[str]:
    ticked = "x" if outcome.verdict is RowVerdict.HOLDS else " "
    lines = [f"- [{ticked}] **{outcome.row.id}** {_escaped(outcome.row.title.into(language))}"]
    if outcome.needs:
        lines.append(f"  - {needs(outcome).into(language)}")
    for finding in outcome.findings if outcome.verdict is RowVerdict.FAILS else ():
        for name, text in _parts(finding):
            lines.append(f"  - {name.into(language)}: {_escaped(secrets.mask(text.into(language)))}")
    lines += [f"  - {NOTE.into(language)}: {_escaped(remark.into(language))}" for remark in outcome.remarks]
    return lines


def _escaped(text: str) -> str:
    return "".join(f"\\{character}" if character in "\\`*_<>[]|#" else character for character in text)


def _longest_run(text: str) -> int:
    """The length of the longest run of backticks; a fence must be longer."""
    longest = run = 0
    for character in text:
        run = run + 1 if character == "`" else 0
        longest = max(longest, run)
    return longest


# --- JSON ---------------------------------------------------------------------------------------------------


def as_json(result: CheckResult, language: Language) -> str:
    """The report for programs: every row with its findings and exchanges."""
    document = {
        "url": result.plan.base,
        "checked_at": f"{result.began:%Y-%m-%dT%H:%M:%SZ}",
        "seconds": round(result.seconds, 3),
        "language": language,
        "holds": result.holds,
        "summary": {verdict.value: result.count(verdict) for verdict in RowVerdict},
        "rows": [_json_of(outcome, result.secrets, language) for outcome in result.outcomes],
    }
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def _json_of(outcome: RowOutcome, secrets: Secrets, language: Language) -> dict[str, Any]:
    failed = outcome.verdict is RowVerdict.FAILS
    exchanges = exchanges_of(outcome) if failed else []

    def finding(found: Finding) -> dict[str, Any]:
        return {
            "expected": secrets.mask(found.expected.into(language)),
            "came": secrets.mask(found.actual.into(language)),
            "advice": None if found.advice is None else found.advice.into(language),
            "exchanges": [exchanges.index(exchange) for exchange in found.exchanges],
        }

    return {
        "id": outcome.row.id,
        "title": outcome.row.title.into(language),
        "rule": outcome.row.rule.into(language),
        "verdict": outcome.verdict.value,
        "needs": list(outcome.needs),
        "seconds": round(outcome.seconds, 3),
        "findings": [finding(found) for found in outcome.findings] if failed else [],
        "remarks": [remark.into(language) for remark in outcome.remarks],
        "exchanges": [_json_exchange(exchange, secrets) for exchange in exchanges],
    }


def _json_exchange(exchange: Exchange, secrets: Secrets) -> dict[str, Any]:
    def headers(fields: tuple[tuple[str, str], ...]) -> list[list[str]]:
        return [[name, secrets.header(name, value)] for name, value in fields]

    common = {
        "at": round(exchange.started, 3),
        "url": secrets.mask(exchange.url),
        "request_headers": headers(exchange.request_headers),
    }
    if isinstance(exchange, HttpExchange):
        return {
            "kind": "http",
            **common,
            "method": exchange.method,
            "request_body": secrets.excerpt(exchange.request_body),
            "status": exchange.status,
            "error": exchange.error,
            "response_headers": headers(exchange.response_headers),
            "response_body": secrets.excerpt(exchange.response_body),
            "seconds": round(exchange.seconds, 3),
        }
    lines = [
        {"at": round(line.at, 3), "kind": line.kind, "text": secrets.excerpt(line.text)}
        for line in exchange.lines
    ]
    return {"kind": "socket", **common, "whose": exchange.label, "lines": lines}


# --- JUnit --------------------------------------------------------------------------------------------------


def as_junit(result: CheckResult, language: Language) -> str:
    """The report for CI: each row is a test case."""
    fails, not_judged = result.count(RowVerdict.FAILS), result.count(RowVerdict.NOT_JUDGED)
    numbers = {
        "tests": str(len(result.outcomes)),
        "failures": str(fails),
        "errors": "0",
        "skipped": str(not_judged + result.count(RowVerdict.NOT_CHECKABLE)),
        "time": f"{result.seconds:.3f}",
    }
    root = ET.Element("testsuites", numbers)
    name = f"messaging check {result.plan.base}"
    stamp = {"timestamp": f"{result.began:%Y-%m-%dT%H:%M:%S}"}
    suite = ET.SubElement(root, "testsuite", {"name": name, **stamp, **numbers})
    for outcome in result.outcomes:
        _junit_of(outcome, suite, result.secrets, language)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _junit_of(outcome: RowOutcome, suite: ET.Element, secrets: Secrets, language: Language) -> None:
    name = f"{outcome.row.id} {outcome.row.title.into(language)}"
    case = ET.SubElement(
        suite, "testcase", {"classname": "checklist", "name": name, "time": f"{outcome.seconds:.3f}"}
    )
    match outcome.verdict:
        case RowVerdict.FAILS:
            found = joined(
                (
                    joined((name + verbatim(": ") + text for name, text in _parts(finding)), ". ")
                    for finding in outcome.findings
                ),
                "\n",
            ).into(language)
            wire = "\n\n".join("\n".join(exchange_lines(e, secrets)) for e in exchanges_of(outcome))
            failure = ET.SubElement(case, "failure", {"message": _xml(secrets.mask(found.split("\n")[0]))})
            failure.text = _xml(f"{secrets.mask(found)}\n\n{wire}")
        case RowVerdict.NOT_JUDGED:
            ET.SubElement(case, "skipped", {"message": needs(outcome).into(language)})
        case RowVerdict.NOT_CHECKABLE:
            ET.SubElement(case, "skipped", {"message": NOT_CHECKABLE.into(language)})
        case RowVerdict.HOLDS:
            pass
    if outcome.remarks:
        remarks = "\n".join(remark.into(language) for remark in outcome.remarks)
        ET.SubElement(case, "system-out").text = _xml(remarks)


def _xml(text: str) -> str:
    """The text with a replacement for each character that XML does not allow, even escaped."""
    return "".join(
        c if c in "\t\n" or " " <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd" or c > "\uffff" else "�"
        for c in text
    )


FORMATS: Mapping[str, Callable[[CheckResult, Language], str]] = {
    "text": as_text,
    "json": as_json,
    "markdown": as_markdown,
    "junit": as_junit,
}
