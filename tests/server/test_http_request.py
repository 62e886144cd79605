"""A request as endpoints are given it, whichever way it came."""

from urllib.parse import parse_qsl

from hypothesis import example, given
from hypothesis import strategies as st

from adapters.quart_app.endpoints import HttpRequest


def asked(query: str) -> HttpRequest:
    return HttpRequest("GET", "/", {}, query.encode("latin-1"), {}, b"", "", "r-1")


@given(st.text("ab=&%+;1\xe9", max_size=20))
@example("chat_id=1&limit=50")
@example("a=1&a=2")
@example("&&a&=1&a==&")
@example("a+b=1+2")
def test_a_query_without_escapes_is_read_as_one_with_them(query: str) -> None:
    """What the short way reads of a query is what the library reads of it."""
    assert asked(query).query == dict(parse_qsl(query, keep_blank_values=True))
