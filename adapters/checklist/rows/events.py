"""Events: which sockets receive them, and in which form."""

import json
from collections.abc import Iterable
from contextlib import AsyncExitStack
from math import inf
from typing import Any

import trio
from attrs import frozen

from adapters.checklist.accounts import RegisteredAccount
from adapters.checklist.client import Response, new_key
from adapters.checklist.judging import ChecklistRow, Probe
from adapters.checklist.phrases import Phrase, joined, verbatim
from adapters.checklist.shapes import MESSAGE, brief, differences
from adapters.checklist.socket_client import RecordedSocket

QUIET_SECONDS = 0.5
"""How long a row waits for events that must not arrive."""


@frozen(eq=False)
class AccountSocket:
    """A socket and its account."""

    account: RegisteredAccount
    socket: RecordedSocket


async def everyone(probe: Probe) -> None:
    """C3: two tabs of each participant and another device receive each message in time; outsiders do not."""
    run = probe.run
    alice, bob, carol = await run.account("Alice"), await run.account("Bob"), await run.account("Carol")
    chat_id = await run.chat_of(alice, bob)
    async with AsyncExitStack() as stack:
        sockets = []
        for account in (alice, bob):
            for number in (1, 2):
                socket = await stack.enter_async_context(run.socket(account, f" #{number}"))
                sockets.append(AccountSocket(account, socket))
        with probe.part():
            sockets.append(await _device(probe, stack, bob))
        outsider = await stack.enter_async_context(run.socket(carol))
        markers = []
        for author in (alice, bob):
            markers.append(run.marker())
            response, _ = await run.say(author, chat_id, f"Hello from {author.name}! {markers[-1]}")
            missed = await _missed(probe, sockets, markers[-1])
            if missed:
                _report_missed(probe, author, response, missed, sockets)
                break
        await outsider.receives(markers[-1], min(QUIET_SECONDS, run.timeout / 4))
        if any(outsider.frames_with(marker) for marker in markers):
            _report_outsider(probe, carol, outsider)


def _report_outsider(probe: Probe, account: RegisteredAccount, socket: RecordedSocket) -> None:
    probe.add_finding(
        socket,
        expected=Phrase("nobody outside the chat receives the event", "никто вне чата не получает событие"),
        actual=Phrase(
            f"{account.name}, who is not in the chat, received the event",
            f"{account.name} не состоит в чате, но событие пришло",
        ),
        advice=Phrase(
            "Send to the participants of the chat, not to every open socket.",
            "Отправляйте участникам чата, а не во все открытые сокеты.",
        ),
    )


async def _device(probe: Probe, stack: AsyncExitStack, account: RegisteredAccount) -> AccountSocket:
    tokens = await probe.run.log_in(account)
    socket = probe.run.socket(account, " #3", tokens.access_token)
    return AccountSocket(account, await stack.enter_async_context(socket))


async def _missed(probe: Probe, sockets: Iterable[AccountSocket], marker: str) -> list[AccountSocket]:
    """The sockets that have not received the marker within the timeout, which is one for all of them."""
    with trio.move_on_after(probe.run.timeout):
        for one in sockets:
            await one.socket.receives(marker, inf)
    return [one for one in sockets if not one.socket.frames_with(marker)]


def _report_missed(
    probe: Probe,
    author: RegisteredAccount,
    response: Response,
    missed: list[AccountSocket],
    sockets: list[AccountSocket],
) -> None:
    names = ", ".join(one.socket.exchange.label for one in missed)
    seconds = f"{probe.run.timeout:g}"
    probe.add_finding(
        response,
        *(one.socket for one in missed[:2]),
        expected=Phrase(
            f"every open socket of every participant, including the author, receives the message within "
            f"{seconds} s",
            f"каждый открытый сокет каждого участника, включая автора, получает сообщение за {seconds} с",
        ),
        actual=Phrase(
            f"{author.name} sent a message, and {len(missed)} of {len(sockets)} sockets did not receive it: "
            f"{names}",
            f"{author.name} отправляет сообщение, и {len(missed)} из {len(sockets)} сокетов его не получают: "
            f"{names}",
        ),
        advice=_diagnosis(author, missed, sockets),
    )


