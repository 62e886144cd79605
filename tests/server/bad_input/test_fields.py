"""Values of every kind in every field of every body."""

import json
import unicodedata
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from adapters.http_api.endpoints import Auth, Endpoint
from adapters.http_api.openapi import describe
from adapters.http_api.routes import ENDPOINTS
from messaging_core import characters, constraints
from messaging_core.limits import Limits
from tests.server.bad_input.bodies import WITH_BODY, is_too_large, nested
from tests.server.calls import CALLS, Scene, path_of
from tests.server.clients import browser, expect, new_key, register
from tests.server.servers import ServerHere, serving

DESCRIPTION = describe(ENDPOINTS, Limits())

VALUES = [
    *("null", "true", "false", "[]", "{}", "[1]", '["x"]', '{"a":1}', "[null]", "[[1]]", '[{"id":1}]'),
    *("0", "-0", "1", "-1", "0.0", "1.0", "1.5", "1e0", "1e308", "-1e308", "1e400", "1e-400"),
    *(str(number) for number in (2**31, 2**53, 2**53 - 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**400)),
    *('""', '" "', '"1"', '"true"', '"null"', '"x"', '"\\u0000"', '"a\\u0000b"', '"\\n"', '"\\u2028"'),
    *('"\\ud800"', '"\\udfff\\ud800"', '"a\\ud83d"', '"\\ud83d\\ude00"', '"\\u202e"', '"ß"', '"@"', '"a@b"'),
    *(f'"{"x" * length}"' for length in (129, 255, 4001, 40_000, 500_000)),
    *('"a@\\u0000"', '"https://"', '"javascript:alert(1)"', '"http://\\ud800"', '"http://a b"'),
    *(nested(levels) for levels in (33, 500, 1_500, 100_000)),
    *(nested(levels, '{"a":', "}", "1") for levels in (31, 32, 33, 500, 1_500, 100_000)),
    *(f'{{"a":{value}}}' for value in ("1e400", "10" * 200, str(2**64), str(-(2**63) - 1), str(2**64 - 1))),
    *('{"a":"\\ud800"}', '{"\\ud800":1}', '{"\\u0000":1}', '{"":{"":[]}}', '{"a":1,"a":2}', '{"a":-0.0}'),
    *('{"a":"%s"}' % (piece * 16_380) for piece in ("xx", "ж", "\\u00e9", "\\n", "\\ud83d\\ude00")),
    json.dumps(list(range(1, 1200))),
    json.dumps([1] * 1200),
    *("NaN", "Infinity", "-Infinity", "undefined", "'x'", "01", "+1", ".5", "1.", "0x10", "1_000", '"\t"'),
    *('"\\x41"', '"\\u12"', '"unclosed', "[1,]", '{"a":}', "//", "tru", "1 2", '{"a" 1}', "{a:1}"),
]
RAW_VALUES = [
    *(value.encode() for value in VALUES),
    *(
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'"\xc0\xaf"',
        b'"\xf5\x80\x80\x80"',
        b'"\xe2\x82"',
        b'"\x00"',
        b"\xef\xbb\xbf1",
    ),
]

FIELDS = [(endpoint, name) for endpoint in WITH_BODY for name in endpoint.other_names]


def schema_of(endpoint: Endpoint, name: str) -> Draft202012Validator:
    operation = DESCRIPTION["paths"][endpoint.path][endpoint.method.lower()]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]["properties"][name]
    return Draft202012Validator({**schema, "components": DESCRIPTION["components"]})


def must_be_refused(schema: Draft202012Validator, raw: bytes) -> bool:
    """Whether the value is not JSON, or violates the schema of its field."""
    try:
        value = json.loads(raw, parse_constant=lambda _: pytest.fail)
    except (ValueError, RecursionError):
        return True
    if isinstance(value, float):  # JSON Schema counts 1.0 as an integer; this API does not
        return True
    return not schema.is_valid(value)


