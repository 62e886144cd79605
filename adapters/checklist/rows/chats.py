"""Chats: who takes part in them, and the one of two people."""

from typing import Any

import trio

from adapters.checklist.client import Answer
from adapters.checklist.judging import Probe, Row
from adapters.checklist.people import Person
from adapters.checklist.shapes import CHAT, USER, brief, differences, is_id
from adapters.checklist.words import Text, joined, same

TITLE = "Direct Message"
AT_ONCE = 6

PARTICIPANTS = Text(
    "Every chat that is answered holds participants: List[UserRead]; without it the frontend has no "
    "names to show.",
    "Каждый чат в ответе содержит participants: List[UserRead]; без них фронтенду нечем показать имена.",
)


async def participants(probe: Probe) -> None:
    """C5: the list of chats and the single chat hold their participants as full users, for either of them."""
    world = probe.world
    alice, bob = await world.person("Alice"), await world.person("Bob")
    chat_id = await world.chat_of(alice, bob)
    for person in (alice, bob):
        listed = await world.client.request("GET", "/chats", token=person.token)
        if probe.wants(listed, 200, what=Text("an array of chats", "массив чатов")):
            chat = _listed(probe, listed, chat_id)
            if chat is not None:
                _has_participants(probe, listed, chat, (alice, bob))
        single = await world.client.request("GET", f"/chats/{chat_id}", token=person.token)
        if probe.wants(single, 200, what=Text("the chat", "чат")):
            _has_participants(probe, single, single.json, (alice, bob))


def _listed(probe: Probe, answer: Answer, chat_id: int) -> Any:
    """The chat in the list; None, and a finding, where it is not there."""
    body = answer.json
    if not isinstance(body, list):
        probe.fault(
            answer,
            expected=Text("GET /chats: a bare array", "GET /chats: массив в корне ответа"),
            came=same(brief(body)),
        )
        return None
    chat = next((chat for chat in body if isinstance(chat, dict) and chat.get("id") == chat_id), None)
    if chat is None:
        probe.fault(
            answer,
            expected=Text(f"GET /chats holds chat {chat_id}", f"GET /chats содержит чат {chat_id}"),
            came=Text(f"{len(body)} other chats", f"других чатов: {len(body)}"),
        )
    return chat


def _has_participants(probe: Probe, answer: Answer, chat: Any, people: tuple[Person, ...]) -> None:
    found = differences(chat, CHAT)
    if isinstance(chat, dict):
        found += participant_differences(chat, people)
    if found:
        probe.fault(
            answer,
            expected=same(f"{answer.request}: {{{', '.join(CHAT)}, participants: [{{{', '.join(USER)}}}]}}"),
            came=joined(found),
            advice=PARTICIPANTS,
        )
    elif any(user["email"] is None for user in chat["participants"]):
        probe.remark(EMAILS_HIDDEN)


EMAILS_HIDDEN = Text(
    "the server hides other people's e-mails: email is null, and a frontend must do without",
    "сервер скрывает чужую почту: email — null, и фронтенд должен обойтись без неё",
)


def participant_differences(chat: dict[str, Any], people: tuple[Person, ...]) -> list[Text]:
    """What keeps a chat's participants from being these people as full users."""
    told = chat.get("participants")
    if "participants" not in chat:
        return [Text("without participants", "нет participants")]
    if not isinstance(told, list):
        return [same(f"participants = {brief(told)}")]
    for user in told:
        found = differences(user, USER)
        if found:
            return [Text("a participant ", "участник: ") + joined(found)]
    ids = sorted(user["id"] for user in told)
    wanted = sorted(person.id for person in people)
    if ids != wanted:
        return [Text(f"participants are {ids}, not {wanted}", f"участники {ids}, а должны быть {wanted}")]
    return []


ONE_CHAT = Text(
    "Look for the chat of these two first, and let the database refuse a second: a unique key over "
    "the smaller and "
    "the larger id. Answer 200 in both cases.",
    "Сначала ищите чат этих двоих, а второй пусть не допустит база: уникальный ключ из меньшего и "
    "большего id. "
    "В обоих случаях отвечайте 200.",
)


