"""Chats: their participants, and the one direct chat of two people."""

from typing import Any

import trio

from adapters.checklist.accounts import RegisteredAccount
from adapters.checklist.client import Response
from adapters.checklist.judging import ChecklistRow, Probe
from adapters.checklist.phrases import Phrase, joined, verbatim
from adapters.checklist.shapes import CHAT, USER, brief, differences, is_id

TITLE = "Direct Message"
CONCURRENT_CALLS = 6

PARTICIPANTS = Phrase(
    "Put participants: List[UserRead] into every chat of a response; without it the frontend has no "
    "names to show.",
    "Добавьте participants: List[UserRead] в каждый чат ответа; без них фронтенду неоткуда взять имена.",
)


async def participants(probe: Probe) -> None:
    """C5: for both accounts, the list of chats and the single chat hold the participants as full users."""
    run = probe.run
    alice, bob = await run.account("Alice"), await run.account("Bob")
    chat_id = await run.chat_of(alice, bob)
    for account in (alice, bob):
        listed = await run.client.request("GET", "/chats", token=account.token)
        if probe.expect_status(listed, 200, what=Phrase("an array of chats", "массив чатов")):
            chat = _listed(probe, listed, chat_id)
            if chat is not None:
                _has_participants(probe, listed, chat, (alice, bob))
        single = await run.client.request("GET", f"/chats/{chat_id}", token=account.token)
        if probe.expect_status(single, 200, what=Phrase("the chat", "чат")):
            _has_participants(probe, single, single.json, (alice, bob))


def _listed(probe: Probe, response: Response, chat_id: int) -> Any:
    """The chat in the list; adds a finding and returns None if the list does not hold it."""
    body = response.json
    if not isinstance(body, list):
        probe.add_finding(
            response,
            expected=Phrase("GET /chats: an array at the root", "GET /chats: массив в корне ответа"),
            actual=verbatim(brief(body)),
        )
        return None
    chat = next((chat for chat in body if isinstance(chat, dict) and chat.get("id") == chat_id), None)
    if chat is None:
        probe.add_finding(
            response,
            expected=Phrase(f"GET /chats holds chat {chat_id}", f"GET /chats содержит чат {chat_id}"),
            actual=Phrase(f"{len(body)} other chats", f"других чатов: {len(body)}"),
        )
    return chat


def _has_participants(
    probe: Probe, response: Response, chat: Any, accounts: tuple[RegisteredAccount, ...]
) -> None:
    found = differences(chat, CHAT)
    if isinstance(chat, dict):
        found += participant_differences(chat, accounts)
    if found:
        probe.add_finding(
            response,
            expected=verbatim(
                f"{response.request}: {{{', '.join(CHAT)}, participants: [{{{', '.join(USER)}}}]}}"
            ),
            actual=joined(found),
            advice=PARTICIPANTS,
        )
    elif any(user["email"] is None for user in chat["participants"]):
        probe.remark(EMAILS_HIDDEN)


EMAILS_HIDDEN = Phrase(
    "the server hides other users' e-mails: email is null, and the frontend must work without it",
    "сервер скрывает чужую почту: email — null, и фронтенд должен обойтись без неё",
)


def participant_differences(chat: dict[str, Any], accounts: tuple[RegisteredAccount, ...]) -> list[Phrase]:
    """How the chat's participants differ from these accounts as full users."""
    participants = chat.get("participants")
    if "participants" not in chat:
        return [Phrase("without participants", "нет participants")]
    if not isinstance(participants, list):
        return [verbatim(f"participants = {brief(participants)}")]
    for user in participants:
        found = differences(user, USER)
        if found:
            return [Phrase("a participant: ", "участник: ") + joined(found)]
    ids = sorted(user["id"] for user in participants)
    wanted = sorted(account.id for account in accounts)
    if ids != wanted:
        return [Phrase(f"participants are {ids}, not {wanted}", f"участники {ids}, а должны быть {wanted}")]
    return []


ONE_CHAT = Phrase(
    "Look for the chat of these two first, and let the database prevent a second: a unique key over "
    "the smaller and the larger id. Respond 200 in both cases.",
    "Сначала ищите чат этих двоих, а создание второго пусть запретит база: уникальный ключ из меньшего и "
    "большего id. В обоих случаях отвечайте 200.",
)