@pytest.mark.parametrize(("endpoint", "field"), FIELDS, ids=[f"{e.name}-{name}" for e, name in FIELDS])
async def test_every_value_in_every_field(
    server: ServerHere, scene: Scene, endpoint: Endpoint, field: str
) -> None:
    """A value that violates its field's schema is refused with the field's name, and changes nothing."""
    schema = schema_of(endpoint, field)
    for raw in RAW_VALUES:
        values = dict(CALLS[endpoint.name](scene))
        path = path_of(endpoint, values)
        body = json.dumps({**values, field: "@@"}).encode().replace(b'"@@"', raw)
        headers = {"Content-Type": "application/json", "Idempotency-Key": new_key()}
        if endpoint.auth is Auth.SESSION:
            headers["Authorization"] = f"Bearer {scene.alice.access_token}"
        before = server.state()
        response = await scene.http.request(
            endpoint.method, f"{server.address}{path}", content=body, headers=headers
        )
        description = f"{raw[:100]!r}: {response.status_code} {response.text[:200]}"
        if response.status_code >= 400:
            assert server.state() == before, description
        if is_too_large(endpoint, body):
            assert response.status_code == 413, description
        elif must_be_refused(schema, raw):
            assert response.status_code in {400, 422}, description
        if response.status_code == 422:
            named = {error["field"].partition(".")[0] for error in response.json()["errors"]}
            assert named == {field}, description
    await all_can_be_read(scene)


async def all_can_be_read(scene: Scene) -> None:
    """All that the requests have stored can be read by its users."""
    for person in (scene.alice, scene.bob):
        for path in ("/users/me", "/chats", f"/messages?chat_id={scene.chat}"):
            expect(await person.ask("GET", path), 200)


@pytest.mark.parametrize("endpoint", WITH_BODY, ids=lambda endpoint: endpoint.name)
async def test_missing_fields(server: ServerHere, scene: Scene, endpoint: Endpoint) -> None:
    """A missing required field is named; if several are missing, all are named at once."""
    schema = DESCRIPTION["paths"][endpoint.path][endpoint.method.lower()]["requestBody"]
    required = schema["content"]["application/json"]["schema"]["required"]
    values = dict(CALLS[endpoint.name](scene))
    path = path_of(endpoint, values)
    headers = {"Authorization": f"Bearer {scene.alice.access_token}"}
    address = f"{server.address}{path}"
    before = server.state()
    for name in required:
        left = {key: value for key, value in values.items() if key != name}
        body = expect(await scene.http.request(endpoint.method, address, json=left, headers=headers), 422)
        assert [(error["field"], error["code"]) for error in body["errors"]] == [(name, "required")]
    if required:
        body = expect(await scene.http.request(endpoint.method, address, json={}, headers=headers), 422)
        assert {error["field"] for error in body["errors"]} == set(required)
    assert server.state() == before


async def test_unknown_fields_are_ignored(scene: Scene) -> None:
    """Fields that the server does not know, for example of a newer client, are ignored."""
    body = {"chat_id": scene.chat, "type": "text", "content": "x", "author_id": 2, "id": 7, "constructor": {}}
    sent = expect(await scene.alice.ask("POST", "/messages", body), 201)
    assert sent["author_id"] == scene.alice.id
    assert sent["id"] != 7


