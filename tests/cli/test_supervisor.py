"""`--workers`: serving, starting, ending and replacing workers; no process is left at the end."""

import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from adapters.cli.address import shared_address
from tests.cli.supervisors import identity_over, is_alive, refuses, serving, supervised, supervisor

# --- serving ------------------------------------------------------------------------------------------------


async def test_connections_are_spread_over_the_workers(tmp_path: Path) -> None:
    """All workers listen on one free port, and each gets a share of the connections."""
    async with serving(tmp_path, supervisor()) as it:
        identities = [await it.ask() for _ in range(100)]
        assert {number for number, _ in identities} == {1, 2, 3}
        assert dict(identities) == it.serving()
        assert it.output == f"{it.port} I am 1 {it.serving()[1]}\n"
        assert await it.end() == 0


async def test_a_worker_that_is_killed_is_started_again(tmp_path: Path) -> None:
    """A killed worker is replaced at once; connections in between wait for it, and none is refused."""
    async with serving(tmp_path, supervisor()) as it:
        before = it.serving()
        os.kill(before[2], signal.SIGKILL)
        await it.until(lambda: not is_alive(before[2]))
        identities = {await it.ask() for _ in range(100)}
        assert {number for number, _ in identities} == {1, 2, 3}
        after = it.serving()
        assert after[2] != before[2]
        assert {**after, 2: before[2]} == before
        assert {pid for _, pid in identities} <= {*before.values(), after[2]}
        (died,) = it.events("worker_died")
        assert (died["worker"], died["pid"], died["status"], died["again_in"]) == (2, before[2], 137, 0)


async def test_a_supervisor_whose_log_cannot_be_written_replaces_its_workers(tmp_path: Path) -> None:
    """The line about a worker's death is lost; its replacement is started."""
    program = ["sh", "-c", 'exec "$@" 2>/dev/full', "sh", *supervisor(workers=1)]
    async with serving(tmp_path, program) as it:
        _, pid = await it.ask()
        os.kill(pid, signal.SIGKILL)
        number, other = await it.ask()
        assert (number, other != pid) == (1, True)
        assert await it.end() == 0


async def test_a_worker_that_dies_repeatedly_is_started_after_pauses(tmp_path: Path) -> None:
    """During a pause the other workers get all connections; once the worker can start, it serves again."""
    async with serving(tmp_path, supervisor()) as it:
        (tmp_path / "cannot-start").write_text("2", encoding="ascii")
        os.kill(it.serving()[2], signal.SIGKILL)
        await it.until(lambda: len(it.events("worker_died")) >= 3)
        for _ in range(50):
            with suppress(trio.BrokenResourceError, ValueError):  # queued at the dead worker's socket
                assert (await it.ask())[0] in {1, 3}
        pauses = [line["again_in"] for line in it.events("worker_died")]
        assert pauses[:3] == [0, 0.5, 1]
        (tmp_path / "cannot-start").unlink()
        await it.until(lambda: len(it.events("worker_serves")) == 4)
        assert {(await it.ask())[0] for _ in range(100)} == {1, 2, 3}


# --- not starting -------------------------------------------------------------------------------------------


async def test_a_worker_that_cannot_start_ends_the_supervisor(tmp_path: Path) -> None:
    """The supervisor ends with the worker's error and status, and starts none again."""
    (tmp_path / "cannot-start").write_text("1 2 3", encoding="ascii")
    async with supervised(tmp_path, supervisor()) as it:
        assert await it.wait() == 1
        assert [line for line in it.lines if "Error" in line] == ["Error: this worker cannot start"]
        assert len(it.events("worker_started")) == 1


async def test_a_later_worker_that_cannot_start_ends_the_supervisor_too(tmp_path: Path) -> None:
    """The workers that serve already drain."""
    (tmp_path / "cannot-start").write_text("3", encoding="ascii")
    async with supervised(tmp_path, supervisor()) as it:
        assert await it.wait() == 1
        assert [line for line in it.lines if "Error" in line] == ["Error: this worker cannot start"]
        assert [line["worker"] for line in it.events("worker_started")].count(3) == 1


