"""Whoever carries an operation out, it runs in the context of those who asked for it."""

import logging
import sqlite3
from contextlib import nullcontext
from contextvars import ContextVar

import pytest
import trio

from adapters.storage_sql.sqlite import writer as writer_module
from adapters.storage_sql.sqlite.storage import SqliteStorage
from messaging_core.ids import MessageId
from messaging_core.ports import Transaction
from tests.storage.sql_writer.writing import raw, send

ASKED: ContextVar[int | None] = ContextVar("asked", default=None)


@pytest.mark.parametrize("how_many", [1, 20], ids=["alone", "together"])
@pytest.mark.parametrize("fails", [False, True], ids=["kept", "taken apart"])
async def test_log_lines_are_of_who_asked(
    storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch, how_many: int, fails: bool
) -> None:
    """What an operation and its callback log tells the request they belong to, and no other's."""
    monkeypatch.setattr(writer_module, "OPERATING", 60)  # whatever else this machine is doing
    lines: list[tuple[str, int | None]] = []
    logger = logging.getLogger("adapters.storage_sql.sqlite.writer")
    monkeypatch.setattr(logger, "exception", lambda text: lines.append((text, ASKED.get())))
    commits: list[str] = []
    storage._writing.set_trace_callback(commits.append)

    async def ask(number: int) -> None:
        ASKED.set(number)

        def operation(tx: Transaction) -> MessageId:
            lines.append(("operation", ASKED.get()))
            sent = send(tx)
            if refused:
                raw(tx)("no statement")
            return sent

        def committed(_: MessageId) -> None:
            lines.append(("committed", ASKED.get()))
            raise RuntimeError

        refused = fails and number == how_many - 1
        with pytest.raises(sqlite3.OperationalError) if refused else nullcontext():
            await storage.transact(operation, committed=committed)
        assert ASKED.get() == number

    async with trio.open_nursery() as nursery:
        for number in range(how_many):
            nursery.start_soon(ask, number)
    kept = set(range(how_many - fails))
    assert {number for step, number in lines if step == "operation"} == set(range(how_many))
    for step in ("committed", "what was committed could not be told"):
        assert sorted(number for told, number in lines if told == step and number is not None) == sorted(kept)
    assert all(number is not None for _, number in lines)
    assert fails or commits.count("COMMIT") == 1
