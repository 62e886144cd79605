"""The real supervisor, whose workers run a given command.

`python -m tests.cli.supervising WORKERS PATIENCE COMMAND` prints its port and the first worker's identity.
"""

import sys

import trio

from adapters.cli.address import shared_address
from adapters.cli.logs import configure_logs
from adapters.cli.supervisor import Plan, supervise


def main() -> None:
    workers, patience, *command = sys.argv[1:]
    configure_logs("info", "json")
    plan = Plan(command=tuple(command), workers=int(workers), patience=float(patience))
    with shared_address("127.0.0.1", 0, 100) as address:
        (listening,) = address.listen()
        port = listening.getsockname()[1]
        listening.close()

        def serves(identity: bytes) -> None:
            sys.stdout.write(f"{port} {identity.decode()}")
            sys.stdout.flush()

        sys.exit(trio.run(supervise, plan, address, serves))


if __name__ == "__main__":
    main()
