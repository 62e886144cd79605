"""Loads one server, ours or a peer, and prints the figures.

python -m benchmarks.load sends --senders 16 --seconds 5
python -m benchmarks.load fanout --sockets 1000
python -m benchmarks.load seed --directory DIRECTORY     # creates a database, prints the command to serve it
python -m benchmarks.load sends --port 8123 --pid 4711   # a running server on such a database
"""

import argparse
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.load import rows
from benchmarks.load.canned import serve as serve_canned
from benchmarks.load.client import Void
from benchmarks.load.figures import Figures
from benchmarks.load.processes import (
    Cores,
    NotServing,
    RunningServer,
    choose_cores,
    free_port,
    ours,
    peer,
    running,
    use_load_core,
)
from benchmarks.load.seeding import fill_ours, fill_peers, seed_ours, seed_peers


def main() -> None:
    arguments = _arguments()
    cores = choose_cores()
    if arguments.row == "canned":
        serve_canned(arguments.port)
        return
    try:
        if arguments.row == "seed":
            _seed(arguments)
        elif arguments.port:
            use_load_core(cores)
            _print(_row(arguments, RunningServer(arguments.port, arguments.pid, 0.0)))
        else:
            use_load_core(cores)
            with _seeded(arguments) as command:
                _print(_measure(arguments, command, cores))
    except (Void, NotServing) as error:
        sys.exit(f"void: {error}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.load",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("row", choices=["sends", "fanout", "idle", "reads", "startup", "seed", "canned"])
    parser.add_argument("--senders", type=int, default=None, help="16 for sends (at most 64), 4 for fanout")
    parser.add_argument("--sockets", type=int, default=None, help="100 or 1000 for fanout; 5000 for idle")
    parser.add_argument("--what", choices=["chats", "messages"], default="messages", help="for reads")
    parser.add_argument("--messages", type=int, default=1000, help="messages in the seeded database")
    parser.add_argument("--connections", type=int, default=16, help="connections that read")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--server", default="ours", help="ours, canned, or a peer's file: fastapi_plain.py")
    parser.add_argument(
        "--ours-options", default="", metavar="'--OPTION …'", help="more options for our server"
    )
    parser.add_argument("--port", type=int, help="the port of a running server")
    parser.add_argument("--pid", type=int, help="the process of that server, to read its CPU time and memory")
    parser.add_argument("--directory", type=Path, help="for the database; a temporary directory by default")
    arguments = parser.parse_args()
    if arguments.port and not arguments.pid and arguments.row != "canned":
        parser.error("--port needs --pid")
    return arguments


def _row(arguments: argparse.Namespace, server: RunningServer) -> Figures:
    seconds = arguments.seconds
    match arguments.row:
        case "sends":
            return rows.sends(server, senders=arguments.senders or 16, seconds=seconds)
        case "fanout":
            people = arguments.sockets or 1000
            return rows.fanout(server, people=people, senders=arguments.senders or 4, seconds=seconds)
        case "idle":
            return rows.idle(server, sockets=arguments.sockets or 5000)
        case _:
            return rows.reads(
                server,
                what=arguments.what,
                messages=arguments.messages,
                connections=arguments.connections,
                seconds=seconds,
            )


def _measure(arguments: argparse.Namespace, command: Callable[[int], list[str]], cores: Cores) -> Figures:
    if arguments.row == "startup":
        return rows.startup(command, free_port, cores, times=5)
    port = free_port()
    with running(command(port), port, cores) as server:
        return _row(arguments, server)


@contextmanager
def _seeded(arguments: argparse.Namespace) -> Iterator[Callable[[int], list[str]]]:
    """Yields a function from a port to the command that serves a new, seeded database."""
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        yield _prepared(arguments, Path(directory))


def _prepared(arguments: argparse.Namespace, directory: Path) -> Callable[[int], list[str]]:
    if arguments.server == "canned":
        return lambda port: [sys.executable, "-m", "benchmarks.load", "canned", "--port", str(port)]
    database = directory / "messaging.db"
    if arguments.server == "ours":
        seed_ours(database)
        fill_ours(database, arguments.messages)
        return lambda port: ours(port, database, arguments.ours_options)
    seed_peers(database)
    fill_peers(database, arguments.messages)
    return lambda port: peer(arguments.server, port, database)


def _seed(arguments: argparse.Namespace) -> None:
    directory = arguments.directory or Path(tempfile.mkdtemp())
    command = _prepared(arguments, directory)
    print(shlex.join(["taskset", "-c", "0", *command(8123)]))


def _print(figures: Figures) -> None:
    for name, value in figures.items():
        print(
            f"{name:24} {value:>14,.0%}"
            if name.endswith(("_cpu", "_waited", "_others"))
            else f"{name:24} {value:>14,.2f}"
        )


if __name__ == "__main__":
    main()
