"""The server's log, which only its operator can read."""

from adapters.checklist.judging import ChecklistRow, Probe
from adapters.checklist.phrases import Phrase, verbatim


async def log_lines(probe: Probe) -> None:
    """L: remarks on what the server's log must contain after this run."""
    facts = probe.run.facts
    user, message, chat = (facts.get(name, "…") for name in ("user", "message", "chat"))
    lines = (
        f"WebSocket connected: user_id={user}",
        f"Message created: {message} in chat {chat}",
        f"Sending WebSocket event to user {facts.get('other', '…')}: message.created",
        "Broadcasting to 2 participants",
    )
    probe.remark(
        Phrase("find these lines in the server's log: ", "найдите в журнале сервера эти строки: ")
        + verbatim("; ".join(f"«{line}»" for line in lines))
    )
    probe.remark(
        Phrase(
            "check that the log contains no token and no password: search it for «eyJ» and «password123»",
            "убедитесь, что в журнале нет токенов и паролей: поищите «eyJ» и «password123»",
        )
    )


L = ChecklistRow(
    "L",
    Phrase(
        "Log lines record sockets, messages and broadcasts",
        "Журнал сообщает о сокетах, сообщениях и рассылке",
    ),
    Phrase(
        "A line when a socket connects, a message is created, an event is sent to a user, and an event is "
        "broadcast to a chat.",
        "Строка при подключении сокета, создании сообщения, отправке события пользователю и рассылке по "
        "чату.",
    ),
    log_lines,
    checkable=False,
)
