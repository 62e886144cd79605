"""Which origins a response names."""

import pytest

from adapters.http_api.cors import CACHED_ORIGINS, Cors, preflight_fields

APP = "https://app.example"


@pytest.mark.parametrize(
    ("allowed", "origin", "named"),
    [
        (("*",), APP, APP),
        (("*",), None, None),
        (("*",), "null", "null"),
        (("*",), "http://\xe4", None),
        ((APP,), APP, APP),
        ((APP,), "https://other.example", None),
        ((), APP, None),
    ],
)
def test_origins(allowed: tuple[str, ...], origin: str | None, named: str | None) -> None:
    """An allowed origin is named, unless it is beyond ASCII; `Vary` is always there."""
    fields = Cors(allowed).fields(origin)
    assert fields[0] == ("vary", "Origin")
    assert dict(fields).get("access-control-allow-origin") == named


def test_cached_origins_are_bounded() -> None:
    """Clients that send ever new origins get their fields, and take no more memory."""
    cors = Cors(("*",))
    for number in range(CACHED_ORIGINS + 5):
        origin = f"https://{number}.example"
        assert dict(cors.fields(origin))["access-control-allow-origin"] == origin
    assert len(cors._fields) == CACHED_ORIGINS


@pytest.mark.parametrize(
    ("requested", "added"), [(None, ""), ("", ""), ("x-a, x-b", ", x-a, x-b"), ("x-\xe4", "")]
)
def test_preflights(requested: str | None, added: str) -> None:
    """A preflight allows the API's own header fields by name, and the requested ones if they are ASCII."""
    allowed = dict(preflight_fields(requested))["access-control-allow-headers"]
    assert allowed == f"Authorization, Content-Type, Idempotency-Key, X-Request-ID{added}"
