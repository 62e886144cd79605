"""What arrives on the sockets: with whom, and in which form."""

import json
from collections.abc import Iterable
from contextlib import AsyncExitStack
from math import inf
from typing import Any

import trio
from attrs import frozen

from adapters.checklist.client import Answer, new_key
from adapters.checklist.judging import Probe, Row
from adapters.checklist.people import Person
from adapters.checklist.shapes import MESSAGE, brief, differences
from adapters.checklist.socket_client import Socket
from adapters.checklist.words import Text, joined, same

QUIET_SECONDS = 0.5
"""How long a row listens for what should not come."""


@frozen(eq=False)
class Tab:
    """A socket and the person in front of it."""

    person: Person
    socket: Socket


async def everyone(probe: Probe) -> None:
    """C3: two tabs of each participant and another device hear each message in time; nobody else does."""
    world = probe.world
    alice, bob, carol = await world.person("Alice"), await world.person("Bob"), await world.person("Carol")
    chat_id = await world.chat_of(alice, bob)
    async with AsyncExitStack() as stack:
        tabs = []
        for person in (alice, bob):
            for number in (1, 2):
                socket = await stack.enter_async_context(world.socket(person, f" #{number}"))
                tabs.append(Tab(person, socket))
        with probe.part():
            tabs.append(await _device(probe, stack, bob))
        outsider = await stack.enter_async_context(world.socket(carol))
        markers = []
        for author in (alice, bob):
            markers.append(world.marker())
            answer, _ = await world.say(author, chat_id, f"Hello from {author.name}! {markers[-1]}")
            missed = await _missed(probe, tabs, markers[-1])
            if missed:
                _tell_missed(probe, author, answer, missed, tabs)
                break
        await outsider.hears(markers[-1], min(QUIET_SECONDS, world.timeout / 4))
        if any(outsider.with_marker(marker) for marker in markers):
            _tell_overheard(probe, carol, outsider)


def _tell_overheard(probe: Probe, person: Person, socket: Socket) -> None:
    probe.fault(
        socket,
        expected=Text("nobody outside the chat hears it", "никто вне чата этого не получает"),
        came=Text(
            f"{person.name}, who is not in the chat, received the event",
            f"{person.name} не состоит в чате, но событие пришло",
        ),
        advice=Text(
            "Send to the participants of the chat, not to every socket that is open.",
            "Отправляйте участникам чата, а не во все открытые сокеты.",
        ),
    )


async def _device(probe: Probe, stack: AsyncExitStack, person: Person) -> Tab:
    tokens = await probe.world.log_in(person)
    socket = probe.world.socket(person, " #3", tokens.access_token)
    return Tab(person, await stack.enter_async_context(socket))


async def _missed(probe: Probe, tabs: Iterable[Tab], marker: str) -> list[Tab]:
    """The tabs that have not heard it when the time is over, which is the same for all of them."""
    with trio.move_on_after(probe.world.timeout):
        for tab in tabs:
            await tab.socket.hears(marker, inf)
    return [tab for tab in tabs if not tab.socket.with_marker(marker)]


def _tell_missed(probe: Probe, author: Person, answer: Answer, missed: list[Tab], tabs: list[Tab]) -> None:
    names = ", ".join(tab.socket.exchange.whose for tab in missed)
    seconds = f"{probe.world.timeout:g}"
    probe.fault(
        answer,
        *(tab.socket for tab in missed[:2]),
        expected=Text(
            f"every open socket of every participant hears of the message within {seconds} s, the "
            f"author's too",
            f"каждый открытый сокет каждого участника, включая автора, узнаёт о сообщении за {seconds} с",
        ),
        came=Text(
            f"{author.name} wrote, and {len(missed)} of {len(tabs)} sockets heard nothing: {names}",
            f"{author.name} пишет, и {len(missed)} из {len(tabs)} сокетов ничего не получают: {names}",
        ),
        advice=_diagnosis(author, missed, tabs),
    )


