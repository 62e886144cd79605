"""The two-user scenario of the checklist, and messages that appear by themselves."""

import json
from math import inf
from typing import Any

import trio

from adapters.checklist.client import Answer
from adapters.checklist.judging import Probe, Row
from adapters.checklist.people import Person
from adapters.checklist.rows.events import frame_differences
from adapters.checklist.shapes import MESSAGE, brief, differences
from adapters.checklist.socket_client import Socket
from adapters.checklist.words import Text, joined, same

BURST = 5


async def two_people(probe: Probe) -> None:
    """C10: register, open the chat, connect both, send: both receive the same event."""
    world = probe.world
    alice, bob = await world.person("Alice"), await world.person("Bob")
    for person in (alice, bob):
        _has_tag(probe, person)
    chat_id = await world.chat_of(alice, bob)
    async with world.socket(alice) as a, world.socket(bob) as b:
        marker = world.marker()
        answer, message = await world.say(alice, chat_id, f"Hello Bob! {marker}")
        world.facts.update(
            user=str(alice.id), other=str(bob.id), chat=str(chat_id), message=str(message["id"])
        )
        probe.wants(answer, 201, 200)
        found = differences(message, MESSAGE)
        if found:
            expected = same(f"{answer.request}: {{{', '.join(MESSAGE)}}}")
            probe.fault(answer, expected=expected, came=joined(found))
        await _both_hear(probe, answer, (a, b), marker)
        if not _has_form(probe, answer, a, marker, message):
            return
        if json.loads(a.with_marker(marker)[0]) != json.loads(b.with_marker(marker)[0]):
            probe.fault(
                answer,
                a,
                b,
                expected=Text("both receive the same event", "оба получают одно и то же событие"),
                came=Text("two different ones", "два разных"),
            )


def _has_form(probe: Probe, answer: Answer, socket: Socket, marker: str, message: dict[str, Any]) -> bool:
    """Whether the client can read the event; where not, that is C4's."""
    told, advice = frame_differences(socket.with_marker(marker)[0], "message.created", message)
    if told:
        expected = Text("the event of C4", "событие по C4")
        probe.fault(answer, socket, expected=expected, came=joined(told), advice=advice, owner="C4")
    return not told


def _has_tag(probe: Probe, person: Person) -> None:
    tag = person.user.get("tag")
    if not isinstance(tag, str) or not tag:
        probe.fault(
            person.tokens.answer,
            expected=Text("registration without a tag makes one", "регистрация без тега создаёт его"),
            came=same(f"tag = {brief(tag)}"),
        )
    elif not tag.startswith(person.name.lower()):
        probe.remark(
            Text(
                f"{person.name} was given the tag {tag}, which the name does not show in",
                f"{person.name} получил тег {tag}, в котором не видно имени",
            )
        )


async def _both_hear(probe: Probe, answer: Answer, sockets: tuple[Socket, ...], marker: str) -> None:
    """Where one does not hear, that is C3's, unless C3 holds."""
    with trio.move_on_after(probe.world.timeout):
        for socket in sockets:
            await socket.hears(marker, inf)
    deaf = [socket for socket in sockets if not socket.with_marker(marker)]
    if deaf:
        names = ", ".join(socket.exchange.whose for socket in deaf)
        seconds = f"{probe.world.timeout:g}"
        probe.stop(
            answer,
            *deaf,
            expected=Text(f"both hear it within {seconds} s", f"оба узнают о нём за {seconds} с"),
            came=Text(f"not heard by {names}", f"не получено: {names}"),
            owner="C3",
        )


async def live(probe: Probe) -> None:
    """P1: with sockets open, a chat that is made later and all its messages appear, in order."""
    world = probe.world
    alice, dave = await world.person("Alice"), await world.person("Dave")
    async with world.socket(alice) as a, world.socket(dave) as d:
        chat_id = await world.chat_of(alice, dave)
        markers = [world.marker() for _ in range(BURST)]
        sent: list[int] = []
        for number, marker in enumerate(markers):
            author = (alice, dave)[number % 2]
            answer, message = await world.say(author, chat_id, f"{number + 1} {marker}")
            sent.append(message["id"])
            if number in {0, BURST - 1}:
                await _both_hear(probe, answer, (a, d), marker)
                _has_form(probe, answer, d, marker, message)
        for socket in (a, d):
            _in_order(probe, socket, markers)
    await _history(probe, dave, chat_id, sent)


def _in_order(probe: Probe, socket: Socket, markers: list[str]) -> None:
    heard = [number for frame in socket.frames for number, marker in enumerate(markers, 1) if marker in frame]
    wanted = list(range(1, len(markers) + 1))
    if list(dict.fromkeys(heard)) != wanted:
        probe.fault(
            socket,
            expected=Text(f"the messages {wanted}, in this order", f"сообщения {wanted} в этом порядке"),
            came=Text(f"{socket.exchange.whose} heard {heard}", f"{socket.exchange.whose}: {heard}"),
        )


async def _history(probe: Probe, reader: Person, chat_id: int, sent: list[int]) -> None:
    answer = await probe.world.client.request("GET", f"/messages?chat_id={chat_id}", token=reader.token)
    if not probe.wants(answer, 200, what=Text("the history", "история")):
        return
    body = answer.json
    shown = [m.get("id") for m in body if isinstance(m, dict)] if isinstance(body, list) else None
    if shown != sent[::-1]:
        probe.fault(
            answer,
            expected=Text(
                f"{answer.request}: a bare array, newest first, {sent[::-1]}",
                f"{answer.request}: массив, сначала новые, {sent[::-1]}",
            ),
            came=same(brief(body) if shown is None else shown),
        )


C10 = Row(
    "C10",
    Text("The scenario of two people works", "Сценарий с двумя пользователями проходит"),
    Text(
        "Register two people, open their chat, connect both, send a message: both receive the same event.",
        "Зарегистрировать двоих, открыть чат, подключить обоих, отправить сообщение: оба получают "
        "одно событие.",
    ),
    two_people,
)
P1 = Row(
    "P1",
    Text("Messages appear without a reload", "Сообщения появляются без перезагрузки"),
    Text(
        "Also the first message of a chat that was made while the page was open; all of them, in "
        "order, and a "
        "reload shows the same.",
        "В том числе первое сообщение чата, созданного при открытой странице; все, по порядку, и после "
        "перезагрузки видно то же самое.",
    ),
    live,
)
