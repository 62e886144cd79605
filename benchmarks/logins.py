"""Measures whether people can log in while one or several addresses flood the server with logins.

    python -m benchmarks.logins [--rate 120] [--addresses 1] [--victims 20] [--rate-limits on|off]

There is one server with an SQLite file. The attack sends logins at a steady rate, each with an unknown
e-mail, from 127.0.0.2 (and 127.0.0.3 and so on). Meanwhile people log in from 127.0.0.1, each once, one every
half second. The program prints how many of them got a 200 within a second, their times, and the statuses of
the responses to the attack. `--messaging` names the command of another version.
"""

import argparse
import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from subprocess import DEVNULL, PIPE, Popen
from time import perf_counter

import trio
from attrs import define, field

from benchmarks.load.wire import request, response_size

VICTIM = "127.0.0.1"
PACE = 0.5
"""Seconds between two logins of people."""
WITHIN = 1.0
"""Seconds within which a person must be logged in."""
PATIENCE = 10.0
"""Seconds after which a request without a response is given up."""
PASSWORD = "password123"


@define
class LoginFigures:
    """The figures of the measurement; times in seconds."""

    took: list[tuple[int, float]] = field(factory=list)
    """For each person, the status of the response (0 for none) and its time."""
    attack: Counter[int] = field(factory=Counter)
    """The statuses of the responses to the attack, 0 for none."""

    @property
    def in_time(self) -> int:
        return sum(status == 200 and took <= WITHIN for status, took in self.took)

    def table(self) -> str:
        times = [took for _, took in self.took]
        return "\n".join(
            (
                f"people logged in within {WITHIN:.0f} s: {self.in_time} of {len(self.took)}",
                f"their responses: {dict(Counter(status for status, _ in self.took))}",
                f"their times: p50 {median(times) * 1000:.0f} ms, longest {max(times) * 1000:.0f} ms",
                f"responses to the attack: {dict(self.attack.most_common())}",
            )
        )


async def post(port: int, source: str, path: str, body: dict[str, str]) -> int:
    """The status of a POST on a new connection from the address `source`; 0 without a response."""
    with trio.move_on_after(PATIENCE):
        try:
            sock = trio.socket.socket()
            await sock.bind((source, 0))
            await sock.connect(("127.0.0.1", port))
            async with trio.SocketStream(sock) as stream:
                await stream.send_all(request("POST", path, body=json.dumps(body).encode()))
                response = b""
                while not (size := response_size(response)) or len(response) < size:
                    data = await stream.receive_some()
                    if not data:
                        return 0
                    response += data
                return int(response[9:12])
        except OSError:
            return 0
    return 0


def account(number: int) -> dict[str, str]:
    return {"email": f"person{number}@test.com", "password": PASSWORD}


async def attack(port: int, rate: float, addresses: int, figures: LoginFigures) -> None:
    """Send logins at this rate until cancelled, without waiting for the responses."""

    async def one(number: int) -> None:
        source = f"127.0.0.{2 + number % addresses}"
        body = {"email": f"nobody{number}@test.com", "password": PASSWORD}
        figures.attack[await post(port, source, "/api/v1/auth/login", body)] += 1

    began, number = trio.current_time(), 0
    async with trio.open_nursery() as nursery:
        while True:
            nursery.start_soon(one, number)
            number += 1
            await trio.sleep_until(began + number / rate)


async def measure(port: int, *, rate: float, addresses: int, victims: int) -> LoginFigures:
    figures = LoginFigures()
    for number in range(victims):
        body = {**account(number), "display_name": f"Person {number}"}
        status = await post(port, VICTIM, "/api/v1/auth/register", body)
        assert status == 201, status
    async with trio.open_nursery() as nursery:
        nursery.start_soon(attack, port, rate, addresses, figures)
        await trio.sleep(2)
        for number in range(victims):
            began = perf_counter()
            status = await post(port, VICTIM, "/api/v1/auth/login", account(number))
            took = perf_counter() - began
            figures.took.append((status, took))
            await trio.sleep(max(0.0, PACE - took))
        nursery.cancel_scope.cancel()
    return figures


@contextmanager
def serving(messaging: str, *arguments: str) -> Iterator[int]:
    """Run a server with a new SQLite file; yields its port."""
    with tempfile.TemporaryDirectory(prefix="logins-") as directory:
        command = [messaging, "serve", "--bind", "127.0.0.1:0", "--log-level", "error", *arguments]
        with Popen(command, cwd=directory, stdout=PIPE, stderr=DEVNULL, text=True) as server:
            try:
                assert server.stdout is not None
                for line in server.stdout:
                    if found := re.search(r"http://127\.0\.0\.1:(\d+)/api", line):
                        yield int(found[1])
                        break
                else:
                    raise RuntimeError("the server ended before it served")
            finally:
                server.terminate()
                server.stdout = None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.logins", description=__doc__)
    parser.add_argument("--rate", type=float, default=120.0, help="logins of the attack a second")
    parser.add_argument("--addresses", type=int, default=1, help="addresses that the attack comes from")
    parser.add_argument("--victims", type=int, default=20, help="people who log in meanwhile")
    parser.add_argument("--rate-limits", choices=["on", "off"], default="on")
    parser.add_argument("--messaging", default=str(Path(sys.executable).with_name("messaging")))
    options = parser.parse_args()
    limits = () if options.rate_limits == "on" else ("--no-rate-limits",)
    with serving(options.messaging, *limits) as port:
        figures = trio.run(
            partial(measure, port, rate=options.rate, addresses=options.addresses, victims=options.victims)
        )
    sys.stdout.write(figures.table() + "\n")
    sys.exit(figures.in_time < options.victims)


if __name__ == "__main__":
    main()
