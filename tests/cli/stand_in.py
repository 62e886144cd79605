"""A worker without a server: it responds to each connection with its number and its process id.

Run by its path. In its directory the file `cannot-start` has the numbers of workers that fail at their start,
and `deaf` those of workers that ignore SIGTERM.
"""

import json
import os
import selectors
import signal
import socket
import sys
from pathlib import Path

SETTINGS = json.loads(os.environ["MESSAGING_SUPERVISED"])
NUMBER = str(SETTINGS["number"])
IDENTITY = f"{NUMBER} {os.getpid()}\n".encode()


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


def respond(connection: socket.socket, selector: selectors.BaseSelector) -> None:
    """Respond and close, unless the client has sent `wait`."""
    request = connection.recv(100)
    if request.strip() == b"wait":
        return
    selector.unregister(connection)
    if request:
        connection.sendall(IDENTITY)
    connection.close()


def drain(listeners: list[socket.socket], selector: selectors.BaseSelector) -> None:
    """Accept the connections in the kernel's backlog, and close the listeners."""
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
        sys.exit("Error: this worker cannot start")
    channel = socket.socket(fileno=SETTINGS["channel"])
    listeners = [socket.socket(fileno=number) for number in SETTINGS["listen"]]
    selector = selectors.DefaultSelector()
    for listener in listeners:
        listener.setblocking(False)
        selector.register(listener, selectors.EVENT_READ, "listener")
    selector.register(channel, selectors.EVENT_READ, "end")
    selector.register(woken, selectors.EVENT_READ, "end")
    channel.sendall(b"I am " + IDENTITY)
    while listeners or any(key.data == "connection" for key in selector.get_map().values()):
        for key, _ in selector.select():
            ready = key.fileobj
            assert isinstance(ready, socket.socket)
            if key.data == "listener" and ready in listeners:
                accept(ready, selector)
            elif key.data == "connection":
                respond(ready, selector)
            elif key.data == "end":
                ready.recv(100)
                if not named_in("deaf"):
                    selector.unregister(ready)
                    drain(listeners, selector)


main()
