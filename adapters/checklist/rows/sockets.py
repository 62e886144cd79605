"""The WebSocket handshake: which tokens it accepts, and how it refuses the others."""

from attrs import define, field, frozen

from adapters.checklist.accounts import altered
from adapters.checklist.judging import ChecklistRow, Probe
from adapters.checklist.phrases import Phrase, joined
from adapters.checklist.socket_client import RecordedSocket

POLICY_VIOLATION = 1008

REFUSED_TOO_EARLY = Phrase(
    "The classic mistake: closing before accepting becomes HTTP 403, which a browser reports as 1006 "
    "without a reason. First await websocket.accept(), then await websocket.close(code=1008).",
    "Классическая ошибка: закрытие до принятия превращается в HTTP 403, и браузер сообщает 1006 без причины. "
    "Сначала await websocket.accept(), затем await websocket.close(code=1008).",
)
LET_IN = Phrase(
    "Verify the token of the query before you send anything to the socket; if it is invalid, close with "
    "1008.",
    "Проверяйте токен из запроса прежде, чем отправлять что-либо в сокет; если он негоден, закрывайте сокет "
    "с кодом 1008.",
)
OTHER_CODE = Phrase(
    "The client logs in again only on 1008; on any other code it reconnects with the same token for ever.",
    "Клиент входит заново только при 1008; при любом другом коде он вечно переподключается с тем же токеном.",
)


@frozen(eq=False)
class Refusal:
    """A wrong refusal: a socket with a bad token, and its outcome before the check closed it."""

    case: Phrase
    socket: RecordedSocket
    outcome: Phrase


@define
class Refusals:
    """The wrong refusals, by kind: the report has one finding for each kind."""

    kinds: dict[str, list[Refusal]] = field(factory=dict)

    def add(self, kind: str, case: Phrase, socket: RecordedSocket) -> None:
        self.kinds.setdefault(kind, []).append(Refusal(case, socket, socket.outcome))


async def handshakes(probe: Probe) -> None:
    """C2: a valid token opens a socket that stays open; a bad one is accepted, then closed with 1008."""
    run = probe.run
    account = await run.account("Alice")
    with probe.part():
        async with run.socket(account):
            pass
    bad = altered(account.token)
    run.client.secrets.add(bad, "altered_token")
    refusals = Refusals()
    for case, query in (
        (Phrase("garbage as the token", "мусор вместо токена"), "?token=garbage"),
        (Phrase("no token", "без токена"), ""),
        (Phrase("an empty token", "пустой токен"), "?token="),
        (Phrase("a token with another signature", "токен с чужой подписью"), f"?token={bad}"),
    ):
        async with run.client.socket(query, label="") as socket:
            await _classify(probe, case, socket, refusals)
    with probe.part():
        await _revoked(probe, refusals)
    _report(probe, refusals)
    probe.remark(
        Phrase(
            "an expired token was not tried, because expiry takes 15 minutes: check that it gets 1008 too",
            "истёкший токен не проверялся, это 15 минут ожидания: убедитесь, что и для него код 1008",
        )
    )


async def _revoked(probe: Probe, refusals: Refusals) -> None:
    run = probe.run
    account = await run.account("Alice")
    session = await run.log_in(account)
    response = await run.client.request("POST", "/auth/logout", token=session.access_token)
    if response.status in {404, 405}:
        probe.remark(
            Phrase(
                f"a revoked token was not tried: POST /auth/logout responded {response.status}",
                f"отозванный токен не проверялся: POST /auth/logout ответил {response.status}",
            )
        )
        return
    if not probe.expect_status(
        response, 200, 204, what=Phrase("to get a revoked token", "чтобы получить отозванный токен")
    ):
        return
    case = Phrase("a token of a logged-out session", "токен сессии, из которой вышли")
    async with run.client.socket(f"?token={session.access_token}", label="") as socket:
        if await socket.wait_closed(run.timeout) or not socket.opened:
            await _classify(probe, case, socket, refusals)
            return
    # Another process may accept the token for a second after the logout; that second is over.
    async with run.client.socket(f"?token={session.access_token}", label="") as socket:
        await _classify(probe, case, socket, refusals)


async def _classify(probe: Probe, case: Phrase, socket: RecordedSocket, refusals: Refusals) -> None:
    if socket.refused is not None:
        refusals.add("refused", case, socket)
    elif not socket.opened:
        refusals.add("failed", case, socket)
    elif not await socket.wait_closed(probe.run.timeout) or socket.closed is None:
        refusals.add("open", case, socket)
    elif socket.closed[0] != POLICY_VIOLATION:
        refusals.add("code", case, socket)
    elif not socket.closed[1]:
        probe.remark(
            Phrase(
                "the close frame has no reason; token_invalid, token_expired and session_revoked help to "
                "debug",
                "в кадре закрытия нет причины; token_invalid, token_expired и session_revoked помогают в "
                "отладке",
            )
        )


ADVICE: dict[str, Phrase | None] = {
    "refused": REFUSED_TOO_EARLY,
    "failed": None,
    "open": LET_IN,
    "code": OTHER_CODE,
}


def _report(probe: Probe, refusals: Refusals) -> None:
    for kind, cases in refusals.kinds.items():
        probe.add_finding(
            *(case.socket for case in cases[:3]),
            expected=Phrase(
                "a bad token: the handshake succeeds, then the server closes the socket with 1008",
                "негодный токен: рукопожатие проходит, затем сервер закрывает сокет с кодом 1008",
            ),
            actual=cases[0].outcome
            + Phrase("; cases: ", "; случаи: ")
            + joined((case.case for case in cases), ", "),
            advice=ADVICE[kind],
        )


C2 = ChecklistRow(
    "C2",
    Phrase(
        "/ws?token= opens for a valid token and closes with 1008 for a bad one",
        "/ws?token= открывается по годному токену, для негодного закрывается с 1008",
    ),
    Phrase(
        "A valid access token opens the socket; with an invalid, missing or revoked token the server first "
        "accepts the socket and then closes it with code 1008, which a browser can see.",
        "Годный токен открывает сокет; с негодным, пустым или отозванным токеном сервер сначала принимает "
        "сокет, затем закрывает его с кодом 1008, который виден браузеру.",
    ),
    handshakes,
)