@pytest.mark.parametrize("status", [0, 3])
async def test_a_worker_that_ends_before_it_serves_is_a_failure(tmp_path: Path, status: int) -> None:
    """The supervisor ends with the worker's status, or with 1 if that is 0."""
    async with supervised(tmp_path, supervisor((sys.executable, "-c", f"raise SystemExit({status})"))) as it:
        assert await it.wait() == (status or 1)
        assert len(it.events("worker_started")) == 1


async def test_a_command_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    """The supervisor logs the error and ends with status 1."""
    async with supervised(tmp_path, supervisor(("./nothing",))) as it:
        assert await it.wait() == 1
        assert any("nothing" in line for line in it.lines)


# --- ending -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
async def test_at_the_first_signal_every_worker_drains(tmp_path: Path, number: signal.Signals) -> None:
    """Open connections get their responses, new ones are refused, and the status is 0."""
    async with serving(tmp_path, supervisor()) as it:
        waiting = [await it.connect() for _ in range(20)]
        for stream in waiting:
            await stream.send_all(b"wait")
        it.process.send_signal(number)
        await it.until(lambda: refuses(it.port))
        identities = []
        for stream in waiting:
            async with stream:
                identities.append(await identity_over(stream))
        assert {pid for _, pid in identities} == set(it.serving().values())
        assert await it.wait() == 0
        assert sorted(line["status"] for line in it.events("worker_ended")) == [0, 0, 0]


async def test_at_the_second_signal_the_supervisor_ends_at_once(tmp_path: Path) -> None:
    """A second signal ends the supervisor although a worker still drains."""
    async with serving(tmp_path, supervisor()) as it, await it.connect() as stream:
        await stream.send_all(b"wait")
        it.process.terminate()
        await it.until(lambda: refuses(it.port))
        assert await it.end() == 143


async def test_a_worker_that_does_not_drain_is_killed(tmp_path: Path) -> None:
    """A worker that does not end within its time is killed, and the supervisor's status is 1."""
    (tmp_path / "deaf").write_text("2", encoding="ascii")
    async with serving(tmp_path, supervisor(patience=0.3)) as it:
        assert await it.end() == 1
        assert [line["worker"] for line in it.events("worker_killed")] == [2]
        assert sorted(line["status"] for line in it.events("worker_ended")) == [0, 0, 137]


async def test_a_supervisor_that_is_killed_leaves_no_orphans(tmp_path: Path) -> None:
    """The workers of a killed supervisor drain: a request in flight gets its response."""
    async with serving(tmp_path, supervisor()) as it:
        stream = await it.connect()
        await stream.send_all(b"wait")
        await it.end(signal.SIGKILL)
        await it.until(lambda: refuses(it.port))
        async with stream:
            _, pid = await identity_over(stream)
        assert pid in it.serving().values()


async def test_a_signal_during_the_start_ends_the_supervisor(tmp_path: Path) -> None:
    """A signal before any worker serves ends the supervisor with status 0."""
    async with supervised(tmp_path, supervisor((sys.executable, "-c", "import time; time.sleep(60)"))) as it:
        await it.until(lambda: bool(it.events("worker_started")))
        assert await it.end() == 0
        assert len(it.events("worker_started")) == 1


async def test_a_supervisor_ignores_other_signals(tmp_path: Path) -> None:
    """SIGUSR1 and SIGUSR2 are logged and change nothing."""
    async with serving(tmp_path, supervisor()) as it:
        before = it.serving()
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            it.process.send_signal(number)
        await it.until(lambda: len(it.events("signal_ignored")) == 2)
        assert {line["signal"] for line in it.events("signal_ignored")} == {"SIGUSR1", "SIGUSR2"}
        assert it.serving() == before
        assert await it.end() == 0


