"""A worker's end of the line to its supervisor: what it was given, and what it says."""

import json
import os
import socket
from collections.abc import Mapping
from typing import Any

import trio
from attrs import frozen

VARIABLE = "MESSAGING_SUPERVISED"
"""In the environment of workers, and of nobody else."""


@frozen
class Supervised:
    """This process is a worker."""

    number: int
    """From 1; whoever takes its place has the same."""
    listen: tuple[int, ...]
    """Descriptors of the listening sockets."""
    channel: int
    """Descriptor of a socket whose other end the supervisor has."""

    def written(self) -> str:
        """For the environment."""
        return json.dumps({"number": self.number, "listen": self.listen, "channel": self.channel})


def supervised() -> Supervised | None:
    """What the environment says, once: the descriptors are nobody else's."""
    told = os.environ.pop(VARIABLE, None)
    if told is None:
        return None
    given = json.loads(told)
    for descriptor in (*given["listen"], given["channel"]):
        os.set_inheritable(descriptor, False)
    return Supervised(given["number"], tuple(given["listen"]), given["channel"])


class Channel:
    """The line to the supervisor."""

    def __init__(self, worker: Supervised) -> None:
        plain = socket.socket(fileno=worker.channel)
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(plain))

    async def serves(self, told: Mapping[str, Any]) -> None:
        """Say that this worker answers, and what its operator should know."""
        await self._stream.send_all(json.dumps(told).encode() + b"\n")

    async def until_left_alone(self) -> None:
        """Wait for the supervisor's end, however that comes: the system closes what it had open."""
        try:
            while await self._stream.receive_some():
                pass
        except trio.BrokenResourceError:
            pass
