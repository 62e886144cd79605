"""The lifetimes of tokens, and whether a page reload keeps people logged in."""

from collections.abc import Sequence
from typing import Any

import trio

from adapters.checklist.accounts import Tokens, altered, claims, token_pair
from adapters.checklist.client import Response, new_key
from adapters.checklist.judging import ChecklistRow, Probe
from adapters.checklist.phrases import Phrase, verbatim

ACCESS_SECONDS = 15 * 60
REFRESH_SECONDS = 7 * 24 * 60 * 60
REQUESTS_OF_A_PAGE = 6
"""Requests that the known client sends concurrently while it loads; each refreshes its token itself."""


async def lifetimes(probe: Probe) -> None:
    """C6: the lifetimes that tokens and responses state are long enough."""
    account = await probe.run.account("Alice")
    pairs = [account.tokens]
    with probe.part():
        pairs.append(await probe.run.log_in(account))
    for tokens in pairs:
        _access(probe, tokens)
        _refresh(probe, tokens)


def _access(probe: Probe, tokens: Tokens) -> None:
    lifetimes = {**_stated(tokens.response, "expires_in"), **_lifetime("JWT exp - iat", tokens.access_token)}
    if not lifetimes:
        probe.remark(
            Phrase(
                "the access token is opaque and no response states its lifetime: set it to 15 minutes or "
                "more",
                "токен доступа непрозрачен, и срок его жизни нигде не указан: задайте не меньше 15 минут",
            )
        )
    short = {name: seconds for name, seconds in lifetimes.items() if seconds < ACCESS_SECONDS}
    _report_short(probe, tokens.response, "access", short, "ACCESS_TOKEN_EXPIRE_MINUTES = 15")


def _refresh(probe: Probe, tokens: Tokens) -> None:
    lifetimes = {
        **_stated(tokens.response, "refresh_expires_in"),
        **_lifetime("JWT exp - iat", tokens.refresh_token),
    }
    if not lifetimes:
        probe.remark(
            Phrase(
                "the refresh token is opaque, so a client cannot see its lifetime: check that it is 7 days "
                "or more",
                "токен обновления непрозрачен, его срок снаружи не виден: убедитесь, что он не меньше 7 дней",
            )
        )
    short = {name: seconds for name, seconds in lifetimes.items() if seconds < REFRESH_SECONDS}
    _report_short(probe, tokens.response, "refresh", short, "REFRESH_TOKEN_EXPIRE_DAYS = 7")


def _stated(response: Response, key: str) -> dict[str, float]:
    body = response.json
    for place in (body, body.get("tokens")):
        value = place.get(key) if isinstance(place, dict) else None
        if isinstance(value, int | float) and not isinstance(value, bool):
            return {key: value}
    return {}


def _lifetime(name: str, token: str) -> dict[str, float]:
    stated = claims(token) or {}
    expires, issued = stated.get("exp"), stated.get("iat")
    if isinstance(expires, int | float) and isinstance(issued, int | float):
        return {name: expires - issued}
    return {}


def _report_short(probe: Probe, response: Response, kind: str, short: dict[str, float], setting: str) -> None:
    if short:
        values = ", ".join(f"{name} = {seconds:g} s" for name, seconds in short.items())
        probe.add_finding(
            response,
            expected=Phrase(f"{kind} token: {setting} or more", f"{kind}-токен: {setting} или больше"),
            actual=verbatim(f"{response.request}: {values}"),
            advice=Phrase(
                "Raise the setting: a short lifetime logs people out while they type.",
                "Увеличьте настройку: при коротком сроке людей разлогинивает посреди набора.",
            ),
        )


async def reload(probe: Probe) -> None:
    """P2: none of the known client's requests on a page load fails, because a failure logs people out."""
    run, client = probe.run, probe.run.client
    account, other = await run.account("Alice"), await run.account("Bob")
    chat_id = await run.chat_of(account, other)
    session = await run.log_in(account)
    key = new_key()
    body = {"chat_id": chat_id, "type": "text", "content": f"sent while reloading {run.marker()}"}
    bad = altered(session.access_token)
    client.secrets.add(bad, "altered_token")
    refused = await client.request("POST", "/messages", token=bad, key=key, body=body, valid=False)
    if refused.status != 401:
        probe.stop(
            refused,
            expected=Phrase("401 for a bad token", "401 на негодный токен"),
            actual=refused.summary,
            owner="C7",
        )
    responses = await _refreshed_concurrently(probe, session.refresh_token)
    pairs = _pairs(probe, responses, concurrent=True)
    for pair in pairs:
        await _works(probe, pair[0])
    again = await _refreshed(probe, session.refresh_token)
    pairs += _pairs(probe, [again], concurrent=False)
    if pairs:
        await _works(probe, pairs[-1][0])
        await _repeats(probe, pairs[-1][0], key, body)
        last = await _refreshed(probe, pairs[-1][1])
        for pair in _pairs(probe, [last], concurrent=False, newest=True):
            await _works(probe, pair[0])
    probe.remark(
        Phrase(
            "the check did not wait 15 minutes for a token to expire: it sent a bad token instead",
            "проверка не ждала 15 минут до истечения токена: вместо истёкшего был негодный",
        )
    )


