"""The report that the checklist asks for: what works, what does not, and the exchange of what failed."""

import json
from collections.abc import Callable, Iterator, Mapping
from textwrap import wrap
from typing import Any
from xml.etree import ElementTree as ET

from adapters.checklist.judging import Outcome, Verdict
from adapters.checklist.recording import Exchange, HttpExchange, Secrets, SocketLine
from adapters.checklist.running import Result
from adapters.checklist.stopping import Finding
from adapters.checklist.words import Language, Text, joined, same

WORKS = Text("What works", "Что работает")
FAILS = Text("What does not work", "Что не работает")
NOT_JUDGED = Text("Not judged", "Не проверено")
NOT_CHECKABLE = Text("Not checkable from outside", "Снаружи не проверить")
EXCHANGES = Text("The exchanges of what failed", "Обмен в том, что не работает")
EXPECTED, CAME, ADVICE = Text("Expected", "Ожидалось"), Text("Came", "Пришло"), Text("Advice", "Совет")
NOTE = Text("Note", "Примечание")

COLUMNS = 100
"""What fits a terminal, and a page of documentation."""

MARKS = {Verdict.HOLDS: "✅", Verdict.FAILS: "❌", Verdict.NOT_JUDGED: "⏸", Verdict.NOT_CHECKABLE: "👀"}
SECTIONS = (
    (Verdict.HOLDS, WORKS),
    (Verdict.FAILS, FAILS),
    (Verdict.NOT_JUDGED, NOT_JUDGED),
    (Verdict.NOT_CHECKABLE, NOT_CHECKABLE),
)
SOCKET_MARKS = {"opened": "⇄", "frame": "←", "closed": "✕", "refused": "✕", "failed": "✕"}


def heading(result: Result) -> str:
    """The first line: what was checked, and when."""
    return f"messaging check {result.plan.base} — {result.began:%Y-%m-%d %H:%M:%SZ}"


def summary(result: Result) -> Text:
    """One sentence on all rows."""
    holds, fails = result.count(Verdict.HOLDS), result.count(Verdict.FAILS)
    waiting, unseen = result.count(Verdict.NOT_JUDGED), result.count(Verdict.NOT_CHECKABLE)
    seconds = f"{result.seconds:.1f}"
    return Text(
        f"{holds} hold, {fails} fail, {waiting} not judged, {unseen} not checkable from outside; {seconds} s",
        f"работает: {holds}, не работает: {fails}, не проверено: {waiting}, снаружи не проверить: {unseen}; "
        f"{seconds} с",
    )


def needs(outcome: Outcome) -> Text:
    """Why a row was not judged."""
    rows = ", ".join(outcome.needs)
    return Text(f"not judged: needs {rows}", f"не проверено: нужно {rows}")


# --- text ---------------------------------------------------------------------------------------------------


def as_text(result: Result, language: Language) -> str:
    """For a terminal."""
    lines = [heading(result)]
    for verdict, title in SECTIONS:
        outcomes = [outcome for outcome in result.outcomes if outcome.verdict is verdict]
        if outcomes:
            lines += ["", f"{MARKS[verdict]} {title.into(language)}"]
        for outcome in outcomes:
            for line in _text_of(outcome, result.secrets, language):
                lines += wrap(f"  {line}", COLUMNS, subsequent_indent=" " * 9, break_long_words=False)
    failed = [outcome for outcome in result.outcomes if outcome.verdict is Verdict.FAILS]
    if failed:
        lines += ["", f"📋 {EXCHANGES.into(language)}"]
    for outcome in failed:
        for exchange in exchanges_of(outcome):
            lines.append("")
            first, *rest = exchange_lines(exchange, result.secrets)
            lines += [f"  {outcome.row.id:<4} {first}", *(f"       {line}" for line in rest)]
    lines += ["", summary(result).into(language), ""]
    return "\n".join(lines)


def _text_of(outcome: Outcome, secrets: Secrets, language: Language) -> Iterator[str]:
    yield f"{outcome.row.id:<4} {outcome.row.title.into(language)}"
    if outcome.needs:
        yield f"     {needs(outcome).into(language)}"
    for finding in outcome.findings if outcome.verdict is Verdict.FAILS else ():
        for name, told in _parts(finding):
            yield f"     {name.into(language)}: {secrets.mask(told.into(language))}"
    for remark in outcome.remarks:
        yield f"     {NOTE.into(language)}: {remark.into(language)}"


