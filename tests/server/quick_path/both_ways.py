"""A connection on which each request is sent both ways, and the comparison of the responses."""

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import trio
from attrs import define, evolve, field, frozen

from adapters.http_api.endpoints import API
from tests.listener.harness import RawPeer
from tests.server.clients import Person
from tests.server.servers import ServerHere

Fields = tuple[tuple[str, str], ...]

ANOTHER_FORM = ("Connection", "keep-alive, x")
"""Has the same meaning, and does not take the quick path."""
ID = ("X-Request-ID", "r-1")
JSON = ("Content-Type", "application/json")


@frozen
class ExactRequest:
    """A request, byte for byte."""

    method: str
    target: str
    fields: Fields = ()
    body: bytes = b""

    def but(self, *fields: tuple[str, str], **changes: Any) -> "ExactRequest":
        """The request with more fields, or other parts."""
        return evolve(self, fields=(*self.fields, *fields), **changes)

    def written(self, *more: tuple[str, str]) -> bytes:
        length = (("Content-Length", str(len(self.body))),) if self.body else ()
        fields = (("Host", "test"), *self.fields, *length, *more)
        lines = [f"{self.method} {self.target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body


@frozen
class ExactResponse:
    """A response, byte for byte, without the value of Date."""

    line: bytes
    fields: tuple[bytes, ...]
    body: bytes

    @property
    def status(self) -> int:
        return int(self.line.split(b" ")[1])

    def value(self, name: bytes) -> bytes | None:
        """A field's value; its name must be spelt exactly."""
        values = [line.partition(b": ")[2] for line in self.fields if line.partition(b":")[0] == name]
        assert len(values) <= 1
        return values[0] if values else None


@define
class Line:
    """A connection on which requests are sent both ways."""

    peer: RawPeer
    quick: list[str] = field(factory=list)
    """The requests that have taken the quick path."""

    async def response(self, request: ExactRequest, *more: tuple[str, str]) -> ExactResponse:
        await self.peer.send(request.written(*more))
        line, *fields = (await self.peer.until(b"\r\n\r\n"))[:-4].split(b"\r\n")
        dateless = tuple(b"date" if each.startswith(b"date: ") else each for each in fields)
        response = ExactResponse(line, dateless, b"")
        if request.method == "HEAD" or response.status == 204:
            return response
        return evolve(response, body=await self.peer.exactly(int(response.value(b"content-length") or b"")))

    async def both(self, request: ExactRequest, *, quick: bool = True) -> ExactResponse:
        """The response to the plain form, which takes the quick path if `quick`; the other is equal."""
        plain, other = await self.responses(request, quick=quick)
        assert shown(plain) == shown(other)
        return plain

    async def responses(
        self, request: ExactRequest, *, quick: bool = True
    ) -> tuple[ExactResponse, ExactResponse]:
        """The responses to the plain form, which takes the quick path if `quick`, and to the other form."""
        before = len(self.quick)
        plain = await self.response(request)
        assert len(self.quick) == before + quick, f"the way of {request}"
        other = await self.response(request, ANOTHER_FORM)
        assert len(self.quick) == before + quick, f"the way of {request} in the other form"
        return plain, other

    async def all(
        self, requests: Mapping[str, ExactRequest], *, quick: bool = True
    ) -> dict[str, ExactResponse]:
        """The responses to all of these requests, each of which must be equal on both ways."""
        responses = {name: await self.responses(one, quick=quick) for name, one in requests.items()}
        plain = {name: shown(ways[0]) for name, ways in responses.items()}
        other = {name: shown(ways[1]) for name, ways in responses.items()}
        assert {name: (plain[name], other[name]) for name in responses if plain[name] != other[name]} == {}
        return {name: ways[0] for name, ways in responses.items()}


TOKENS = re.compile(rb'"eyJ[-\w.]+"')
OUR_IDS = re.compile(rb"\b[0-9a-f]{16}\b")


def shown(response: ExactResponse) -> ExactResponse:
    """The parts that must be equal: without tokens and generated request ids."""
    fields = tuple(
        OUR_IDS.sub(b"ours", line) if line.startswith(b"x-request-id") else line for line in response.fields
    )
    body = TOKENS.sub(b'"token"', response.body)
    return evolve(response, fields=fields, body=re.sub(rb'(?<="request_id":")[0-9a-f]{16}"', b'ours"', body))


@asynccontextmanager
async def line_to(server: ServerHere, quick: list[str]) -> AsyncIterator[Line]:
    host, _, port = server.address.removeprefix("http://").partition(":")
    stream = await trio.open_tcp_stream(host, int(port))
    async with stream:
        yield Line(RawPeer(stream), quick)


def bearer(person: Person) -> tuple[str, str]:
    return ("Authorization", f"Bearer {person.access_token}")


def get(person: Person, target: str) -> ExactRequest:
    return ExactRequest("GET", API + target, (ID, bearer(person)))


def sent(method: str, target: str, body: Any, *fields: tuple[str, str]) -> ExactRequest:
    """A request with JSON, or with these bytes."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ExactRequest(method, API + target, (ID, ("Content-Type", "application/json"), *fields), raw)
