"""People: who am I, and who has this tag."""

from adapters.checklist.client import Answer
from adapters.checklist.judging import Probe, Row
from adapters.checklist.people import Person, altered
from adapters.checklist.shapes import OWN_USER, brief, differences
from adapters.checklist.words import Text, joined, same


async def own_user(probe: Probe) -> None:
    """C7: a good token is answered with its user, by registering and by logging in; a bad one with 401."""
    client = probe.world.client
    person = await probe.world.person("Alice")
    with probe.part():
        await _is_told(probe, person, person.token)
    with probe.part():
        tokens = await probe.world.log_in(person)
        await _is_told(probe, person, tokens.access_token)
    bad: dict[str, dict[str, str]] = {
        "no Authorization": {},
        "Bearer garbage": {"Authorization": "Bearer garbage"},
        "Bearer with another signature": {"Authorization": f"Bearer {altered(person.token)}"},
        "Basic": {"Authorization": "Basic dXNlcjpwYXNz"},
    }
    client.secrets.add(altered(person.token), "altered_token")
    for name, headers in bad.items():
        answer = await client.request("GET", "/users/me", headers=headers, good=False)
        probe.wants(answer, 401, what=same(name), advice=REFUSE if answer.ok else None)


REFUSE = Text(
    "The server lets this in: verify the token's signature, with the algorithm pinned, before you "
    "believe it.",
    "Сервер это пропускает: прежде чем верить токену, проверьте его подпись, зафиксировав алгоритм.",
)
LET_IN = Text(
    "See how the header Authorization: Bearer <token> is parsed, that signing and verifying use one key, one "
    "algorithm and UTC, and that /users/me is not taken for /users/{id}.",
    "Проверьте разбор заголовка Authorization: Bearer <token>, что подпись и проверка используют один ключ, "
    "один алгоритм и UTC и что /users/me не попадает в /users/{id}.",
)


async def _is_told(probe: Probe, person: Person, token: str) -> None:
    answer = await probe.world.client.request("GET", "/users/me", token=token)
    if not probe.wants(answer, 200, what=Text("the user", "пользователь"), advice=LET_IN):
        return
    found = differences(answer.json, OWN_USER)
    if not found and answer.json["email"] != person.email:
        found = [Text(f"email is {brief(answer.json['email'])}", f"email — {brief(answer.json['email'])}")]
    if not found and answer.json["id"] != person.id:
        found = [Text(f"id is {answer.json['id']}", f"id — {answer.json['id']}")]
    if found:
        expected = Text(
            f"GET /users/me: {{{', '.join(OWN_USER)}}} of {person.email}, id {person.id}",
            f"GET /users/me: {{{', '.join(OWN_USER)}}} для {person.email}, id {person.id}",
        )
        probe.fault(answer, expected=expected, came=joined(found))


async def search(probe: Probe) -> None:
    """C9: the exact tag finds its one user, however it is written; a tag that nobody has is a 404."""
    person = await probe.world.person("Alice")
    tag = person.user.get("tag")
    if not isinstance(tag, str) or not tag:
        probe.stop(
            person.tokens.answer,
            expected=Text(
                "a user with a tag to search for", "пользователь с тегом, по которому можно искать"
            ),
            came=same(f"tag = {brief(tag)}"),
            owner="C10",
        )
    ways = (tag, f"@{tag}", f"%40{tag}", tag.upper(), f"@{tag.capitalize()}")
    missed: dict[str, Answer] = {}
    for way in dict.fromkeys(ways):
        answer = await _found(probe, person, way)
        if answer is not None and answer.json.get("id") != person.id:
            missed[way] = answer
    for way, answer in missed.items():
        probe.fault(
            answer,
            expected=Text(
                f"?tag={way} finds user {person.id}", f"?tag={way} находит пользователя {person.id}"
            ),
            came=same(f"id = {answer.json['id']}"),
        )
    nobody = await _search(probe, person, f"nobody_{probe.world.run}")
    probe.wants(nobody, 404, what=Text("nobody has this tag", "такого тега ни у кого нет"))
    if len(tag) > 3:
        part = await _search(probe, person, tag[:-1])
        body = part.json
        if part.ok and isinstance(body, dict) and body.get("id") == person.id:
            probe.fault(
                part,
                expected=Text("the exact tag alone finds the user", "пользователя находит только точный тег"),
                came=Text(f"{tag[:-1]!r} finds {tag!r}", f"{tag[:-1]!r} находит {tag!r}"),
                advice=Text(
                    "Compare for equality, not with LIKE.", "Сравнивайте на равенство, а не через LIKE."
                ),
            )


async def _search(probe: Probe, person: Person, way: str) -> Answer:
    return await probe.world.client.request("GET", f"/users/search?tag={way}", token=person.token)


async def _found(probe: Probe, person: Person, way: str) -> Answer | None:
    """The answer, if it is one user."""
    answer = await _search(probe, person, way)
    if not probe.wants(answer, 200, what=Text("one user", "один пользователь"), advice=_advice(way)):
        return None
    if isinstance(answer.json, list):
        probe.fault(
            answer,
            expected=same(f"{answer.request}: ") + Text("one user, an object", "один пользователь, объект"),
            came=Text(f"an array of {len(answer.json)}", f"массив, элементов: {len(answer.json)}"),
            advice=Text(
                "Answer the one user whose tag this is, or 404: the client reads its id at the root.",
                "Отвечайте единственным пользователем с этим тегом или 404: клиент читает id в корне ответа.",
            ),
        )
        return None
    found = differences(answer.json, OWN_USER)
    if found:
        expected = same(f"{answer.request}: {{{', '.join(OWN_USER)}}}")
        probe.fault(answer, expected=expected, came=joined(found))
        return None
    return answer


def _advice(way: str) -> Text | None:
    if way.startswith(("@", "%40")):
        return Text(
            "People type the @: take it off before you search, when it comes as %40 too.",
            "Люди вводят @: убирайте его перед поиском, в том числе когда он приходит как %40.",
        )
    if way != way.lower():
        return Text("Compare in lower case.", "Сравнивайте в нижнем регистре.")
    return Text(
        "?tag=alice, ?tag=@alice and ?tag=%40alice are the same search.",
        "?tag=alice, ?tag=@alice и ?tag=%40alice — один и тот же поиск.",
    )


C7 = Row(
    "C7",
    Text(
        "GET /users/me answers the user of a good token",
        "GET /users/me отвечает пользователем годного токена",
    ),
    Text(
        "200 and all six keys of the user for a token from registration and from login; 401 only "
        "for a missing, "
        "malformed or foreign one.",
        "200 и все шесть ключей пользователя для токена после регистрации и после входа; 401 — только если "
        "токена нет, он испорчен или чужой.",
    ),
    own_user,
)
C9 = Row(
    "C9",
    Text(
        "GET /users/search finds one user by tag, with and without @",
        "GET /users/search находит по тегу, с @ и без",
    ),
    Text(
        "?tag=alice, ?tag=@alice, ?tag=%40alice, in any case: one user object; 404 where nobody has the tag.",
        "?tag=alice, ?tag=@alice, ?tag=%40alice в любом регистре: один объект пользователя; 404, если такого "
        "тега нет.",
    ),
    search,
)
