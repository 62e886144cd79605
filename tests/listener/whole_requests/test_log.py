"""The log and the counters are the same for both paths."""

from typing import Any

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from adapters.http_api.exchange import HttpRequest, HttpResponse
from tests.listener.harness import (
    RawResponse,
    WholeFor,
    application,
    connected,
    echo,
    respond,
    serving,
)
from tests.listener.whole_requests.both_ways import both, failing, post, say_whole


async def test_the_log_line_is_the_same_for_both_paths() -> None:
    """One line, the same except for the time, without a query or a header field."""

    async def responding(asked: HttpRequest) -> HttpResponse:
        return HttpResponse(201, b"12345", (("x-request-id", "r-1"),))

    async def through_asgi(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, 201, b"12345", (b"x-request-id", b"r-1"))

    secrets = (b"Authorization: Bearer secret", b"Cookie: secret", b"Referer: https://a/?token=secret")
    with capture_logs() as logs:
        app = application(http=through_asgi)
        async with serving(app, whole_requests=WholeFor(responding)) as served, connected(served) as peer:
            short, long = await both(peer, path=b"/a?token=secret", fields=secrets)
            assert short == long
    short_line, long_line = requests_in(logs)
    assert short_line == long_line
    assert short_line == {
        "event": "request",
        "log_level": "info",
        "method": "GET",
        "path": "/a",
        "status": 201,
        "bytes": 5,
        "client": "127.0.0.1",
        "request_id": "r-1",
    }
    assert "secret" not in str(logs)


def requests_in(logs: list[EventDict]) -> list[dict[str, Any]]:
    """The lines of requests, without their times."""
    lines = [dict(line) for line in logs if line["event"] == "request"]
    for line in lines:
        assert 0 <= line.pop("ms") < 60_000
    return lines


@pytest.mark.parametrize("status", [400, 408, 500])
async def test_the_listeners_own_response_is_the_same_both_ways(status: int) -> None:
    """If the body does not arrive or the application fails: the same bytes, log line and counters."""
    lines, counts, responses = list[list[dict[str, Any]]](), list[tuple[int, ...]](), list[RawResponse]()

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        if status == 500:
            raise RuntimeError("a bug")
        await echo(scope, receive, send)

    times: dict[str, Any] = {"body_idle_time": 0.2} if status == 408 else {}
    for offered in (None, WholeFor(failing if status == 500 else say_whole)):
        with capture_logs() as logs:
            async with (
                serving(application(http=broken), whole_requests=offered, **times) as served,
                connected(served) as peer,
            ):
                await peer.send(post(5) + (b"Hello" if status == 500 else b"Hell"))
                if status == 400:
                    await peer.half_close()
                responses.append(await peer.response())
                assert responses[-1].headers.pop("date")
                assert await peer.end() == b""
        seen = served.counts
        counts.append((seen.bad_requests, seen.timeouts, seen.application_errors))
        lines.append(requests_in(logs))
    assert responses[0].status == status
    assert responses[1] == responses[0]
    assert list(responses[1].headers) == list(responses[0].headers)
    assert len(lines[0]) == 1
    assert lines[1] == lines[0]
    assert counts[1] == counts[0]
