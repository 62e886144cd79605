"""The parts of a database driver that the storages use."""

from collections.abc import Iterable
from typing import Any, Protocol

Row = tuple[Any, ...]


class Cursor(Protocol):
    """The parts of a driver's cursor that are used."""

    @property
    def rowcount(self) -> int: ...

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...

    def executemany(self, sql: str, parameters: Iterable[Row], /) -> object: ...


class DriverConnection(Protocol):
    """The parts of a driver's connection that are used."""

    def execute(self, sql: str, parameters: Row, /) -> Cursor: ...

    def cursor(self) -> Cursor: ...


class ManyParameter(Protocol):
    """Converts many numbers into one parameter of a statement."""

    def __call__(self, numbers: Iterable[int], /) -> object: ...
