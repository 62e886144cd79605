"""Whether a page of another origin may read the answers."""

from collections.abc import Iterator

from adapters.checklist.client import Answer
from adapters.checklist.judging import Probe, Row
from adapters.checklist.words import Text, same

SENT_HEADERS = ("authorization", "content-type", "idempotency-key")

MISSING = Text(
    "Put the CORS layer outermost, around everything that can answer: routes, error handlers, and whatever "
    "refuses a request before them. FastAPI: app.add_middleware(CORSMiddleware, …) last.",
    "Поставьте слой CORS самым внешним, вокруг всего, что может ответить: маршрутов, обработчиков ошибок и "
    "всего, что отклоняет запрос до них. FastAPI: app.add_middleware(CORSMiddleware, …) последним.",
)
STAR = Text(
    "Browsers refuse * for a request with credentials: answer the caller's own Origin, with Vary: Origin. "
    'FastAPI: allow_origin_regex=".*" in place of allow_origins=["*"].',
    "Для запроса с учётными данными браузер не принимает *: возвращайте Origin вызывающего и Vary: Origin. "
    'FastAPI: allow_origin_regex=".*" вместо allow_origins=["*"].',
)
BY_NAME = Text(
    "A * in Access-Control-Allow-Headers never covers Authorization, and with credentials nothing "
    "at all: name "
    "Authorization, Content-Type and Idempotency-Key.",
    "Звёздочка в Access-Control-Allow-Headers не покрывает Authorization, а с учётными данными — ничего: "
    "перечислите Authorization, Content-Type и Idempotency-Key.",
)

Fault = tuple[str, Text, Text | None]
"""What came of a header, what was expected, advice: the same for several answers is told once."""


async def cors(probe: Probe) -> None:
    """C1: every kind of answer shows the header, and the preflight allows the request that follows."""
    client = probe.world.client
    answers = [
        await client.request("HEAD", "/chats"),
        await client.request("GET", "/chats"),
        await client.request("GET", "/chats", headers={"Authorization": "Bearer garbage"}),
        await client.request("GET", f"/nothing-{probe.world.run}"),
        await client.request("GET", f"//nothing-{probe.world.run}"),
        await client.request("POST", "/auth/login", body={}),
    ]
    with probe.part():
        person = await probe.world.person("Alice")
        answers.append(await client.request("GET", "/users/me", token=person.token))
        answers.append(await client.request("POST", "/messages", token=person.token, body={}))
    for answer in answers:
        if answer.status is None:
            probe.fault(answer, expected=same(f"{answer.request}: ") + _any_status(), came=answer.came)
    preflights = [await _preflight(probe, "POST", "/messages"), await _preflight(probe, "GET", "/users/me")]
    _tell(probe, [answer for answer in (*answers, *preflights) if answer.status is not None])
    probe.remark(
        Text(
            "a 500 cannot be provoked from outside: see for yourself that it carries the header too",
            "ответ 500 снаружи не вызвать: проверьте сами, что и он несёт этот заголовок",
        )
    )


def _any_status() -> Text:
    return Text("an answer of any status", "ответ с любым статусом")


async def _preflight(probe: Probe, method: str, path: str) -> Answer:
    answer = await probe.world.client.request(
        "OPTIONS",
        path,
        headers={
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": ",".join(SENT_HEADERS),
        },
    )
    preflight = Text(f"a preflight for {method}", f"предварительный запрос для {method}")
    if not probe.wants(answer, 200, 204, what=preflight, advice=MISSING):
        return answer
    told = ", ".join(answer.headers.get_list("Access-Control-Allow-Headers"))
    allowed = {name.strip().lower() for name in told.split(",")}
    missing = [name for name in SENT_HEADERS if name not in allowed]
    if missing:
        names = ", ".join(missing)
        probe.fault(
            answer,
            expected=same(f"{answer.request}: Access-Control-Allow-Headers ")
            + Text(f"names {', '.join(SENT_HEADERS)}", f"называет {', '.join(SENT_HEADERS)}"),
            came=Text(f"{told!r}, without {names}", f"{told!r}, без {names}"),
            advice=BY_NAME,
        )
    return answer


def _tell(probe: Probe, answers: list[Answer]) -> None:
    """Each fault once, with the answers that have it."""
    found: dict[Fault, list[Answer]] = {}
    origin = str(dict(answers[0].exchange.request_headers).get("origin", "")) if answers else ""
    for answer in answers:
        for fault in _faults(answer, origin):
            found.setdefault(fault, []).append(answer)
    for (told, expected, advice), having in found.items():
        where = ", ".join(dict.fromkeys(f"{answer.request} → {answer.status}" for answer in having))
        probe.fault(
            *having[:3],
            expected=expected,
            came=Text(f"{told}: {where}", f"{told}: {where}"),
            advice=advice,
        )


def _faults(answer: Answer, origin: str) -> Iterator[Fault]:
    name = "Access-Control-Allow-Origin"
    expected = same(f"{name}: {origin}")
    values = answer.headers.get_list(name)
    if not values:
        yield f"no {name}", expected, MISSING
    elif len(values) > 1:
        advice = Text(
            "Two layers add the header, as when a proxy does so before an application that does: keep one.",
            "Заголовок добавляют два слоя, например прокси и приложение за ним: оставьте один.",
        )
        yield f"{name} × {len(values)}: {', '.join(values)}", expected, advice
    elif values[0] == "*":
        yield f"{name}: *", expected + Text(", reflected", ", как в запросе"), STAR
    elif values[0] != origin:
        yield f"{name}: {values[0]}", expected, None
    else:
        yield from _credentials(answer)


def _credentials(answer: Answer) -> Iterator[Fault]:
    if answer.headers.get("Access-Control-Allow-Credentials") != "true":
        told = (
            f"Access-Control-Allow-Credentials: {answer.headers.get('Access-Control-Allow-Credentials', '—')}"
        )
        yield told, same("Access-Control-Allow-Credentials: true"), None
    varies = {name.strip().lower() for name in answer.headers.get("Vary", "").split(",")}
    if not varies & {"origin", "*"}:
        told = f"Vary: {answer.headers.get('Vary', '—')}"
        advice = Text(
            "Without it a cache hands the answer for one origin to another.",
            "Без этого кэш отдаст ответ, предназначенный одному источнику, другому.",
        )
        yield (
            told,
            Text("Vary: Origin where the origin is reflected", "Vary: Origin, раз источник отражается"),
            advice,
        )


C1 = Row(
    "C1",
    Text(
        "CORS: a page of another origin may read every answer",
        "CORS: страница с другого адреса читает любой ответ",
    ),
    Text(
        "Every answer, HEAD and errors too, carries Access-Control-Allow-Origin with the caller's origin, "
        "credentials allowed, Vary: Origin; the preflight names Authorization, Content-Type, "
        "Idempotency-Key.",
        "Каждый ответ, включая HEAD и ошибки, несёт Access-Control-Allow-Origin с адресом страницы, "
        "разрешает "
        "учётные данные и содержит Vary: Origin; preflight называет Authorization, Content-Type, "
        "Idempotency-Key.",
    ),
    cors,
)