async def direct(probe: Probe) -> None:
    """C8: the chat of two people is one, first and again, from either side, and at once."""
    world = probe.world
    alice, bob, carol = await world.person("Alice"), await world.person("Bob"), await world.person("Carol")
    calls = [await world.open_chat(alice, carol)]
    if not probe.wants(calls[0], 200, what=Text("a new chat", "новый чат"), advice=ONE_CHAT):
        return
    calls += [await world.open_chat(alice, carol), await world.open_chat(carol, alice)]
    with probe.part():
        _one_chat(
            probe,
            calls,
            (alice, carol),
            Text("first, again, and from the other side", "впервые, снова и с другой стороны"),
        )
    at_once: list[Answer] = []

    async def call(one: Person, other: Person) -> None:
        at_once.append(await world.open_chat(one, other))

    async with trio.open_nursery() as nursery:
        for number in range(AT_ONCE):
            pair = (bob, carol) if number % 2 else (carol, bob)
            nursery.start_soon(call, *pair)
    with probe.part():
        _one_chat(probe, at_once, (bob, carol), Text(f"{AT_ONCE} calls at once", f"{AT_ONCE} вызовов сразу"))


def _one_chat(probe: Probe, calls: list[Answer], people: tuple[Person, Person], when: Text) -> None:
    """Every call is answered with 200 and the same chat."""
    wrong = [answer for answer in calls if not probe.wants(answer, 200, what=when, advice=ONE_CHAT)]
    chats = [answer.json for answer in calls if answer not in wrong]
    ids = {chat["id"] for chat in chats if isinstance(chat, dict) and is_id(chat.get("id"))}
    if len(ids) > 1:
        probe.fault(
            *calls[:3],
            expected=Text("the same chat: ", "один и тот же чат: ") + when,
            came=Text(f"{len(ids)} chats: {sorted(ids)}", f"чатов: {len(ids)}: {sorted(ids)}"),
            advice=ONE_CHAT,
        )
    if chats:
        _is_direct(probe, calls[0], chats[0], people)


def _is_direct(probe: Probe, answer: Answer, chat: Any, people: tuple[Person, Person]) -> None:
    found = differences(chat, CHAT)
    if isinstance(chat, dict):
        for key, wanted in (("title", TITLE), ("is_group", False)):
            if key in chat and chat[key] != wanted:
                told = f"{key} = {brief(chat[key])}"
                found.append(Text(f"{told}, not {wanted!r}", f"{told}, а не {wanted!r}"))
        lacking = participant_differences(chat, people)
        if lacking:
            # A server that leaves them out everywhere has one fault, which is C5's.
            probe.fault(
                answer,
                expected=Text(
                    f"{answer.request}: a chat with participants", f"{answer.request}: чат с participants"
                ),
                came=joined(lacking),
                advice=PARTICIPANTS,
                owner="C5",
            )
    if found:
        expected = same(f'{answer.request}: {{{", ".join(CHAT)}}}, title "{TITLE}", is_group false')
        probe.fault(answer, expected=expected, came=joined(found))


C5 = Row(
    "C5",
    Text("Chats hold their participants", "Чаты содержат участников"),
    Text(
        "GET /chats (a bare array) and GET /chats/{id} hold participants: full users with all six keys.",
        "GET /chats (массив) и GET /chats/{id} содержат participants: пользователей со всеми шестью ключами.",
    ),
    participants,
)
C8 = Row(
    "C8",
    Text(
        "POST /chats/direct makes or finds the one chat of two people",
        "POST /chats/direct создаёт или находит единственный чат двоих",
    ),
    Text(
        '200 both times, the same chat from either side and from concurrent calls, title "Direct '
        'Message", with '
        "participants.",
        '200 оба раза, тот же чат с любой стороны и при одновременных вызовах, title "Direct Message", с '
        "participants.",
    ),
    direct,
)