async def test_a_terminals_ctrl_c_is_for_the_supervisor_alone(tmp_path: Path) -> None:
    """Each worker has its own process group, so that it does not get the signal of the terminal as well."""
    async with serving(tmp_path, supervisor()) as it:
        groups = {os.getpgid(pid) for pid in it.serving().values()}
        assert len(groups) == 3
        assert os.getpgid(it.process.pid) not in groups


# --- replacing ----------------------------------------------------------------------------------------------


async def test_sighup_replaces_all_workers_without_a_refusal(tmp_path: Path) -> None:
    """Each new worker serves, on the same socket, before the old one drains."""
    async with serving(tmp_path, supervisor()) as it:
        before = it.serving()
        asking = True
        identities: list[tuple[int, int]] = []

        async def ask_repeatedly() -> None:
            while asking:
                identities.append(await it.ask())

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(ask_repeatedly)
            it.process.send_signal(signal.SIGHUP)
            await it.until(lambda: bool(it.events("workers_have_been_replaced")))
            asking = False
        after = it.serving()
        assert not set(before.values()) & set(after.values())
        assert {number for number, _ in identities} == {1, 2, 3}
        assert not any(map(is_alive, before.values()))
        assert {(await it.ask())[1] for _ in range(50)} <= set(after.values())
        assert it.events("worker_died") == []


async def test_a_new_worker_that_cannot_start_replaces_none(tmp_path: Path) -> None:
    """If a new worker fails, for example over a wrong setting, the old ones stay until the next SIGHUP."""
    async with serving(tmp_path, supervisor()) as it:
        before = it.serving()
        (tmp_path / "cannot-start").write_text("1 2 3", encoding="ascii")
        it.process.send_signal(signal.SIGHUP)
        await it.until(lambda: bool(it.events("worker_not_replaced")))
        assert it.serving() == before
        assert {(await it.ask())[1] for _ in range(100)} == set(before.values())
        (tmp_path / "cannot-start").unlink()
        it.process.send_signal(signal.SIGHUP)
        await it.until(lambda: bool(it.events("workers_have_been_replaced")))
        assert not set(before.values()) & set(it.serving().values())


# --- the address --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spreads", [True, False])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_shared_address_outlives_its_listeners(host: str, spreads: bool) -> None:
    """The address stays the same while listeners close and open, and is free at the end."""
    with shared_address(host, 0, 10, spreads=spreads) as address:
        ports = set()
        for _ in range(2):
            for one in (*address.listen(), *address.listen()):
                ports.add(one.getsockname()[1])
                with one, socket.create_connection((host, one.getsockname()[1])):
                    pass
        (port,) = ports
    with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
        pass


def test_connections_in_the_backlog_wait_for_the_next_worker() -> None:
    """The supervisor's copy keeps the socket open, so connections in its backlog are not reset."""
    with shared_address("127.0.0.1", 0, 10) as address:
        (listener,) = address.listen()
        with listener, socket.create_connection(listener.getsockname()) as waiting:
            with listener.dup() as served:
                served.listen()
            with listener.dup() as served:
                accepted, _ = served.accept()
                with accepted:
                    accepted.sendall(b"hello")
                    assert waiting.recv(5) == b"hello"


@pytest.mark.parametrize("spreads", [True, False])
def test_an_address_in_use_is_refused_although_it_could_be_shared(spreads: bool) -> None:
    """An address in use is refused: a second server of the same user would get half of the connections."""
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(OSError, match="in use"),
        shared_address("127.0.0.1", other.getsockname()[1], 10, spreads=spreads),
    ):
        pass
    with shared_address("127.0.0.1", 0, 10, spreads=spreads) as address:
        (listening,) = address.listen()
        port = listening.getsockname()[1]
        with listening:
            with pytest.raises(OSError, match="in use"), shared_address("127.0.0.1", port, 10):
                pass
            with pytest.raises(OSError, match="in use"):
                socket.create_server(("127.0.0.1", port))