def _diagnosis(author: Person, missed: list[Tab], tabs: list[Tab]) -> Text:
    own = [tab for tab in tabs if tab.person is author]
    if all(tab in missed for tab in tabs):
        return Text(
            "Nobody hears it: after the commit, send message.created to the sockets of all participants.",
            "Не получает никто: после фиксации отправьте message.created в сокеты всех участников.",
        )
    if {id(tab) for tab in missed} == {id(tab) for tab in tabs} - {id(tab) for tab in own}:
        return Text(
            "Only the author hears it: look up the chat's participants, and send to each who is online.",
            "Получает только автор: найдите участников чата и отправьте каждому, кто онлайн.",
        )
    if {id(tab) for tab in missed} == {id(tab) for tab in own}:
        return Text(
            "The author is left out: the client rolls a message back that its own socket has not "
            "seen in 2 s.",
            "Автор пропущен: клиент откатывает сообщение, которого его сокет не увидел за 2 с.",
        )
    return Text(
        "Keep a set of sockets for each user: a second tab or device must not replace the first.",
        "Храните множество сокетов на пользователя: вторая вкладка или устройство не должны "
        "вытеснять первую.",
    )


async def form(probe: Probe) -> None:
    """C4: the event has the envelope and the seven keys, and a plain socket hears of nothing else."""
    world = probe.world
    alice, bob = await world.person("Alice"), await world.person("Bob")
    chat_id = await world.chat_of(alice, bob)
    async with world.socket(alice) as a, world.socket(bob) as b:
        sockets = (a, b)
        created = world.marker()
        answer, message = await world.say(alice, chat_id, f"Hello World! {created}")
        await _told(probe, answer, sockets, created)
        _check(probe, answer, sockets, created, ("message.created", message))
        updated = world.marker()
        await _edit(probe, alice, message, updated, sockets)
        await _stir(probe, bob, chat_id, message)
        with probe.part():
            async with world.socket(bob, " #2"):
                pass
        await a.closes(min(QUIET_SECONDS, world.timeout / 4))
        for socket in sockets:
            await socket.answers(world.timeout)
            _nothing_else(probe, socket, (created, updated))


async def _told(probe: Probe, answer: Answer, sockets: tuple[Socket, ...], marker: str) -> None:
    """Wait until it has been heard; that nobody does is C3's."""
    told = await _heard_by(probe, sockets, marker)
    if not told:
        probe.stop(
            answer,
            *sockets,
            expected=Text("an event for a message, on any socket", "событие о сообщении хоть в одном сокете"),
            came=Text("nothing", "ничего"),
            owner="C3",
        )


async def _heard_by(probe: Probe, sockets: tuple[Socket, ...], marker: str) -> list[Socket]:
    """Those that have heard it by the time that the first has, and the others have answered a ping since."""

    async def listen(socket: Socket) -> None:
        if await socket.hears(marker, probe.world.timeout):
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for socket in sockets:
            nursery.start_soon(listen, socket)
    if any(socket.with_marker(marker) for socket in sockets):
        for socket in sockets:
            await socket.answers(probe.world.timeout)
    return [socket for socket in sockets if socket.with_marker(marker)]


def _check(
    probe: Probe,
    answer: Answer,
    sockets: tuple[Socket, ...],
    marker: str,
    wanted: tuple[str, dict[str, Any]],
) -> None:
    """The frame of this event and message, in each form that it took on the sockets that heard it."""
    event, message = wanted
    forms = {frame: socket for socket in sockets for frame in socket.with_marker(marker)[:1]}
    for frame, socket in forms.items():
        found, advice = frame_differences(frame, event, message)
        if found:
            probe.fault(
                answer,
                socket,
                expected=same(f'{{"event": "{event}", "data": {{{", ".join(MESSAGE)}}}}}'),
                came=joined(found),
                advice=advice,
            )


ENVELOPE = Text(
    'Send {"event": …, "data": message}, not the message by itself.',
    'Отправляйте {"event": …, "data": сообщение}, а не само сообщение.',
)


def frame_differences(frame: str, event: str, message: dict[str, Any]) -> tuple[list[Text], Text | None]:
    """How a frame differs from the event of this message, and what to do about it."""
    try:
        told = json.loads(frame)
    except ValueError:
        return [
            Text(f"no JSON text frame: {brief(frame)}", f"не текстовый кадр с JSON: {brief(frame)}")
        ], None
    if not isinstance(told, dict) or "event" not in told or not isinstance(told.get("data"), dict):
        bare = isinstance(told, dict) and "content" in told
        without = Text("the message by itself, without the envelope", "само сообщение, без обёртки")
        return [
            without if bare else Text(f"no envelope: {brief(frame)}", f"без обёртки: {brief(frame)}")
        ], ENVELOPE
    found = []
    if told["event"] != event:
        found.append(same(f"event = {brief(told['event'])}"))
    others = sorted(set(told) - {"event", "data"})
    if others:
        found.append(
            Text(f"other root keys: {', '.join(others)}", f"лишние ключи в корне: {', '.join(others)}")
        )
    return found + _data_differences(told["data"], message), None