async def direct(probe: Probe) -> None:
    """C8: two people have one chat: at the first and later calls, from either side, and concurrently."""
    run = probe.run
    alice, bob, carol = await run.account("Alice"), await run.account("Bob"), await run.account("Carol")
    calls = [await run.open_chat(alice, carol)]
    if not probe.expect_status(calls[0], 200, what=Phrase("a new chat", "новый чат"), advice=ONE_CHAT):
        return
    calls += [await run.open_chat(alice, carol), await run.open_chat(carol, alice)]
    with probe.part():
        _one_chat(
            probe,
            calls,
            (alice, carol),
            Phrase(
                "first call, second call, call by the other", "первый вызов, повторный и с другой стороны"
            ),
        )
    concurrent: list[Response] = []

    async def call(one: RegisteredAccount, other: RegisteredAccount) -> None:
        concurrent.append(await run.open_chat(one, other))

    async with trio.open_nursery() as nursery:
        for number in range(CONCURRENT_CALLS):
            pair = (bob, carol) if number % 2 else (carol, bob)
            nursery.start_soon(call, *pair)
    with probe.part():
        when = Phrase(f"{CONCURRENT_CALLS} concurrent calls", f"{CONCURRENT_CALLS} одновременных вызовов")
        _one_chat(probe, concurrent, (bob, carol), when)


def _one_chat(
    probe: Probe, calls: list[Response], accounts: tuple[RegisteredAccount, RegisteredAccount], when: Phrase
) -> None:
    """Require 200 and the same chat from every call."""
    wrong = [
        response for response in calls if not probe.expect_status(response, 200, what=when, advice=ONE_CHAT)
    ]
    chats = [response.json for response in calls if response not in wrong]
    ids = {chat["id"] for chat in chats if isinstance(chat, dict) and is_id(chat.get("id"))}
    if len(ids) > 1:
        probe.add_finding(
            *calls[:3],
            expected=Phrase("the same chat: ", "один и тот же чат: ") + when,
            actual=Phrase(f"{len(ids)} chats: {sorted(ids)}", f"чатов: {len(ids)}: {sorted(ids)}"),
            advice=ONE_CHAT,
        )
    if chats:
        _is_direct(probe, calls[0], chats[0], accounts)


def _is_direct(
    probe: Probe, response: Response, chat: Any, accounts: tuple[RegisteredAccount, RegisteredAccount]
) -> None:
    found = differences(chat, CHAT)
    if isinstance(chat, dict):
        for key, wanted in (("title", TITLE), ("is_group", False)):
            if key in chat and chat[key] != wanted:
                actual = f"{key} = {brief(chat[key])}"
                found.append(Phrase(f"{actual}, not {wanted!r}", f"{actual}, а не {wanted!r}"))
        lacking = participant_differences(chat, accounts)
        if lacking:
            # A server that omits participants everywhere has one fault, and C5 owns it.
            probe.add_finding(
                response,
                expected=Phrase(
                    f"{response.request}: a chat with participants", f"{response.request}: чат с participants"
                ),
                actual=joined(lacking),
                advice=PARTICIPANTS,
                owner="C5",
            )
    if found:
        expected = verbatim(f'{response.request}: {{{", ".join(CHAT)}}}, title "{TITLE}", is_group false')
        probe.add_finding(response, expected=expected, actual=joined(found))


C5 = ChecklistRow(
    "C5",
    Phrase("Chats hold their participants", "Чаты содержат участников"),
    Phrase(
        "GET /chats (an array) and GET /chats/{id} hold participants: full users with all six keys.",
        "GET /chats (массив) и GET /chats/{id} содержат participants: пользователей со всеми шестью ключами.",
    ),
    participants,
)
C8 = ChecklistRow(
    "C8",
    Phrase(
        "POST /chats/direct creates or finds the one chat of two people",
        "POST /chats/direct создаёт или находит единственный чат двоих",
    ),
    Phrase(
        "200 for a new and for an existing chat; the same chat from either side and from concurrent calls; "
        'title "Direct Message", with participants.',
        "200 и для нового, и для существующего чата; тот же чат с любой стороны и при одновременных вызовах; "
        'title "Direct Message", с participants.',
    ),
    direct,
)
