"""A request as endpoints receive it, on either way."""

from urllib.parse import parse_qsl

from hypothesis import example, given
from hypothesis import strategies as st

from adapters.http_api.exchange import HttpRequest


def asked(query: str) -> HttpRequest:
    return HttpRequest("GET", "/", query.encode("latin-1"), {})


@given(st.text("ab=&%+;1\xe9", max_size=20))
@example("chat_id=1&limit=50")
@example("a=1&a=2")
@example("&&a&=1&a==&")
@example("a+b=1+2")
def test_a_query_without_escapes(query: str) -> None:
    """The fast parser of queries without escapes agrees with the library."""
    assert asked(query).parameters == dict(parse_qsl(query, keep_blank_values=True))
