"""An upgrade keeps users logged in."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from adapters.security import JwtSigner, Keyring
from adapters.storage_sql.driver import Row
from adapters.storage_sql.postgresql.schema import upgrade_postgresql
from adapters.storage_sql.rows import seconds
from adapters.storage_sql.schema import upgrade_sqlite
from messaging_core.ids import SessionId, UserId
from messaging_core.models import AccessClaims, RefreshClaims
from tests.postgresql import connect, new_database
from tests.server.clients import browser, expect
from tests.server.servers import process
from tests.storage.older_schema import upgrades_stop_at

NOW = datetime.now(UTC).replace(microsecond=0)
END = NOW + timedelta(days=20)
SECRET = b"\x0f" * 32
USER: Row = (7, "alice@test.com", "Alice", "alice", None, seconds(NOW))
SESSION: Row = (3, 7, "a phone", seconds(NOW), seconds(NOW), seconds(END), 5, True, None)


def insert(table: str, row: Row, mark: str) -> str:
    return f"INSERT INTO {table} VALUES ({', '.join([mark] * len(row))})"  # noqa: S608 - names of the tests


@contextmanager
def left_by_0005(kind: str, directory: Path) -> Iterator[str]:
    """The address of a database of schema 0005, with a session of Alice's."""
    if kind == "postgresql":
        with new_database(f"messaging_test_upgrade_{os.getpid()}") as address:
            with upgrades_stop_at("0005"):
                upgrade_postgresql(address)
            with connect(address) as connection:
                for table, row in (("users", USER), ("sessions", SESSION)):
                    connection.execute(insert(table, row, "%s").encode(), row)
            yield address
        return
    path = directory / "messaging.db"
    with upgrades_stop_at("0005"):
        upgrade_sqlite(path)
    with closing(sqlite3.connect(path)) as file, file:
        for table, row in (("users", USER), ("sessions", SESSION)):
            file.execute(insert(table, row, "?"), row)
    yield f"sqlite:///{path}"


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_sessions_without_nonces_continue(kind: str, tmp_path: Path) -> None:
    """Tokens without nonces stay valid, and so do those that they are refreshed to."""
    signer = JwtSigner(Keyring({"k1": SECRET}))
    access = signer.sign_access(AccessClaims(UserId(7), SessionId(3), 5, NOW, END, None))
    refresh = signer.sign_refresh(RefreshClaims(UserId(7), SessionId(3), 5, NOW, END, None))
    with left_by_0005(kind, tmp_path) as address:
        if kind == "postgresql":
            assert upgrade_postgresql(address) == "0005"
        keys = f"k1:{SECRET.hex()}"
        async with (
            process(tmp_path, "--database", address, variables={"MESSAGING_SIGNING_KEYS": keys}) as server,
            browser(server) as http,
        ):
            await is_alice(http, access)
            one = await refreshed(http, refresh)
            assert (await refreshed(http, refresh))["refresh_token"] == one["refresh_token"]
            await is_alice(http, access)
            await refreshed(http, one["refresh_token"])


async def refreshed(http: httpx.AsyncClient, refresh_token: str) -> dict[str, str]:
    pair: dict[str, str] = expect(
        await http.post("/auth/refresh", json={"refresh_token": refresh_token}), 200
    )
    await is_alice(http, pair["access_token"])
    return pair


async def is_alice(http: httpx.AsyncClient, access_token: str) -> None:
    response = await http.get("/users/me", headers={"Authorization": f"Bearer {access_token}"})
    assert expect(response, 200)["tag"] == "alice"