def _data_differences(data: dict[str, Any], message: dict[str, Any]) -> list[Text]:
    found = differences(data, MESSAGE)
    others = sorted(set(data) - set(MESSAGE))
    if others:
        found.append(
            Text(f"other keys in data: {', '.join(others)}", f"лишние ключи в data: {', '.join(others)}")
        )
    for key in MESSAGE:
        if key in data and key in message and data[key] != message[key]:
            values = f"{key}: {brief(data[key])} ≠ {brief(message[key])}"
            found.append(Text(f"not what POST answered, {values}", f"не то, что ответил POST, {values}"))
    return found


async def _edit(
    probe: Probe, author: Person, message: dict[str, Any], marker: str, sockets: tuple[Socket, ...]
) -> None:
    answer = await probe.world.client.request(
        "PATCH",
        f"/messages/{message['id']}",
        token=author.token,
        key=new_key(),
        body={"content": f"Hello again! {marker}"},
    )
    if not answer.ok:
        probe.remark(
            Text("message.updated was not seen: ", "message.updated не проверялось: ")
            + same(f"{answer.request} → {answer.status}")
        )
        return
    told = await _heard_by(probe, sockets, marker)
    if not told:
        probe.fault(
            answer,
            *sockets,
            expected=Text("message.updated after an edit", "message.updated после правки"),
            came=Text("nothing", "ничего"),
        )
    current = answer.json if isinstance(answer.json, dict) else {}
    _check(probe, answer, sockets, marker, ("message.updated", current))


async def _stir(probe: Probe, person: Person, chat_id: int, message: dict[str, Any]) -> None:
    """Things that other events tell of, where the server has them; whether it has is no matter here."""
    for path, body in (
        (f"/chats/{chat_id}/read", {"message_id": message["id"]}),
        ("/presence/typing", {"chat_id": chat_id, "is_typing": True}),
    ):
        await probe.world.client.request("POST", path, token=person.token, key=new_key(), body=body)


def _nothing_else(probe: Probe, socket: Socket, markers: tuple[str, ...]) -> None:
    others = [frame for frame in socket.frames if not any(marker in frame for marker in markers)]
    twice = [marker for marker in markers if len(socket.with_marker(marker)) > 1]
    if others:
        quoted = ", ".join(brief(frame) for frame in others[:3])
        probe.fault(
            socket,
            expected=Text(
                "a plain socket receives message.created and message.updated, and nothing else",
                "простой сокет получает message.created и message.updated и ничего больше",
            ),
            came=Text(f"{len(others)} other frames: {quoted}", f"других кадров: {len(others)}: {quoted}"),
            advice=Text(
                "No greetings, pings as JSON or other events: the known client takes every frame "
                "for a message.",
                "Никаких приветствий, JSON-пингов и других событий: известный клиент любой кадр примет за "
                "сообщение.",
            ),
        )
    if twice:
        probe.fault(
            socket,
            expected=Text("each event once on a socket", "каждое событие в сокете один раз"),
            came=Text("the same event twice", "одно и то же событие дважды"),
        )


C3 = Row(
    "C3",
    Text(
        "A message reaches every participant online, the author too",
        "Сообщение получают все участники онлайн, и автор",
    ),
    Text(
        "On every socket that they have open (two tabs, two devices), within 2 s; nobody else hears it.",
        "В каждом их открытом сокете (две вкладки, два устройства), за 2 с; посторонние не получают ничего.",
    ),
    everyone,
)
C4 = Row(
    "C4",
    Text("Events have the form that the frontend expects", "События имеют формат, которого ждёт фронтенд"),
    Text(
        '{"event": "message.created" or "message.updated", "data": the full message}, and nothing '
        "else arrives.",
        '{"event": "message.created" или "message.updated", "data": сообщение целиком}, и больше ничего.',
    ),
    form,
)
