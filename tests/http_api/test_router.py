"""Paths and methods: what matches which endpoint."""

from collections.abc import Iterable

import pytest
from attrs import frozen

from adapters.http_api.endpoints import API, Auth, Endpoint, Handles
from adapters.http_api.router import Router
from adapters.http_api.routes import ENDPOINTS
from adapters.http_api.routes.probes import health


@frozen
class OfNothing:
    """A command without variables."""


@frozen
class OfNumber:
    """A command with an integer in its path."""

    number: int


@frozen
class OfText:
    """A command with a text in its path."""

    text: str


@frozen
class OfBoth:
    """A command with both."""

    number: int
    text: str


def declared(path: str, command: type, method: str = "GET") -> Endpoint:
    return Endpoint(
        method=method,
        path=path,
        summary=path,
        command=command,
        does=Handles(health),
        response=None,
        auth=Auth.NONE,
    )


def router(*endpoints: Endpoint) -> Router[str]:
    return Router((each, each.path) for each in endpoints)


ROUTER = router(
    declared("/a", OfNothing),
    declared("/a", OfNothing, "POST"),
    declared("/a/me", OfNothing),
    declared("/a/me/b", OfNothing),
    declared("/a/{number}", OfNumber),
    declared("/a/{number}/b", OfNumber),
    declared("/a/{text}/b", OfText),
    declared("/a/{text}/c", OfText),
    declared("/a/{number}/b/{text}", OfBoth, "DELETE"),
)


@pytest.mark.parametrize(
    ("method", "path", "found"),
    [
        ("GET", "/a", ("/a", {})),
        ("GET", "/a/me", ("/a/me", {})),
        ("GET", "/a/5", ("/a/{number}", {"number": "5"})),
        ("GET", "/a/05", ("/a/{number}", {"number": "05"})),
        ("GET", "/a/x", None),
        ("GET", "/a/-5", None),
        ("GET", "/a/\u0665", None),
        ("GET", "/a/5x", None),
        ("GET", "/a/", None),
        ("GET", "/a/5/", None),
        ("GET", "//a", None),
        ("GET", "/A", None),
        ("GET", "/a/me/b", ("/a/me/b", {})),
        ("GET", "/a/5/b", ("/a/{number}/b", {"number": "5"})),
        ("GET", "/a/5x/b", ("/a/{text}/b", {"text": "5x"})),
        ("GET", "/a/me/c", ("/a/{text}/c", {"text": "me"})),
        ("GET", "/a/{text}/c", ("/a/{text}/c", {"text": "{text}"})),
        ("GET", "/a//c", None),
        ("GET", "/a/x/y/c", None),
        ("GET", "/a/x/c\n", None),
        ("DELETE", "/a/5/b/\U0001f44d", ("/a/{number}/b/{text}", {"number": "5", "text": "\U0001f44d"})),
        ("DELETE", "/a", None),
        ("PUT", "/a/5", None),
    ],
)
def test_paths(method: str, path: str, found: object) -> None:
    """A literal goes before a number, a number before a text; a number has ASCII digits only."""
    assert ROUTER.find(method, path) == found


@pytest.mark.parametrize(
    ("path", "methods"),
    [("/a", {"GET", "POST"}), ("/a/5/b/c", {"DELETE"}), ("/a/5", {"GET"}), ("/b", set()), ("/a/", set())],
)
def test_methods(path: str, methods: Iterable[str]) -> None:
    """A path's methods are those of all endpoints that match it."""
    assert ROUTER.methods(path) == methods


def test_a_path_is_declared_once() -> None:
    """Two endpoints with one method and one path are a defect, however their variables are named."""
    with pytest.raises(ValueError, match=r"GET /a/\{text\} is declared twice"):
        router(declared("/a/{text}", OfText), declared("/a/{text}", OfText))


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
def test_every_endpoint_is_found(endpoint: Endpoint) -> None:
    """At its path, with a value for each variable, and with no other method's endpoint."""
    api = Router((each, each) for each in ENDPOINTS)
    path = endpoint.path
    for name in endpoint.path_names:
        path = path.replace(f"{{{name}}}", "7")
    found = api.find(endpoint.method, path)
    assert found is not None
    assert found[0] is endpoint
    assert found[1] == dict.fromkeys(endpoint.path_names, "7")
    assert path.startswith(API) or path in {"/health", "/ready"}
