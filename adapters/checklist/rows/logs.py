"""What only the people who run the server can see."""

from adapters.checklist.judging import Probe, Row
from adapters.checklist.words import Text, same


async def log_lines(probe: Probe) -> None:
    """L: what to look for in the server's log after this run."""
    facts = probe.world.facts
    user, message, chat = (facts.get(name, "…") for name in ("user", "message", "chat"))
    lines = (
        f"WebSocket connected: user_id={user}",
        f"Message created: {message} in chat {chat}",
        f"Sending WebSocket event to user {facts.get('other', '…')}: message.created",
        "Broadcasting to 2 participants",
    )
    probe.remark(
        Text("look for these lines in the server's log: ", "найдите в журнале сервера эти строки: ")
        + same("; ".join(f"«{line}»" for line in lines))
    )
    probe.remark(
        Text(
            "and see that the log holds no token and no password: search it for «eyJ» and «password123»",
            "и убедитесь, что в журнале нет токенов и паролей: поищите «eyJ» и «password123»",
        )
    )


L = Row(
    "L",
    Text(
        "Log lines tell of sockets, messages and broadcasts",
        "Журнал сообщает о сокетах, сообщениях и рассылке",
    ),
    Text(
        "A line when a socket connects, a message is made, an event is sent to a user, and a chat is told.",
        "Строка при подключении сокета, создании сообщения, отправке события пользователю и "
        "рассылке по чату.",
    ),
    log_lines,
    checkable=False,
)