async def _refreshed(probe: Probe, refresh_token: str) -> Response:
    body = {"refresh_token": refresh_token}
    return await probe.run.client.request("POST", "/auth/refresh", body=body)


async def _refreshed_concurrently(probe: Probe, refresh_token: str) -> list[Response]:
    responses: list[Response] = []

    async def one() -> None:
        responses.append(await _refreshed(probe, refresh_token))

    async with trio.open_nursery() as nursery:
        for _ in range(REQUESTS_OF_A_PAGE):
            nursery.start_soon(one)
    return responses


KEEP = Phrase(
    "Each request of the client refreshes on its own, with the same refresh token. Return the same new pair "
    "for the previous refresh token for at least 30 s; end the session only for an older token.",
    "Каждый запрос клиента обновляет токен сам, одним и тем же токеном. На предыдущий токен обновления не "
    "меньше 30 с возвращайте ту же новую пару; завершайте сессию только на более старый.",
)


def _pairs(
    probe: Probe, responses: Sequence[Response], *, concurrent: bool, newest: bool = False
) -> list[tuple[str, str]]:
    """The token pairs in the responses; a response without one is a finding."""
    found = [
        (response, token_pair(response.json) if response.status == 200 else None) for response in responses
    ]
    failed = [response for response, pair in found if pair is None or not pair[1]]
    if failed:
        number = f"{len(responses)}"
        if newest:
            expected = Phrase(
                "POST /auth/refresh with the newest refresh token: 200 and a pair",
                "POST /auth/refresh с последним токеном обновления: 200 и пара",
            )
        elif concurrent:
            expected = Phrase(
                f"{number} concurrent refreshes with one refresh token: 200 and a pair for each",
                f"{number} одновременных обновлений одним токеном: 200 и пара на каждое",
            )
        else:
            expected = Phrase(
                "the same refresh token again within seconds: 200 and a pair",
                "тот же токен обновления ещё раз через секунды: 200 и пара",
            )
        actual = Phrase(f"{len(failed)} of {number} failed: ", f"неудачно {len(failed)} из {number}: ")
        probe.add_finding(*failed[:2], expected=expected, actual=actual + failed[0].summary, advice=KEEP)
    return [pair for _, pair in found if pair is not None and pair[1]]


async def _works(probe: Probe, access_token: str) -> None:
    response = await probe.run.client.request("GET", "/chats", token=access_token, valid=False)
    if response.status == 401:
        probe.add_finding(
            response,
            expected=Phrase(
                "the server accepts the access token of a refresh",
                "токен доступа после обновления принимается",
            ),
            actual=response.summary,
            advice=KEEP,
        )


async def _repeats(probe: Probe, token: str, key: str, body: Any) -> None:
    response = await probe.run.client.request(
        "POST", "/messages", token=token, key=key, body=body, valid=False
    )
    if not response.ok:
        probe.add_finding(
            response,
            expected=Phrase(
                "a request that got 401 succeeds when it is repeated with a new token and the same "
                "Idempotency-Key",
                "запрос, получивший 401, удаётся при повторе с новым токеном и тем же Idempotency-Key",
            ),
            actual=response.summary,
            advice=Phrase(
                "Verify the token before the Idempotency-Key, and do not store the response of a refused "
                "caller.",
                "Проверяйте токен раньше Idempotency-Key и не сохраняйте ответы с отказом.",
            ),
            owner=None if response.status in {401, 409, 422} else "C10",
        )


C6 = ChecklistRow(
    "C6",
    Phrase("Tokens live long enough", "Токены живут достаточно долго"),
    Phrase(
        "Access tokens live at least 15 minutes, refresh tokens at least 7 days.",
        "Токены доступа живут не меньше 15 минут, токены обновления не меньше 7 дней.",
    ),
    lifetimes,
)
P2 = ChecklistRow(
    "P2",
    Phrase("A reload does not lead to the login page", "Перезагрузка страницы не ведёт на логин"),
    Phrase(
        "All concurrent and repeated refreshes with one refresh token succeed, each access token works, and "
        "a 401 does not consume an Idempotency-Key.",
        "Все одновременные и повторные обновления одним токеном удаются, каждый токен доступа работает, а "
        "401 не расходует Idempotency-Key.",
    ),
    reload,
)