def _parts(finding: Finding) -> Iterator[tuple[Text, Text]]:
    yield EXPECTED, finding.expected
    yield CAME, finding.came
    if finding.advice is not None:
        yield ADVICE, finding.advice


def exchanges_of(outcome: Outcome) -> list[Exchange]:
    """What went over the wire where the row failed, each exchange once, in order of time."""
    found = {id(exchange): exchange for finding in outcome.findings for exchange in finding.exchanges}
    return sorted(found.values(), key=lambda exchange: exchange.started)


def exchange_lines(exchange: Exchange, secrets: Secrets) -> list[str]:
    """An exchange for people, without its secrets; times are seconds since the check began."""
    sent = [f"{name}: {secrets.header(name, value)}" for name, value in exchange.request_headers]
    if isinstance(exchange, HttpExchange):
        lines = [f"{exchange.started:.3f} → {exchange.method} {secrets.mask(exchange.url)}", *sent]
        if exchange.request_body:
            lines += secrets.shown(exchange.request_body).splitlines()
        if exchange.status is None:
            return [*lines, f"← — {exchange.error}"]
        lines.append(
            f"{exchange.started + exchange.seconds:.3f} ← {exchange.status} {exchange.reason}".rstrip()
        )
        lines += [f"{name}: {secrets.header(name, value)}" for name, value in exchange.response_headers]
        return lines + secrets.shown(exchange.response_body).splitlines()
    whose = f" ({exchange.whose})" if exchange.whose else ""
    lines = [f"{exchange.started:.3f} → WebSocket {secrets.mask(exchange.url)}{whose}", *sent]
    return lines + [_socket_line(line, secrets) for line in exchange.lines]


def _socket_line(line: SocketLine, secrets: Secrets) -> str:
    told = " ".join(secrets.shown(line.told).splitlines())
    return (
        f"{line.at:.3f} {SOCKET_MARKS[line.kind]} {told if line.kind == 'frame' else f'{line.kind} {told}'}"
    )


# --- markdown -----------------------------------------------------------------------------------------------


def as_markdown(result: Result, language: Language) -> str:
    """For an issue or a chat with the other team."""
    lines = [f"# {heading(result)}", "", summary(result).into(language)]
    for verdict, title in SECTIONS:
        outcomes = [outcome for outcome in result.outcomes if outcome.verdict is verdict]
        if outcomes:
            lines += ["", f"## {MARKS[verdict]} {title.into(language)}", ""]
        for outcome in outcomes:
            lines += _markdown_of(outcome, result.secrets, language)
    failed = [outcome for outcome in result.outcomes if outcome.verdict is Verdict.FAILS]
    if failed:
        lines += ["", f"## 📋 {EXCHANGES.into(language)}"]
    for outcome in failed:
        lines += ["", f"### {outcome.row.id}"]
        for exchange in exchanges_of(outcome):
            told = "\n".join(exchange_lines(exchange, result.secrets))
            fence = "`" * max(3, _longest_run(told) + 1)
            lines += ["", f"{fence}http", told, fence]
    return "\n".join(lines) + "\n"


def _markdown_of(outcome: Outcome, secrets: Secrets, language: Language) -> list[str]:
    ticked = "x" if outcome.verdict is Verdict.HOLDS else " "
    lines = [f"- [{ticked}] **{outcome.row.id}** {_escaped(outcome.row.title.into(language))}"]
    if outcome.needs:
        lines.append(f"  - {needs(outcome).into(language)}")
    for finding in outcome.findings if outcome.verdict is Verdict.FAILS else ():
        for name, told in _parts(finding):
            lines.append(f"  - {name.into(language)}: {_escaped(secrets.mask(told.into(language)))}")
    lines += [f"  - {NOTE.into(language)}: {_escaped(remark.into(language))}" for remark in outcome.remarks]
    return lines


def _escaped(told: str) -> str:
    return "".join(f"\\{character}" if character in "\\`*_<>[]|#" else character for character in told)


