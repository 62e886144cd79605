"""A worker's side of the channel to its supervisor: its configuration, and its report that it serves."""

import json
import os
import socket
from collections.abc import Mapping
from typing import Any

import trio
from attrs import frozen

VARIABLE = "MESSAGING_SUPERVISED"
"""The environment variable of a worker's configuration."""


@frozen
class Supervised:
    """A worker's configuration, from its supervisor."""

    number: int
    """From 1; a worker's successor has the same number."""
    listen: tuple[int, ...]
    """Descriptors of the listening sockets."""
    channel: int
    """Descriptor of a socket whose other end the supervisor holds."""

    def written(self) -> str:
        """The value of the environment variable."""
        return json.dumps({"number": self.number, "listen": self.listen, "channel": self.channel})


def supervised() -> Supervised | None:
    """The configuration in the environment, or None; removes the variable: child processes must not use
    it.
    """
    value = os.environ.pop(VARIABLE, None)
    if value is None:
        return None
    given = json.loads(value)
    for descriptor in (*given["listen"], given["channel"]):
        os.set_inheritable(descriptor, False)
    return Supervised(given["number"], tuple(given["listen"]), given["channel"])


class Channel:
    """The channel to the supervisor."""

    def __init__(self, worker: Supervised) -> None:
        plain = socket.socket(fileno=worker.channel)
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(plain))

    async def serves(self, report: Mapping[str, Any]) -> None:
        """Report that this worker serves, with the `Server` for its operator."""
        await self._stream.send_all(json.dumps(report).encode() + b"\n")

    async def until_left_alone(self) -> None:
        """Wait for the supervisor's end, of whatever cause: the system closes its end of the channel."""
        try:
            while await self._stream.receive_some():
                pass
        except trio.BrokenResourceError:
            pass
