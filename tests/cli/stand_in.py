"""A worker without a server: it answers whoever says something with its number and its process's.

Run by its path. In its directory the file `cannot-start` names those that end at their start, `deaf` those
that pass over SIGTERM.
"""

import json
import os
import selectors
import signal
import socket
import sys
from pathlib import Path

GIVEN = json.loads(os.environ["MESSAGING_SUPERVISED"])
NUMBER = str(GIVEN["number"])
TOLD = f"{NUMBER} {os.getpid()}\n".encode()


def named_in(name: str) -> bool:
    file = Path(name)
    return file.exists() and NUMBER in file.read_text(encoding="ascii").split()


def accept(listener: socket.socket, selector: selectors.BaseSelector) -> bool:
    try:
        connection, _ = listener.accept()
    except BlockingIOError:
        return False
    selector.register(connection, selectors.EVENT_READ, "connection")
    return True


def answer(connection: socket.socket, selector: selectors.BaseSelector) -> None:
    """`wait` has no answer; whatever else is said has, and it is the last word."""
    said = connection.recv(100)
    if said.strip() == b"wait":
        return
    selector.unregister(connection)
    if said:
        connection.sendall(TOLD)
    connection.close()


def drain(listeners: list[socket.socket], selector: selectors.BaseSelector) -> None:
    """Take whom the kernel has taken in already, and nobody else."""
    for listener in listeners:
        while accept(listener, selector):
            pass
        selector.unregister(listener)
        listener.close()
    listeners.clear()


def main() -> None:
    woken, wake = socket.socketpair()
    wake.setblocking(False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno())
    if named_in("cannot-start"):
        sys.exit("Error: this one cannot start")
    channel = socket.socket(fileno=GIVEN["channel"])
    listeners = [socket.socket(fileno=number) for number in GIVEN["listen"]]
    selector = selectors.DefaultSelector()
    for listener in listeners:
        listener.setblocking(False)
        selector.register(listener, selectors.EVENT_READ, "listener")
    selector.register(channel, selectors.EVENT_READ, "end")
    selector.register(woken, selectors.EVENT_READ, "end")
    channel.sendall(b"I am " + TOLD)
    while listeners or any(key.data == "connection" for key in selector.get_map().values()):
        for key, _ in selector.select():
            found = key.fileobj
            assert isinstance(found, socket.socket)
            if key.data == "listener" and found in listeners:
                accept(found, selector)
            elif key.data == "connection":
                answer(found, selector)
            elif key.data == "end":
                found.recv(100)
                if not named_in("deaf"):
                    selector.unregister(found)
                    drain(listeners, selector)


main()
