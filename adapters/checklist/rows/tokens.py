"""How long tokens live, and whether a reload keeps people logged in."""

from collections.abc import Sequence
from typing import Any

import trio

from adapters.checklist.client import Answer, new_key
from adapters.checklist.judging import Probe, Row
from adapters.checklist.people import Tokens, altered, claims, token_pair
from adapters.checklist.words import Text

ACCESS_SECONDS = 15 * 60
REFRESH_SECONDS = 7 * 24 * 60 * 60
REQUESTS_OF_A_PAGE = 6
"""What the known client sends at once while it loads: each refreshes on its own."""


async def lifetimes(probe: Probe) -> None:
    """C6: what the tokens and the answers say of their lifetimes is long enough."""
    person = await probe.world.person("Alice")
    answers = [person.tokens]
    with probe.part():
        answers.append(await probe.world.log_in(person))
    for tokens in answers:
        _access(probe, tokens)
        _refresh(probe, tokens)


def _access(probe: Probe, tokens: Tokens) -> None:
    told = {**_said(tokens.answer, "expires_in"), **_lifetime("JWT exp - iat", tokens.access_token)}
    if not told:
        probe.remark(
            Text(
                "the access token is opaque and nothing says how long it lives: set it to 15 minutes or more",
                "токен доступа непрозрачен, и срок его жизни нигде не указан: задайте не меньше 15 минут",
            )
        )
    short = {name: seconds for name, seconds in told.items() if seconds < ACCESS_SECONDS}
    _tell_short(probe, tokens.answer, "access", short, "ACCESS_TOKEN_EXPIRE_MINUTES = 15")


def _refresh(probe: Probe, tokens: Tokens) -> None:
    told = {
        **_said(tokens.answer, "refresh_expires_in"),
        **_lifetime("JWT exp - iat", tokens.refresh_token),
    }
    if not told:
        probe.remark(
            Text(
                "the refresh token is opaque, so its lifetime cannot be seen from outside: see that "
                "it is 7 days "
                "or more",
                "токен обновления непрозрачен, его срок снаружи не виден: убедитесь, что он не меньше 7 дней",
            )
        )
    short = {name: seconds for name, seconds in told.items() if seconds < REFRESH_SECONDS}
    _tell_short(probe, tokens.answer, "refresh", short, "REFRESH_TOKEN_EXPIRE_DAYS = 7")


def _said(answer: Answer, key: str) -> dict[str, float]:
    body = answer.json
    for place in (body, body.get("tokens")):
        value = place.get(key) if isinstance(place, dict) else None
        if isinstance(value, int | float) and not isinstance(value, bool):
            return {key: value}
    return {}


def _lifetime(name: str, token: str) -> dict[str, float]:
    told = claims(token) or {}
    ends, begins = told.get("exp"), told.get("iat")
    if isinstance(ends, int | float) and isinstance(begins, int | float):
        return {name: ends - begins}
    return {}


def _tell_short(probe: Probe, answer: Answer, kind: str, short: dict[str, float], setting: str) -> None:
    if short:
        values = ", ".join(f"{name} = {seconds:g} s" for name, seconds in short.items())
        probe.fault(
            answer,
            expected=Text(f"{kind} token: {setting} or more", f"{kind}-токен: {setting} или больше"),
            came=Text(f"{answer.request}: {values}", f"{answer.request}: {values}"),
            advice=Text(
                "Raise the setting: people are logged out while they type.",
                "Увеличьте настройку: людей разлогинивает посреди набора.",
            ),
        )


async def reload(probe: Probe) -> None:
    """P2: what the known client does on a page load never ends in a failure, which would log people out."""
    world, client = probe.world, probe.world.client
    person, other = await world.person("Alice"), await world.person("Bob")
    chat_id = await world.chat_of(person, other)
    session = await world.log_in(person)
    key = new_key()
    body = {"chat_id": chat_id, "type": "text", "content": f"sent while reloading {world.marker()}"}
    bad = altered(session.access_token)
    client.secrets.add(bad, "altered_token")
    refused = await client.request("POST", "/messages", token=bad, key=key, body=body, good=False)
    if refused.status != 401:
        probe.stop(
            refused,
            expected=Text("401 for a token that is not good", "401 на негодный токен"),
            came=refused.came,
            owner="C7",
        )
    answers = await _at_once(probe, session.refresh_token)
    pairs = _pairs(probe, answers, at_once=True)
    for pair in pairs:
        await _works(probe, pair[0])
    again = await _refreshed(probe, session.refresh_token)
    pairs += _pairs(probe, [again], at_once=False)
    if pairs:
        await _works(probe, pairs[-1][0])
        await _repeats(probe, pairs[-1][0], key, body)
        last = await _refreshed(probe, pairs[-1][1])
        for pair in _pairs(probe, [last], at_once=False, newest=True):
            await _works(probe, pair[0])
    probe.remark(
        Text(
            "the expiry itself takes 15 minutes and was not waited for: a bad token stood for an expired one",
            "самого истечения (15 минут) проверка не ждала: вместо истёкшего токена был негодный",
        )
    )