def _longest_run(told: str) -> int:
    longest = run = 0
    for character in told:
        run = run + 1 if character == "`" else 0
        longest = max(longest, run)
    return longest


# --- JSON ---------------------------------------------------------------------------------------------------


def as_json(result: Result, language: Language) -> str:
    """For programs: every row, with its findings and their exchanges."""
    told = {
        "url": result.plan.base,
        "checked_at": f"{result.began:%Y-%m-%dT%H:%M:%SZ}",
        "seconds": round(result.seconds, 3),
        "language": language,
        "holds": result.holds,
        "summary": {verdict.value: result.count(verdict) for verdict in Verdict},
        "rows": [_json_of(outcome, result.secrets, language) for outcome in result.outcomes],
    }
    return json.dumps(told, ensure_ascii=False, indent=2) + "\n"


def _json_of(outcome: Outcome, secrets: Secrets, language: Language) -> dict[str, Any]:
    failed = outcome.verdict is Verdict.FAILS
    exchanges = exchanges_of(outcome) if failed else []

    def finding(found: Finding) -> dict[str, Any]:
        return {
            "expected": secrets.mask(found.expected.into(language)),
            "came": secrets.mask(found.came.into(language)),
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
    def headers(told: tuple[tuple[str, str], ...]) -> list[list[str]]:
        return [[name, secrets.header(name, value)] for name, value in told]

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
            "request_body": secrets.shown(exchange.request_body),
            "status": exchange.status,
            "error": exchange.error,
            "response_headers": headers(exchange.response_headers),
            "response_body": secrets.shown(exchange.response_body),
            "seconds": round(exchange.seconds, 3),
        }
    lines = [
        {"at": round(line.at, 3), "kind": line.kind, "told": secrets.shown(line.told)}
        for line in exchange.lines
    ]
    return {"kind": "socket", **common, "whose": exchange.whose, "lines": lines}


# --- JUnit --------------------------------------------------------------------------------------------------


def as_junit(result: Result, language: Language) -> str:
    """For CI: a row is a test case."""
    fails, waiting = result.count(Verdict.FAILS), result.count(Verdict.NOT_JUDGED)
    numbers = {
        "tests": str(len(result.outcomes)),
        "failures": str(fails),
        "errors": "0",
        "skipped": str(waiting + result.count(Verdict.NOT_CHECKABLE)),
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


def _junit_of(outcome: Outcome, suite: ET.Element, secrets: Secrets, language: Language) -> None:
    name = f"{outcome.row.id} {outcome.row.title.into(language)}"
    case = ET.SubElement(
        suite, "testcase", {"classname": "checklist", "name": name, "time": f"{outcome.seconds:.3f}"}
    )
    match outcome.verdict:
        case Verdict.FAILS:
            found = joined(
                (
                    joined((name + same(": ") + told for name, told in _parts(finding)), ". ")
                    for finding in outcome.findings
                ),
                "\n",
            ).into(language)
            wire = "\n\n".join("\n".join(exchange_lines(e, secrets)) for e in exchanges_of(outcome))
            failure = ET.SubElement(case, "failure", {"message": _xml(secrets.mask(found.split("\n")[0]))})
            failure.text = _xml(f"{secrets.mask(found)}\n\n{wire}")
        case Verdict.NOT_JUDGED:
            ET.SubElement(case, "skipped", {"message": needs(outcome).into(language)})
        case Verdict.NOT_CHECKABLE:
            ET.SubElement(case, "skipped", {"message": NOT_CHECKABLE.into(language)})
        case Verdict.HOLDS:
            pass
    if outcome.remarks:
        told = "\n".join(remark.into(language) for remark in outcome.remarks)
        ET.SubElement(case, "system-out").text = _xml(told)


def _xml(told: str) -> str:
    """Without the characters that XML cannot hold in any form."""
    return "".join(
        c if c in "\t\n" or " " <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd" or c > "\uffff" else "�"
        for c in told
    )


FORMATS: Mapping[str, Callable[[Result, Language], str]] = {
    "text": as_text,
    "json": as_json,
    "markdown": as_markdown,
    "junit": as_junit,
}
