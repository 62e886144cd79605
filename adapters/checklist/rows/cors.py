"""Whether a page of another origin may read the responses."""

from collections.abc import Iterator

from adapters.checklist.client import Response
from adapters.checklist.judging import ChecklistRow, Probe
from adapters.checklist.phrases import Phrase, verbatim

SENT_HEADERS = ("authorization", "content-type", "idempotency-key")

MISSING = Phrase(
    "Put the CORS layer outermost, around everything that can respond: routes, error handlers, and every "
    "layer that refuses a request before them. FastAPI: app.add_middleware(CORSMiddleware, …) last.",
    "Поставьте слой CORS самым внешним, вокруг всего, что может ответить: маршрутов, обработчиков ошибок и "
    "всего, что отклоняет запрос до них. FastAPI: app.add_middleware(CORSMiddleware, …) последним.",
)
STAR = Phrase(
    "Browsers refuse * for a request with credentials: return the request's own Origin, with Vary: Origin. "
    'FastAPI: allow_origin_regex=".*" instead of allow_origins=["*"].',
    "Для запроса с учётными данными браузер не принимает *: возвращайте Origin запроса и Vary: Origin. "
    'FastAPI: allow_origin_regex=".*" вместо allow_origins=["*"].',
)
BY_NAME = Phrase(
    "* in Access-Control-Allow-Headers never covers Authorization, and with credentials it covers nothing: "
    "name Authorization, Content-Type and Idempotency-Key.",
    "Звёздочка в Access-Control-Allow-Headers не покрывает Authorization, а с учётными данными — ничего: "
    "перечислите Authorization, Content-Type и Idempotency-Key.",
)

Fault = tuple[str, Phrase, Phrase | None]
"""The actual header field, the expected one, and advice; a key that groups responses with the same fault."""


async def cors(probe: Probe) -> None:
    """C1: every kind of response has the header field, and a preflight allows the request that follows."""
    client = probe.run.client
    responses = [
        await client.request("HEAD", "/chats"),
        await client.request("GET", "/chats"),
        await client.request("GET", "/chats", headers={"Authorization": "Bearer garbage"}),
        await client.request("GET", f"/nothing-{probe.run.run_id}"),
        await client.request("GET", f"//nothing-{probe.run.run_id}"),
        await client.request("POST", "/auth/login", body={}),
    ]
    with probe.part():
        account = await probe.run.account("Alice")
        responses.append(await client.request("GET", "/users/me", token=account.token))
        responses.append(await client.request("POST", "/messages", token=account.token, body={}))
    for response in responses:
        if response.status is None:
            probe.add_finding(
                response, expected=verbatim(f"{response.request}: ") + _any_status(), actual=response.summary
            )
    preflights = [await _preflight(probe, "POST", "/messages"), await _preflight(probe, "GET", "/users/me")]
    _report(probe, [response for response in (*responses, *preflights) if response.status is not None])
    probe.remark(
        Phrase(
            "a client cannot cause a 500: check yourself that it has the header too",
            "ответ 500 снаружи не вызвать: проверьте сами, что и в нём есть этот заголовок",
        )
    )


def _any_status() -> Phrase:
    return Phrase("a response with any status", "ответ с любым статусом")


async def _preflight(probe: Probe, method: str, path: str) -> Response:
    response = await probe.run.client.request(
        "OPTIONS",
        path,
        headers={
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": ",".join(SENT_HEADERS),
        },
    )
    preflight = Phrase(f"a preflight for {method}", f"предварительный запрос для {method}")
    if not probe.expect_status(response, 200, 204, what=preflight, advice=MISSING):
        return response
    field = ", ".join(response.headers.get_list("Access-Control-Allow-Headers"))
    allowed = {name.strip().lower() for name in field.split(",")}
    missing = [name for name in SENT_HEADERS if name not in allowed]
    if missing:
        names = ", ".join(missing)
        probe.add_finding(
            response,
            expected=verbatim(f"{response.request}: Access-Control-Allow-Headers ")
            + Phrase(f"names {', '.join(SENT_HEADERS)}", f"называет {', '.join(SENT_HEADERS)}"),
            actual=Phrase(f"{field!r}, without {names}", f"{field!r}, без {names}"),
            advice=BY_NAME,
        )
    return response


def _report(probe: Probe, responses: list[Response]) -> None:
    """Add a finding for each fault, with all responses that have it."""
    found: dict[Fault, list[Response]] = {}
    origin = str(dict(responses[0].exchange.request_headers).get("origin", "")) if responses else ""
    for response in responses:
        for fault in _faults(response, origin):
            found.setdefault(fault, []).append(response)
    for (actual, expected, advice), affected in found.items():
        where = ", ".join(dict.fromkeys(f"{response.request} → {response.status}" for response in affected))
        probe.add_finding(
            *affected[:3],
            expected=expected,
            actual=verbatim(f"{actual}: {where}"),
            advice=advice,
        )


def _faults(response: Response, origin: str) -> Iterator[Fault]:
    name = "Access-Control-Allow-Origin"
    expected = verbatim(f"{name}: {origin}")
    values = response.headers.get_list(name)
    if not values:
        yield f"no {name}", expected, MISSING
    elif len(values) > 1:
        advice = Phrase(
            "Two layers add the header, such as a proxy and the application behind it: keep one.",
            "Заголовок добавляют два слоя, например прокси и приложение за ним: оставьте один.",
        )
        yield f"{name} × {len(values)}: {', '.join(values)}", expected, advice
    elif values[0] == "*":
        yield f"{name}: *", expected + Phrase(", as in the request", ", как в запросе"), STAR
    elif values[0] != origin:
        yield f"{name}: {values[0]}", expected, None
    else:
        yield from _credentials(response)


def _credentials(response: Response) -> Iterator[Fault]:
    if response.headers.get("Access-Control-Allow-Credentials") != "true":
        name = "Access-Control-Allow-Credentials"
        yield f"{name}: {response.headers.get(name, '—')}", verbatim(f"{name}: true"), None
    varies = {name.strip().lower() for name in response.headers.get("Vary", "").split(",")}
    if not varies & {"origin", "*"}:
        advice = Phrase(
            "Without it a cache returns the response for one origin to another origin.",
            "Без этого кэш отдаст ответ, предназначенный одному источнику, другому.",
        )
        yield (
            f"Vary: {response.headers.get('Vary', '—')}",
            Phrase(
                "Vary: Origin, because the response depends on the origin",
                "Vary: Origin, потому что ответ зависит от источника",
            ),
            advice,
        )


C1 = ChecklistRow(
    "C1",
    Phrase(
        "CORS: a page of another origin can read every response",
        "CORS: страница с другого адреса читает любой ответ",
    ),
    Phrase(
        "Every response, including those to HEAD and errors, has Access-Control-Allow-Origin with the page's "
        "origin, allows credentials and has Vary: Origin; a preflight allows Authorization, Content-Type and "
        "Idempotency-Key.",
        "Каждый ответ, включая ответы на HEAD и ошибки, содержит Access-Control-Allow-Origin с адресом "
        "страницы, разрешает учётные данные и содержит Vary: Origin; предварительный запрос разрешает "
        "Authorization, Content-Type и Idempotency-Key.",
    ),
    cors,
)