async def _refreshed(probe: Probe, refresh_token: str) -> Answer:
    body = {"refresh_token": refresh_token}
    return await probe.world.client.request("POST", "/auth/refresh", body=body)


async def _at_once(probe: Probe, refresh_token: str) -> list[Answer]:
    answers: list[Answer] = []

    async def one() -> None:
        answers.append(await _refreshed(probe, refresh_token))

    async with trio.open_nursery() as nursery:
        for _ in range(REQUESTS_OF_A_PAGE):
            nursery.start_soon(one)
    return answers


KEEP = Text(
    "The client's requests refresh each on its own with the same token. Answer the one before the "
    "current token "
    "with the same successor for 30 s at least; end the session only for an older one.",
    "Запросы клиента обновляют токен каждый сам, одним и тем же токеном. На предыдущий токен не меньше 30 с "
    "отвечайте тем же преемником; завершайте сессию только на более старый.",
)


def _pairs(
    probe: Probe, answers: Sequence[Answer], *, at_once: bool, newest: bool = False
) -> list[tuple[str, str]]:
    """The pairs that came; answers without one are a finding."""
    found = [(answer, token_pair(answer.json) if answer.status == 200 else None) for answer in answers]
    failed = [answer for answer, pair in found if pair is None or not pair[1]]
    if failed:
        number = f"{len(answers)}"
        if newest:
            expected = Text(
                "POST /auth/refresh with the newest refresh token: 200 and a pair",
                "POST /auth/refresh с новейшим токеном обновления: 200 и пара",
            )
        elif at_once:
            expected = Text(
                f"{number} refreshes at once with one refresh token: 200 and a pair for each",
                f"{number} одновременных обновлений одним токеном: 200 и пара на каждое",
            )
        else:
            expected = Text(
                "the same refresh token again within seconds: 200 and a pair",
                "тот же токен обновления ещё раз через секунды: 200 и пара",
            )
        came = Text(f"{len(failed)} of {number} failed: ", f"неудачно {len(failed)} из {number}: ")
        probe.fault(*failed[:2], expected=expected, came=came + failed[0].came, advice=KEEP)
    return [pair for _, pair in found if pair is not None and pair[1]]


async def _works(probe: Probe, access_token: str) -> None:
    answer = await probe.world.client.request("GET", "/chats", token=access_token, good=False)
    if answer.status == 401:
        probe.fault(
            answer,
            expected=Text(
                "the access token of a refresh is let in", "токен доступа после обновления принимается"
            ),
            came=answer.came,
            advice=KEEP,
        )


async def _repeats(probe: Probe, token: str, key: str, body: Any) -> None:
    answer = await probe.world.client.request(
        "POST", "/messages", token=token, key=key, body=body, good=False
    )
    if not answer.ok:
        probe.fault(
            answer,
            expected=Text(
                "a request that got 401 succeeds when repeated with a fresh token and the same "
                "Idempotency-Key",
                "запрос, получивший 401, удаётся при повторе с новым токеном и тем же Idempotency-Key",
            ),
            came=answer.came,
            advice=Text(
                "Check the token before the Idempotency-Key, and keep no answer that refused the caller.",
                "Проверяйте токен раньше Idempotency-Key и не запоминайте ответы с отказом.",
            ),
            owner=None if answer.status in {401, 409, 422} else "C10",
        )


C6 = Row(
    "C6",
    Text("Tokens live long enough", "Токены живут достаточно долго"),
    Text(
        "Access tokens 15 minutes at least, refresh tokens 7 days at least.",
        "Токены доступа не меньше 15 минут, токены обновления не меньше 7 дней.",
    ),
    lifetimes,
)
P2 = Row(
    "P2",
    Text("A reload does not lead to the login page", "Перезагрузка страницы не ведёт на логин"),
    Text(
        "Concurrent and repeated refreshes with one refresh token all succeed, each access token "
        "works, and a 401 "
        "does not consume an Idempotency-Key.",
        "Одновременные и повторные обновления одним токеном удаются все, каждый токен доступа "
        "работает, а 401 не "
        "расходует Idempotency-Key.",
    ),
    reload,
)
