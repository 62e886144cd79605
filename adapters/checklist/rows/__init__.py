"""Every row; a row that others need comes before them. Each module holds the rows of one subject."""

from adapters.checklist.judging import ChecklistRow
from adapters.checklist.rows import chats, cors, docs, events, logs, scenario, sockets, tokens, users

ROWS: tuple[ChecklistRow, ...] = (
    docs.D,
    cors.C1,
    users.C7,
    users.C9,
    tokens.C6,
    sockets.C2,
    chats.C5,
    chats.C8,
    events.C3,
    events.C4,
    scenario.C10,
    scenario.P1,
    tokens.P2,
    logs.L,
)
