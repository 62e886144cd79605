"""A restored backup, on both databases, by the page's commands: nothing of the lost time counts."""

import os
import re
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import jwt
import pytest
import trio
from attrs import evolve, frozen
from psycopg.conninfo import conninfo_to_dict

from adapters.storage_sql import open_sqlite
from adapters.storage_sql.postgresql.storage import open_postgresql
from tests.postgresql import SERVER, address_of, break_all, connect, new_database, new_database_with_tables
from tests.server.clients import FAULTS_EXPECTED, Person, browser, expect, log_in, register
from tests.server.servers import ServerProcess, process
from tests.server.test_deployment import shown, tool


@frozen
class Sqlite:
    """A server's directory, and the database file, which is backed up and restored."""

    directory: Path

    def _here(self, command: str) -> str:
        command = command.replace("/var/lib/messaging/", f"{self.directory}/")
        command = command.replace("/var/backups/messaging/", f"{self.directory}/backups/")
        return command.replace("-o messaging ", "").replace("2024-11-04-143000.db", "*.db")

    def settings(self) -> dict[str, str]:
        return {}

    async def back_up(self) -> None:
        (self.directory / "backups").mkdir()
        await run(self._here(shown("sqlite3 /var/lib/messaging/messaging.db", "VACUUM")))

    async def restore(self) -> None:
        await run(self._here(shown("rm -f /var/lib/messaging/messaging.db-wal")))
        await run(self._here(shown("install -o messaging -m 600 /var/backups/messaging")))

    async def lower_counters(self) -> None:
        """Open it once, and set the counters back to those of the backup."""
        path = self.directory / "messaging.db"
        with closing(sqlite3.connect(path)) as connection:
            counters = connection.execute("SELECT last, kind FROM sequences").fetchall()
        async with open_sqlite(path):
            pass
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.executemany("UPDATE sequences SET last = ? WHERE kind = ?", counters)
        (self.directory / "messaging.db.lock").unlink()  # has a note by which this change is noticed


@frozen
class Postgresql:
    """Two databases: the dumped one, and the one created from the dump."""

    directory: Path
    name: str

    def _here(self, command: str) -> str:
        role = conninfo_to_dict(SERVER).get("user", "postgres")
        command = re.sub(r"\bmessaging_restored\b", f"{self.name}_restored", command)
        command = command.replace("messaging.dump messaging", f"messaging.dump {self.name}")
        command = command.replace("messaging.dump", str(self.directory / "messaging.dump"))
        return re.sub(r"--(owner|role)=messaging\b", rf"--\1={role}", command)

    def settings(self) -> dict[str, str]:
        restored = (self.directory / "restored").exists()
        address = address_of(f"{self.name}_restored" if restored else self.name)
        return {"MESSAGING_SIGNING_KEYS": "k1:" + "0f" * 32, "MESSAGING_DATABASE": address}

    async def back_up(self) -> None:
        await run(self._here(shown("pg_dump")))

    async def restore(self) -> None:
        await run(self._here(shown("createdb")))
        await run(self._here(shown("pg_restore")))
        (self.directory / "restored").touch()

    async def lower_counters(self) -> None:
        """Open it once, and set the counters back to those of the backup."""
        address = address_of(f"{self.name}_restored")
        with connect(address) as connection:
            counters = connection.execute("SELECT sequencename, last_value FROM pg_sequences").fetchall()
            async with open_postgresql(address):
                pass
            for name, last in counters:
                if last is not None:
                    connection.execute("SELECT setval(%s, %s)", [name, last])


Database = Sqlite | Postgresql


async def run(command: str) -> None:
    tool(command.partition(" ")[0])
    parameters = conninfo_to_dict(SERVER)
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD"}
    login = {names[key]: str(value) for key, value in parameters.items() if key in names}
    await trio.run_process(["sh", "-c", command], capture_stdout=True, env={**os.environ, **login})


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        yield Sqlite(tmp_path)
        return
    with new_database_with_tables("messaging_test_restore") as address:
        name = address.rpartition("/")[2]
        with new_database(f"{name}_restored"):
            pass  # creates and drops it, so that one of an earlier run is gone
        try:
            yield Postgresql(tmp_path, name)
        finally:
            with new_database(f"{name}_restored"):
                pass


@asynccontextmanager
async def server_on(database: Database, *arguments: str) -> AsyncIterator[ServerProcess]:
    async with process(database.directory, *arguments, variables=database.settings()) as server:
        yield server


