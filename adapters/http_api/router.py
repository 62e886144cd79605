"""Finds what is declared for a method and a path; the only place that knows how declared paths match."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Generic, TypeVar

from adapters.http_api.endpoints import Endpoint

T = TypeVar("T")

NO_VALUES: Mapping[str, str] = MappingProxyType({})

_NUMBER, _TEXT = "[0-9]+", "[^/]+"


class _Pattern(Generic[T]):
    """All declared paths with variables of one method, as one regular expression."""

    def __init__(self, declared: Iterable[tuple[Endpoint, T]]) -> None:
        alternatives = []
        self._by_group: dict[int, tuple[T, tuple[str, ...]]] = {}
        group = 1
        for endpoint, value in sorted(declared, key=lambda each: _precedence(each[0])):
            alternatives.append(f"({_expression(endpoint)})")
            self._by_group[group] = (value, endpoint.path_names)
            group += 1 + len(endpoint.path_names)
        self._expression = re.compile("|".join(alternatives))

    def find(self, path: str) -> tuple[T, Mapping[str, str]] | None:
        match = self._expression.fullmatch(path)
        if match is None or match.lastindex is None:
            return None
        value, names = self._by_group[match.lastindex]  # an alternative's own group is the last that ends
        first = match.lastindex + 1
        return value, {name: match[first + position] for position, name in enumerate(names)}


class Router(Generic[T]):
    """Declared endpoints, each with a value of `T`.

    A literal path goes before one with a variable, and a whole number before a text. A whole number consists
    of ASCII digits: `/messages/search` is no message. Raises `ValueError` for a path that is declared twice.
    """

    def __init__(self, declared: Iterable[tuple[Endpoint, T]]) -> None:
        self._literal: dict[tuple[str, str], T] = {}
        variable = defaultdict[str, list[tuple[Endpoint, T]]](list)
        known = set[tuple[str, str]]()
        for endpoint, value in declared:
            if (endpoint.method, _expression(endpoint)) in known:
                raise ValueError(f"{endpoint.method} {endpoint.path} is declared twice")
            known.add((endpoint.method, _expression(endpoint)))
            if endpoint.path_names:
                variable[endpoint.method].append((endpoint, value))
            else:
                self._literal[endpoint.method, endpoint.path] = value
        self._variable = {method: _Pattern(those) for method, those in variable.items()}
        self._methods = frozenset(method for method, _ in known)

    def find(self, method: str, path: str) -> tuple[T, Mapping[str, str]] | None:
        """What is declared for a path, and the values of its variables; None if there is nothing."""
        literal = self._literal.get((method, path))
        if literal is not None:
            return literal, NO_VALUES
        pattern = self._variable.get(method)
        return None if pattern is None else pattern.find(path)

    def methods(self, path: str) -> frozenset[str]:
        """The methods that the path allows; empty for an unknown path."""
        return frozenset(method for method in self._methods if self.find(method, path) is not None)


def _expression(endpoint: Endpoint) -> str:
    """The endpoint's path as a regular expression, with a group for each variable."""
    return "/".join(f"({_NUMBER if k else _TEXT})" if v else re.escape(s) for s, v, k in _segments(endpoint))


def _precedence(endpoint: Endpoint) -> list[tuple[bool, bool]]:
    return [(is_variable, not is_number) for _, is_variable, is_number in _segments(endpoint)]


def _segments(endpoint: Endpoint) -> list[tuple[str, bool, bool]]:
    """Each segment of the path: its text, whether it is a variable, and whether that is a whole number."""
    segments = endpoint.path.split("/")
    return [(each, each.startswith("{"), each[1:-1] in endpoint.path_digits) for each in segments]