def _diagnosis(
    author: RegisteredAccount, missed: list[AccountSocket], sockets: list[AccountSocket]
) -> Phrase:
    own = {id(one) for one in sockets if one.account is author}
    deaf = {id(one) for one in missed}
    if len(deaf) == len(sockets):
        return Phrase(
            "Nobody receives it: after the commit, send message.created to the sockets of all participants.",
            "Не получает никто: после фиксации отправьте message.created в сокеты всех участников.",
        )
    if deaf == {id(one) for one in sockets} - own:
        return Phrase(
            "Only the author receives it: look up the chat's participants, and send to each who is online.",
            "Получает только автор: найдите участников чата и отправьте каждому, кто онлайн.",
        )
    if deaf == own:
        return Phrase(
            "The author does not receive it: the client rolls a message back if its own socket has not "
            "received it within 2 s.",
            "Не получает автор: клиент откатывает сообщение, если его сокет не получил события за 2 с.",
        )
    return Phrase(
        "Keep a set of sockets for each user: a second tab or device must not replace the first.",
        "Храните множество сокетов на пользователя: вторая вкладка или устройство не должны "
        "вытеснять первую.",
    )


async def form(probe: Probe) -> None:
    """C4: an event has the envelope and the seven keys, and a plain socket receives nothing else."""
    run = probe.run
    alice, bob = await run.account("Alice"), await run.account("Bob")
    chat_id = await run.chat_of(alice, bob)
    async with run.socket(alice) as a, run.socket(bob) as b:
        sockets = (a, b)
        created = run.marker()
        response, message = await run.say(alice, chat_id, f"Hello World! {created}")
        await _await_event(probe, response, sockets, created)
        _check(probe, response, sockets, created, ("message.created", message))
        updated = run.marker()
        await _edit(probe, alice, message, updated, sockets)
        await _cause_other_events(probe, bob, chat_id, message)
        with probe.part():
            async with run.socket(bob, " #2"):
                pass
        await a.wait_closed(min(QUIET_SECONDS, run.timeout / 4))
        for socket in sockets:
            await socket.ping(run.timeout)
            _nothing_else(probe, socket, (created, updated))


async def _await_event(
    probe: Probe, response: Response, sockets: tuple[RecordedSocket, ...], marker: str
) -> None:
    """Wait until a socket has received the marker; C3 owns the finding that none does."""
    if not await _receivers(probe, sockets, marker):
        probe.stop(
            response,
            *sockets,
            expected=Phrase(
                "an event for a message, on at least one socket", "событие о сообщении хотя бы в одном сокете"
            ),
            actual=Phrase("nothing", "ничего"),
            owner="C3",
        )


async def _receivers(probe: Probe, sockets: tuple[RecordedSocket, ...], marker: str) -> list[RecordedSocket]:
    """The sockets that have received the marker when the first has it and each has answered a ping since."""

    async def listen(socket: RecordedSocket) -> None:
        if await socket.receives(marker, probe.run.timeout):
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for socket in sockets:
            nursery.start_soon(listen, socket)
    if any(socket.frames_with(marker) for socket in sockets):
        for socket in sockets:
            await socket.ping(probe.run.timeout)
    return [socket for socket in sockets if socket.frames_with(marker)]


def _check(
    probe: Probe,
    response: Response,
    sockets: tuple[RecordedSocket, ...],
    marker: str,
    wanted: tuple[str, dict[str, Any]],
) -> None:
    """Compare each distinct frame of this event that a socket received with the message."""
    event, message = wanted
    forms = {frame: socket for socket in sockets for frame in socket.frames_with(marker)[:1]}
    for frame, socket in forms.items():
        found, advice = frame_differences(frame, event, message)
        if found:
            probe.add_finding(
                response,
                socket,
                expected=verbatim(f'{{"event": "{event}", "data": {{{", ".join(MESSAGE)}}}}}'),
                actual=joined(found),
                advice=advice,
            )


ENVELOPE = Phrase(
    'Send {"event": …, "data": message}, not the message alone.',
    'Отправляйте {"event": …, "data": сообщение}, а не само сообщение.',
)


def frame_differences(frame: str, event: str, message: dict[str, Any]) -> tuple[list[Phrase], Phrase | None]:
    """How a frame differs from this event of the message, and advice."""
    try:
        envelope = json.loads(frame)
    except ValueError:
        return [
            Phrase(f"not a text frame of JSON: {brief(frame)}", f"не текстовый кадр с JSON: {brief(frame)}")
        ], None
    if (
        not isinstance(envelope, dict)
        or "event" not in envelope
        or not isinstance(envelope.get("data"), dict)
    ):
        bare = isinstance(envelope, dict) and "content" in envelope
        without = Phrase("the message alone, without the envelope", "само сообщение, без обёртки")
        return [
            without if bare else Phrase(f"no envelope: {brief(frame)}", f"без обёртки: {brief(frame)}")
        ], ENVELOPE
    found = []
    if envelope["event"] != event:
        found.append(verbatim(f"event = {brief(envelope['event'])}"))
    others = sorted(set(envelope) - {"event", "data"})
    if others:
        found.append(
            Phrase(f"other root keys: {', '.join(others)}", f"лишние ключи в корне: {', '.join(others)}")
        )
    return found + _data_differences(envelope["data"], message), None


