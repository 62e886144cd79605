"""An operation runs in its caller's context, in whichever task or thread it runs."""

import logging
import sqlite3
from contextlib import nullcontext
from contextvars import ContextVar

import pytest
import trio

from adapters.storage_sql.sqlite.storage import SqliteStorage
from messaging_core.ids import MessageId
from messaging_core.ports import Transaction
from tests.storage.sql_writer.writing import raw, send

CALLER: ContextVar[int | None] = ContextVar("caller", default=None)


@pytest.mark.parametrize("how_many", [1, 20], ids=["alone", "together"])
@pytest.mark.parametrize("fails", [False, True], ids=["committed", "retried one by one"])
async def test_log_lines_show_their_caller(
    storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch, how_many: int, fails: bool
) -> None:
    """Log lines of an operation and its callback show their own request, and no other."""
    storage._writer._policy.max_batch_seconds = 60  # even on a busy machine
    lines: list[tuple[str, int | None]] = []
    logger = logging.getLogger("adapters.storage_sql.sqlite.writer")
    monkeypatch.setattr(logger, "exception", lambda text: lines.append((text, CALLER.get())))
    commits: list[str] = []
    storage._writing.set_trace_callback(commits.append)

    async def call(number: int) -> None:
        CALLER.set(number)

        def operation(tx: Transaction) -> MessageId:
            lines.append(("operation", CALLER.get()))
            sent = send(tx)
            if refused:
                raw(tx)("no statement")
            return sent

        def committed(_: MessageId) -> None:
            lines.append(("committed", CALLER.get()))
            raise RuntimeError

        refused = fails and number == how_many - 1
        with pytest.raises(sqlite3.OperationalError) if refused else nullcontext():
            await storage.transact(operation, committed=committed)
        assert CALLER.get() == number

    async with trio.open_nursery() as nursery:
        for number in range(how_many):
            nursery.start_soon(call, number)
    committed_ones = set(range(how_many - fails))
    assert {number for step, number in lines if step == "operation"} == set(range(how_many))
    for step in ("committed", "the callback of a committed transaction failed"):
        numbers = [number for text, number in lines if text == step and number is not None]
        assert sorted(numbers) == sorted(committed_ones)
    assert all(number is not None for _, number in lines)
    assert fails or commits.count("COMMIT") == 1
