"""Users: the caller's own user, and the search by tag."""

from adapters.checklist.accounts import RegisteredAccount, altered
from adapters.checklist.client import Response
from adapters.checklist.judging import ChecklistRow, Probe
from adapters.checklist.phrases import Phrase, joined, verbatim
from adapters.checklist.shapes import OWN_USER, brief, differences


async def own_user(probe: Probe) -> None:
    """C7: a valid token from registration or login returns its user; a bad one returns 401."""
    client = probe.run.client
    account = await probe.run.account("Alice")
    with probe.part():
        await _returns_user(probe, account, account.token)
    with probe.part():
        tokens = await probe.run.log_in(account)
        await _returns_user(probe, account, tokens.access_token)
    bad: dict[str, dict[str, str]] = {
        "no Authorization": {},
        "Bearer garbage": {"Authorization": "Bearer garbage"},
        "Bearer with another signature": {"Authorization": f"Bearer {altered(account.token)}"},
        "Basic": {"Authorization": "Basic dXNlcjpwYXNz"},
    }
    client.secrets.add(altered(account.token), "altered_token")
    for name, headers in bad.items():
        response = await client.request("GET", "/users/me", headers=headers, valid=False)
        probe.expect_status(response, 401, what=verbatim(name), advice=REFUSE if response.ok else None)


REFUSE = Phrase(
    "The server accepts this: verify the token's signature with a fixed algorithm before you use its claims.",
    "Сервер это пропускает: прежде чем верить токену, проверяйте его подпись с фиксированным алгоритмом.",
)
LET_IN = Phrase(
    "Check the parsing of the header Authorization: Bearer <token>, that signing and verifying use the same "
    "key, the same algorithm and UTC, and that the route /users/{id} does not catch /users/me.",
    "Проверьте разбор заголовка Authorization: Bearer <token>, что подпись и проверка используют один ключ, "
    "один алгоритм и UTC и что /users/me не попадает в маршрут /users/{id}.",
)


async def _returns_user(probe: Probe, account: RegisteredAccount, token: str) -> None:
    response = await probe.run.client.request("GET", "/users/me", token=token)
    if not probe.expect_status(response, 200, what=Phrase("the user", "пользователь"), advice=LET_IN):
        return
    found = differences(response.json, OWN_USER)
    if not found and response.json["email"] != account.email:
        found = [
            Phrase(f"email is {brief(response.json['email'])}", f"email — {brief(response.json['email'])}")
        ]
    if not found and response.json["id"] != account.id:
        found = [Phrase(f"id is {response.json['id']}", f"id — {response.json['id']}")]
    if found:
        expected = Phrase(
            f"GET /users/me: {{{', '.join(OWN_USER)}}} of {account.email}, id {account.id}",
            f"GET /users/me: {{{', '.join(OWN_USER)}}} для {account.email}, id {account.id}",
        )
        probe.add_finding(response, expected=expected, actual=joined(found))


async def search(probe: Probe) -> None:
    """C9: the exact tag finds its user, in any case and with or without @; an unknown tag is a 404."""
    account = await probe.run.account("Alice")
    tag = account.user.get("tag")
    if not isinstance(tag, str) or not tag:
        probe.stop(
            account.tokens.response,
            expected=Phrase(
                "a user with a tag to search for", "пользователь с тегом, по которому можно искать"
            ),
            actual=verbatim(f"tag = {brief(tag)}"),
            owner="C10",
        )
    spellings = (tag, f"@{tag}", f"%40{tag}", tag.upper(), f"@{tag.capitalize()}")
    missed: dict[str, Response] = {}
    for spelling in dict.fromkeys(spellings):
        response = await _found(probe, account, spelling)
        if response is not None and response.json.get("id") != account.id:
            missed[spelling] = response
    for spelling, response in missed.items():
        probe.add_finding(
            response,
            expected=Phrase(
                f"?tag={spelling} finds user {account.id}",
                f"?tag={spelling} находит пользователя {account.id}",
            ),
            actual=verbatim(f"id = {response.json['id']}"),
        )
    nobody = await _search(probe, account, f"nobody_{probe.run.run_id}")
    probe.expect_status(nobody, 404, what=Phrase("nobody has this tag", "такого тега ни у кого нет"))
    if len(tag) > 3:
        part = await _search(probe, account, tag[:-1])
        body = part.json
        if part.ok and isinstance(body, dict) and body.get("id") == account.id:
            probe.add_finding(
                part,
                expected=Phrase(
                    "only the exact tag finds the user", "пользователя находит только точный тег"
                ),
                actual=Phrase(f"{tag[:-1]!r} finds {tag!r}", f"{tag[:-1]!r} находит {tag!r}"),
                advice=Phrase(
                    "Compare for equality, not with LIKE.", "Сравнивайте на равенство, а не через LIKE."
                ),
            )


async def _search(probe: Probe, account: RegisteredAccount, spelling: str) -> Response:
    return await probe.run.client.request("GET", f"/users/search?tag={spelling}", token=account.token)


async def _found(probe: Probe, account: RegisteredAccount, spelling: str) -> Response | None:
    """The response, if it is one user."""
    response = await _search(probe, account, spelling)
    one_user = Phrase("one user", "один пользователь")
    if not probe.expect_status(response, 200, what=one_user, advice=_advice(spelling)):
        return None
    if isinstance(response.json, list):
        probe.add_finding(
            response,
            expected=verbatim(f"{response.request}: ")
            + Phrase("one user, an object", "один пользователь, объект"),
            actual=Phrase(f"an array of {len(response.json)}", f"массив, элементов: {len(response.json)}"),
            advice=Phrase(
                "Return the one user with this tag, or 404: the client reads the id at the root of the "
                "response.",
                "Возвращайте одного пользователя с этим тегом или 404: клиент читает id в корне ответа.",
            ),
        )
        return None
    found = differences(response.json, OWN_USER)
    if found:
        expected = verbatim(f"{response.request}: {{{', '.join(OWN_USER)}}}")
        probe.add_finding(response, expected=expected, actual=joined(found))
        return None
    return response


def _advice(spelling: str) -> Phrase | None:
    if spelling.startswith(("@", "%40")):
        return Phrase(
            "People type the @: remove it before you search, also if it arrives as %40.",
            "Люди вводят @: убирайте его перед поиском, в том числе когда он приходит как %40.",
        )
    if spelling != spelling.lower():
        return Phrase("Compare in lower case.", "Сравнивайте в нижнем регистре.")
    return Phrase(
        "?tag=alice, ?tag=@alice and ?tag=%40alice are the same search.",
        "?tag=alice, ?tag=@alice и ?tag=%40alice — один и тот же поиск.",
    )


C7 = ChecklistRow(
    "C7",
    Phrase(
        "GET /users/me returns the user of a valid token",
        "GET /users/me возвращает пользователя годного токена",
    ),
    Phrase(
        "200 and the user with all six keys for a token from registration and from login; 401 only for a "
        "missing, malformed or foreign token.",
        "200 и все шесть ключей пользователя для токена после регистрации и после входа; 401 — только если "
        "токена нет, он испорчен или чужой.",
    ),
    own_user,
)
C9 = ChecklistRow(
    "C9",
    Phrase(
        "GET /users/search finds one user by tag, with and without @",
        "GET /users/search находит по тегу, с @ и без",
    ),
    Phrase(
        "?tag=alice, ?tag=@alice, ?tag=%40alice, in any case: one user object; 404 if nobody has the tag.",
        "?tag=alice, ?tag=@alice, ?tag=%40alice в любом регистре: один объект пользователя; 404, если такого "
        "тега нет.",
    ),
    search,
)