def session_of(person: Person) -> tuple[str, int]:
    claims = jwt.decode(person.access_token, options={"verify_signature": False})
    return claims["sub"], claims["sid"]


async def test_tokens_from_after_the_backup_are_invalid(database: Database) -> None:
    """A token from after the backup is invalid everywhere, also for a new session with the same identifiers.

    Requests with it use up no rate of that session, and do not end it as reused. Tokens from before the
    backup stay valid.
    """
    async with server_on(database) as server, browser(server) as http:
        alice = await register(server, http, "Alice")
        await database.back_up()
        first = await register(server, http, "First")
        await server.stop()
    await database.restore()
    await database.lower_counters()
    async with server_on(database, "--refresh-rate", "0.01:2") as server, browser(server) as http:
        second = await register(server, http, "Second")
        assert session_of(second) == session_of(first)
        first, alice = evolve(first, server=server, http=http), evolve(alice, server=server, http=http)
        expect(await first.ask("GET", "/users/me"), 401, "session_revoked")
        async with first.socket() as socket:
            assert await socket.closed() == (1008, "session_revoked")
        body = {"refresh_token": first.refresh_token}
        expect(await http.post("/auth/refresh", json=body), 401, "refresh_token_invalid")
        expect(await http.post("/auth/refresh", json=body), 401, "refresh_token_invalid")
        expect(await http.post("/auth/refresh", json=body), 429)
        assert expect(await second.ask("GET", "/users/me"), 200) == second.user
        # The other session's token is cached by now.
        expect(await first.ask("GET", "/users/me"), 401, "session_revoked")
        body = {"refresh_token": second.refresh_token}
        expect(await http.post("/auth/refresh", json=body), 200)
        assert expect(await alice.ask("GET", "/users/me"), 200) == alice.user
        expect(await http.post("/auth/refresh", json={"refresh_token": alice.refresh_token}), 200)


async def test_a_restore_repeats_no_identifier(database: Database) -> None:
    """No identifier is assigned again, so that `after_id` of a client misses nothing, and the log says so.

    A client that resumes by the numbers of the lost time starts over.
    """
    async with server_on(database) as server, browser(server) as http:
        alice, bob = await register(server, http, "Alice"), await register(server, http, "Bob")
        chat = await alice.direct_chat_with(bob)
        await alice.send(chat)
        await database.back_up()
        carol = await register(server, http, "Carol")
        newest_chat = await alice.direct_chat_with(carol)
        newest = [await alice.send(chat) for _ in range(100)][-1]["id"]
        async with alice.full_socket() as (_, hello):
            pass
        await server.stop()
    await database.restore()
    async with server_on(database) as server, browser(server) as http:
        assert server.log.count("has a new incarnation") == 1
        alice = await log_in(server, http, "Alice")
        dave = await register(server, http, "Dave")
        assert dave.id > carol.id
        assert session_of(alice)[1] > session_of(carol)[1]
        assert await alice.direct_chat_with(dave) > newest_chat
        sent = [(await alice.send(chat))["id"] for _ in range(3)]
        response = await alice.ask("GET", f"/messages?chat_id={chat}&after_id={newest}&limit=200")
        assert [message["id"] for message in expect(response, 200)["messages"]] == sent[::-1]
        async with alice.full_socket("&resume=1") as (socket, _):
            await socket.ask("resume", log=hello["log"], chats={str(chat): 2})
            assert (await socket.next_of("resync_required"))["data"]["reason"] == "other_log"


async def test_a_server_ends_when_its_database_is_replaced(tmp_path: Path) -> None:
    """It refuses requests, closes its sockets so that clients reconnect, and ends; the next one starts."""
    with new_database_with_tables("messaging_test_replaced") as address:
        database = Postgresql(tmp_path, address.rpartition("/")[2])
        async with server_on(database) as server, browser(server) as http:
            alice = await register(server, http, "Alice")
            async with alice.socket() as socket:
                with connect(address) as connection:
                    connection.execute(
                        "UPDATE incarnations SET bound_to = bound_to"
                    )  # as a restore: a new row
                break_all(address)
                response = await alice.ask("GET", "/chats", extensions=FAULTS_EXPECTED)
                expect(response, 503, "storage_unavailable")
                code, _ = await socket.closed()
                assert code == 1012
            assert await server.wait() == 1
            assert "the log has another incarnation" in server.log
        async with server_on(database) as server, browser(server) as http:
            alice = evolve(alice, server=server, http=http)
            assert expect(await alice.ask("GET", "/users/me"), 200) == alice.user