NORMALISED = 20_000
"""Above the code points of every text that is normalised."""
REGISTRATION = {"email": "new@test.com", "password": "password123", "display_name": "New"}


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/auth/login", "email"),
        ("/auth/login", "password"),
        ("/auth/register", "email"),
        ("/auth/register", "password"),
        ("/auth/register", "display_name"),
        ("/chats", "title"),
        ("/messages", "content"),
    ],
)
async def test_text_that_is_slow_to_normalise(path: str, field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Normalising may take quadratic time, so a text over its bound is refused before it."""
    lengths, really = [0], unicodedata.normalize

    def normalize(form: Any, text: str) -> str:
        lengths.append(len(text))
        return really(form, text) if len(text) < NORMALISED else text

    body = {**REGISTRATION, "title": "x", "is_group": True, "member_ids": [], "chat_id": 1}
    body |= {"type": "text", field: "e" + "\u0300\u0316" * 80_000}
    async with serving(body_bytes_without_token=1_048_576) as server, browser(server) as http:
        alice = await register(server, http, "Alice")
        for module in (unicodedata, characters, constraints):
            monkeypatch.setattr(module, "normalize", normalize)
        expect(await alice.ask("POST", path, body), 422, "validation_failed")
        assert max(lengths) < NORMALISED


async def test_invisible_text_is_blank(scene: Scene) -> None:
    """A name, title or message without a visible character is refused as blank."""
    message = await scene.alice.send(scene.chat)
    for text in (*"\u3164\u2800\uffa0\ufe0f\u0301", "\u200b \u3164\u2800\U000e0067"):
        for method, path, body, field in [
            ("POST", "/auth/register", {**REGISTRATION, "display_name": text}, "display_name"),
            ("POST", "/chats", {"title": text, "is_group": True, "member_ids": []}, "title"),
            ("POST", "/messages", {"chat_id": scene.chat, "type": "text", "content": text}, "content"),
            ("PATCH", f"/messages/{message['id']}", {"content": text}, "content"),
        ]:
            (error,) = expect(await scene.alice.ask(method, path, body), 422, "validation_failed")["errors"]
            assert (error["field"], error["code"]) == (field, "blank"), (ascii(text), path)


NON_JOINER = "\u0646\u0627\u0645\u0647\u200c\u0627\u06cc"
FAMILY = "\U0001f469\u200d\U0001f467 \u2764\ufe0f"
OUTCOMES = [
    ("display_name", "A\u202ece", "has the invisible character U+202E RIGHT-TO-LEFT OVERRIDE at position 2"),
    ("display_name", "\u0958" * 33, "has 66 characters, at most 64 are allowed"),
    ("display_name", " \u2003" + "e\u0301" * 64, "é" * 64),
    ("display_name", NON_JOINER, NON_JOINER),
    ("display_name", FAMILY, FAMILY),
    ("title", "\u2066x", "has the invisible character U+2066 LEFT-TO-RIGHT ISOLATE at position 1"),
    ("title", "\u0958" * 65, "has 130 characters, at most 128 are allowed"),
    ("title", "e\u0301" * 128 + "\n", "é" * 128),
    ("password", "e\u0301" * 4, "has 4 characters, at least 8 are needed"),
    ("password", "\ufdfa" * 8, "has 144 characters, at most 128 are allowed"),
    ("content", "\u0958" * 2001, "has 4002 characters, at most 4000 are allowed"),
    ("content", "e\u0301" * 4000, "e\u0301" * 4000),
    ("content", " \u202ex\u200b ", " \u202ex\u200b "),
]


async def test_text_is_measured_in_its_normal_form(scene: Scene) -> None:
    """Text within the bound is stored in its normal form, content as sent; longer text is refused."""
    for number, (field, text, outcome) in enumerate(OUTCOMES):
        path = {"title": "/chats", "content": "/messages"}.get(field, "/auth/register")
        values: dict[str, object] = {
            **REGISTRATION,
            "email": f"new{number}@test.com",
            "title": "x",
            "member_ids": [],
        }
        values |= {"is_group": True, "chat_id": scene.chat, "type": "text", "content": "x", field: text}
        response = await scene.alice.ask("POST", path, values)
        if outcome.startswith("has "):
            (error,) = expect(response, 422, "validation_failed")["errors"]
            assert (error["field"], error["message"]) == (field, outcome)
        else:
            created = expect(response, 201)
            assert created.get("user", created)[field] == outcome


async def test_entries_beyond_the_bound_are_not_parsed(scene: Scene) -> None:
    """A list over the bound is refused for its length, not for a later entry; else the entry is named."""
    most = Limits().group_members
    for entries, code, field in [
        ([1] * (most + 1) + ["x"] * 10, "too_long", "member_ids"),
        ([1] * most + ["x"] * 10, "wrong_type", f"member_ids.{most}"),
    ]:
        body = {"title": "x", "is_group": True, "member_ids": entries}
        errors = expect(await scene.alice.ask("POST", "/chats", body), 422)["errors"]
        assert [(error["code"], error["field"]) for error in errors] == [(code, field)]


async def test_only_sendable_types_are_proposed(scene: Scene) -> None:
    """The error for an unknown type lists the types that a user may send."""
    body = {"chat_id": scene.chat, "type": "sticker", "content": "x"}
    refusal = expect(await scene.alice.ask("POST", "/messages", body), 422, "validation_failed")
    assert refusal["detail"] == 'type: must be one of "text", "voice", "image", "video", "file"'