def _data_differences(data: dict[str, Any], message: dict[str, Any]) -> list[Phrase]:
    found = differences(data, MESSAGE)
    others = sorted(set(data) - set(MESSAGE))
    if others:
        found.append(
            Phrase(f"other keys in data: {', '.join(others)}", f"лишние ключи в data: {', '.join(others)}")
        )
    for key in MESSAGE:
        if key in data and key in message and data[key] != message[key]:
            values = f"{key}: {brief(data[key])} ≠ {brief(message[key])}"
            found.append(Phrase(f"differs from the response, {values}", f"не совпадает с ответом, {values}"))
    return found


async def _edit(
    probe: Probe,
    author: RegisteredAccount,
    message: dict[str, Any],
    marker: str,
    sockets: tuple[RecordedSocket, ...],
) -> None:
    response = await probe.run.client.request(
        "PATCH",
        f"/messages/{message['id']}",
        token=author.token,
        key=new_key(),
        body={"content": f"Hello again! {marker}"},
    )
    if not response.ok:
        probe.remark(
            Phrase("message.updated was not checked: ", "message.updated не проверялось: ")
            + verbatim(f"{response.request} → {response.status}")
        )
        return
    if not await _receivers(probe, sockets, marker):
        probe.add_finding(
            response,
            *sockets,
            expected=Phrase("message.updated after an edit", "message.updated после правки"),
            actual=Phrase("nothing", "ничего"),
        )
    current = response.json if isinstance(response.json, dict) else {}
    _check(probe, response, sockets, marker, ("message.updated", current))


async def _cause_other_events(
    probe: Probe, account: RegisteredAccount, chat_id: int, message: dict[str, Any]
) -> None:
    """Read and type: a server may have events for these, and must not send them to a plain socket."""
    for path, body in (
        (f"/chats/{chat_id}/read", {"message_id": message["id"]}),
        ("/presence/typing", {"chat_id": chat_id, "is_typing": True}),
    ):
        await probe.run.client.request("POST", path, token=account.token, key=new_key(), body=body)


def _nothing_else(probe: Probe, socket: RecordedSocket, markers: tuple[str, ...]) -> None:
    others = [frame for frame in socket.frames if not any(marker in frame for marker in markers)]
    twice = [marker for marker in markers if len(socket.frames_with(marker)) > 1]
    if others:
        quoted = ", ".join(brief(frame) for frame in others[:3])
        probe.add_finding(
            socket,
            expected=Phrase(
                "a socket without a profile receives message.created and message.updated, and nothing else",
                "сокет без профиля получает message.created и message.updated и ничего больше",
            ),
            actual=Phrase(f"{len(others)} other frames: {quoted}", f"других кадров: {len(others)}: {quoted}"),
            advice=Phrase(
                "Send no greeting, no JSON ping and no other event: the known client reads every frame as a "
                "message.",
                "Не отправляйте приветствий, JSON-пингов и других событий: известный клиент любой кадр "
                "примет за сообщение.",
            ),
        )
    if twice:
        probe.add_finding(
            socket,
            expected=Phrase("each event once on each socket", "каждое событие в сокете один раз"),
            actual=Phrase("the same event twice", "одно и то же событие дважды"),
        )


C3 = ChecklistRow(
    "C3",
    Phrase(
        "A message reaches every online participant and its author",
        "Сообщение получают все участники онлайн, и автор",
    ),
    Phrase(
        "Each of their open sockets (two tabs, two devices) receives it within 2 s; nobody else does.",
        "Его получает каждый их открытый сокет (две вкладки, два устройства) за 2 с; посторонние не "
        "получают ничего.",
    ),
    everyone,
)
C4 = ChecklistRow(
    "C4",
    Phrase("Events have the form that the frontend expects", "События имеют формат, которого ждёт фронтенд"),
    Phrase(
        '{"event": "message.created" or "message.updated", "data": the full message}, and no other frame.',
        '{"event": "message.created" или "message.updated", "data": сообщение целиком}, и больше ничего.',
    ),
    form,
)
