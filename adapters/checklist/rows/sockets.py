"""The socket's door: who is let in, and how the others are told."""

from attrs import define, field, frozen

from adapters.checklist.judging import Probe, Row
from adapters.checklist.people import altered
from adapters.checklist.socket_client import Socket
from adapters.checklist.words import Text, joined

POLICY_VIOLATION = 1008

REFUSED_TOO_EARLY = Text(
    "The classic mistake: closing before accepting becomes HTTP 403, which a browser reports as "
    "1006 without a "
    "reason. First await websocket.accept(), then await websocket.close(code=1008).",
    "Классическая ошибка: закрытие до принятия превращается в HTTP 403, и браузер сообщает 1006 без причины. "
    "Сначала await websocket.accept(), затем await websocket.close(code=1008).",
)
LET_IN = Text(
    "Validate the token of the query before anything is sent to the socket, and close it with 1008.",
    "Проверяйте токен из запроса прежде, чем отправлять что-либо в сокет, и закрывайте его с кодом 1008.",
)
OTHER_CODE = Text(
    "The client logs in again on 1008 only; on any other code it reconnects with the same token, for ever.",
    "Клиент входит заново только при 1008; при любом другом коде он вечно переподключается с тем же токеном.",
)


@frozen(eq=False)
class Refusal:
    """A socket that was not refused as it should be; its outcome before we closed it ourselves."""

    case: Text
    socket: Socket
    outcome: Text


@define
class Refusals:
    """How the sockets with bad tokens were treated: the same for several is told once."""

    kinds: dict[str, list[Refusal]] = field(factory=dict)

    def add(self, kind: str, case: Text, socket: Socket) -> None:
        self.kinds.setdefault(kind, []).append(Refusal(case, socket, socket.outcome))


async def door(probe: Probe) -> None:
    """C2: a good token opens a socket that stays; a bad one is accepted, then closed with 1008."""
    world = probe.world
    person = await world.person("Alice")
    with probe.part():
        async with world.socket(person):
            pass
    bad = altered(person.token)
    world.client.secrets.add(bad, "altered_token")
    refusals = Refusals()
    for case, query in (
        (Text("garbage as the token", "мусор вместо токена"), "?token=garbage"),
        (Text("no token", "без токена"), ""),
        (Text("an empty token", "пустой токен"), "?token="),
        (Text("a token with another signature", "токен с чужой подписью"), f"?token={bad}"),
    ):
        async with world.client.socket(query, whose="") as socket:
            await _treat(probe, case, socket, refusals)
    with probe.part():
        await _revoked(probe, refusals)
    _tell(probe, refusals)
    probe.remark(
        Text(
            "an expired token was not tried, which takes 15 minutes: see that it is closed with 1008 too",
            "истёкший токен не проверялся, это 15 минут ожидания: убедитесь, что и для него код 1008",
        )
    )


async def _revoked(probe: Probe, refusals: Refusals) -> None:
    world = probe.world
    person = await world.person("Alice")
    session = await world.log_in(person)
    answer = await world.client.request("POST", "/auth/logout", token=session.access_token)
    if answer.status in {404, 405}:
        probe.remark(
            Text(
                f"a revoked token was not tried: POST /auth/logout answered {answer.status}",
                f"отозванный токен не проверялся: POST /auth/logout ответил {answer.status}",
            )
        )
        return
    if not probe.wants(
        answer, 200, 204, what=Text("to have a revoked token", "чтобы получить отозванный токен")
    ):
        return
    case = Text("a token of a session that has logged out", "токен сессии, из которой вышли")
    async with world.client.socket(f"?token={session.access_token}", whose="") as socket:
        if await socket.closes(world.timeout) or not socket.opened:
            await _treat(probe, case, socket, refusals)
            return
    # Another process may learn of it within a second, which has passed by now.
    async with world.client.socket(f"?token={session.access_token}", whose="") as socket:
        await _treat(probe, case, socket, refusals)


async def _treat(probe: Probe, case: Text, socket: Socket, refusals: Refusals) -> None:
    if socket.refused is not None:
        refusals.add("refused", case, socket)
    elif not socket.opened:
        refusals.add("failed", case, socket)
    elif not await socket.closes(probe.world.timeout) or socket.closed is None:
        refusals.add("open", case, socket)
    elif socket.closed[0] != POLICY_VIOLATION:
        refusals.add("code", case, socket)
    elif not socket.closed[1]:
        probe.remark(
            Text(
                "the close frame has no reason; token_invalid, token_expired and session_revoked "
                "help to debug",
                "в кадре закрытия нет причины; token_invalid, token_expired, session_revoked "
                "помогают в отладке",
            )
        )


ADVICE: dict[str, Text | None] = {
    "refused": REFUSED_TOO_EARLY,
    "failed": None,
    "open": LET_IN,
    "code": OTHER_CODE,
}


def _tell(probe: Probe, refusals: Refusals) -> None:
    for kind, cases in refusals.kinds.items():
        probe.fault(
            *(case.socket for case in cases[:3]),
            expected=Text(
                "a bad token: the handshake succeeds, then the socket is closed with 1008",
                "негодный токен: рукопожатие проходит, затем сокет закрывается с кодом 1008",
            ),
            came=cases[0].outcome
            + Text(" for: ", "; случаи: ")
            + joined((case.case for case in cases), ", "),
            advice=ADVICE[kind],
        )


C2 = Row(
    "C2",
    Text(
        "/ws?token= opens for a good token and closes with 1008 for a bad one",
        "/ws?token= открывается по годному токену, для негодного закрывается с 1008",
    ),
    Text(
        "A valid access token opens the socket; an invalid, missing or revoked one is accepted "
        "first and then "
        "closed with code 1008, which a browser can see.",
        "Годный токен открывает сокет; с негодным, пустым или отозванным сокет сначала принимается, затем "
        "закрывается с кодом 1008, который виден браузеру.",
    ),
    door,
)
