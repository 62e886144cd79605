"""The two-user scenario of the checklist, and messages that appear without a reload."""

import json
from math import inf
from typing import Any

import trio

from adapters.checklist.accounts import RegisteredAccount
from adapters.checklist.client import Response
from adapters.checklist.judging import ChecklistRow, Probe
from adapters.checklist.phrases import Phrase, joined, verbatim
from adapters.checklist.rows.events import frame_differences
from adapters.checklist.shapes import MESSAGE, brief, differences
from adapters.checklist.socket_client import RecordedSocket

BURST = 5


async def two_people(probe: Probe) -> None:
    """C10: register two people, open their chat, connect both, send: both receive the same event."""
    run = probe.run
    alice, bob = await run.account("Alice"), await run.account("Bob")
    for account in (alice, bob):
        _has_tag(probe, account)
    chat_id = await run.chat_of(alice, bob)
    async with run.socket(alice) as a, run.socket(bob) as b:
        marker = run.marker()
        response, message = await run.say(alice, chat_id, f"Hello Bob! {marker}")
        run.facts.update(user=str(alice.id), other=str(bob.id), chat=str(chat_id), message=str(message["id"]))
        probe.expect_status(response, 201, 200)
        found = differences(message, MESSAGE)
        if found:
            expected = verbatim(f"{response.request}: {{{', '.join(MESSAGE)}}}")
            probe.add_finding(response, expected=expected, actual=joined(found))
        await _both_receive(probe, response, (a, b), marker)
        if not _has_form(probe, response, a, marker, message):
            return
        if json.loads(a.frames_with(marker)[0]) != json.loads(b.frames_with(marker)[0]):
            probe.add_finding(
                response,
                a,
                b,
                expected=Phrase("both receive the same event", "оба получают одно и то же событие"),
                actual=Phrase("two different events", "два разных события"),
            )


def _has_form(
    probe: Probe, response: Response, socket: RecordedSocket, marker: str, message: dict[str, Any]
) -> bool:
    """Whether the event has the form of C4, which owns the finding if not."""
    found, advice = frame_differences(socket.frames_with(marker)[0], "message.created", message)
    if found:
        expected = Phrase("an event in the form of row C4", "событие в форме из пункта C4")
        probe.add_finding(
            response, socket, expected=expected, actual=joined(found), advice=advice, owner="C4"
        )
    return not found


def _has_tag(probe: Probe, account: RegisteredAccount) -> None:
    tag = account.user.get("tag")
    if not isinstance(tag, str) or not tag:
        probe.add_finding(
            account.tokens.response,
            expected=Phrase("registration without a tag creates one", "регистрация без тега создаёт его"),
            actual=verbatim(f"tag = {brief(tag)}"),
        )
    elif not tag.startswith(account.name.lower()):
        probe.remark(
            Phrase(
                f"{account.name} got the tag {tag}, which does not resemble the name",
                f"{account.name}: тег {tag} не похож на имя",
            )
        )


async def _both_receive(
    probe: Probe, response: Response, sockets: tuple[RecordedSocket, ...], marker: str
) -> None:
    """End the row if a socket does not receive the marker in time; row C3 reports the fault itself."""
    with trio.move_on_after(probe.run.timeout):
        for socket in sockets:
            await socket.receives(marker, inf)
    deaf = [socket for socket in sockets if not socket.frames_with(marker)]
    if deaf:
        names = ", ".join(socket.exchange.label for socket in deaf)
        seconds = f"{probe.run.timeout:g}"
        probe.stop(
            response,
            *deaf,
            expected=Phrase(
                f"both receive the event within {seconds} s", f"оба получают событие за {seconds} с"
            ),
            actual=Phrase(f"not received by {names}", f"не получено: {names}"),
            owner="C3",
        )


async def live(probe: Probe) -> None:
    """P1: on open sockets, a chat that is created later and all its messages appear, in order."""
    run = probe.run
    alice, dave = await run.account("Alice"), await run.account("Dave")
    async with run.socket(alice) as a, run.socket(dave) as d:
        chat_id = await run.chat_of(alice, dave)
        markers = [run.marker() for _ in range(BURST)]
        sent: list[int] = []
        for number, marker in enumerate(markers):
            author = (alice, dave)[number % 2]
            response, message = await run.say(author, chat_id, f"{number + 1} {marker}")
            sent.append(message["id"])
            if number in {0, BURST - 1}:
                await _both_receive(probe, response, (a, d), marker)
                _has_form(probe, response, d, marker, message)
        for socket in (a, d):
            _in_order(probe, socket, markers)
    await _history(probe, dave, chat_id, sent)


def _in_order(probe: Probe, socket: RecordedSocket, markers: list[str]) -> None:
    received = [n for frame in socket.frames for n, marker in enumerate(markers, 1) if marker in frame]
    wanted = list(range(1, len(markers) + 1))
    if list(dict.fromkeys(received)) != wanted:
        probe.add_finding(
            socket,
            expected=Phrase(f"the messages {wanted}, in this order", f"сообщения {wanted} в этом порядке"),
            actual=Phrase(
                f"{socket.exchange.label} received {received}", f"{socket.exchange.label} получает {received}"
            ),
        )


async def _history(probe: Probe, reader: RegisteredAccount, chat_id: int, sent: list[int]) -> None:
    response = await probe.run.client.request("GET", f"/messages?chat_id={chat_id}", token=reader.token)
    if not probe.expect_status(response, 200, what=Phrase("the history", "история")):
        return
    body = response.json
    shown = [m.get("id") for m in body if isinstance(m, dict)] if isinstance(body, list) else None
    if shown != sent[::-1]:
        probe.add_finding(
            response,
            expected=Phrase(
                f"{response.request}: an array, newest first, {sent[::-1]}",
                f"{response.request}: массив, сначала новые, {sent[::-1]}",
            ),
            actual=verbatim(brief(body) if shown is None else shown),
        )


C10 = ChecklistRow(
    "C10",
    Phrase("The scenario of two people works", "Сценарий с двумя пользователями проходит"),
    Phrase(
        "Register two people, open their chat, connect both, send a message: both receive the same event.",
        "Зарегистрировать двоих, открыть чат, подключить обоих, отправить сообщение: оба получают одно и то "
        "же событие.",
    ),
    two_people,
)
P1 = ChecklistRow(
    "P1",
    Phrase("Messages appear without a reload", "Сообщения появляются без перезагрузки"),
    Phrase(
        "All messages appear in order, including the first message of a chat that is created while the page "
        "is open; a reload shows the same messages.",
        "Все сообщения появляются по порядку, в том числе первое сообщение чата, созданного при открытой "
        "странице; после перезагрузки видно то же самое.",
    ),
    live,
)
