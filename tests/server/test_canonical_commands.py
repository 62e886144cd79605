"""The canonical encoding of a command, from which an Idempotency-Key's fingerprint is computed."""

import json
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.http_api.routes import ENDPOINTS
from adapters.http_api.wire import canonical, decode, structure
from messaging_core.commands import EditMessage, RegisterUser, SendMessage
from messaging_core.ids import MessageId
from messaging_core.limits import Limits
from messaging_core.testing import strategies as values

commands = st.one_of(values.send_commands(), values.edit_commands, values.create_group_commands)


def contents(command: attrs.AttrsInstance) -> str:
    """All of a command, with a payload's names sorted."""
    return json.dumps(attrs.asdict(command, recurse=False), sort_keys=True, default=repr)


@given(commands.flatmap(lambda one: st.tuples(st.just(one), st.just(one) | commands)))
def test_encodings_are_equal_if_commands_are(pair: tuple[Any, Any]) -> None:
    """An unset field, null and the text "unset" differ; the order of names does not matter."""
    one, other = pair
    if type(one) is type(other):  # a key belongs to one path
        assert (canonical(one) == canonical(other)) == (contents(one) == contents(other))


@given(values.send_commands(), st.randoms())
def test_the_spelling_of_a_body_does_not_matter(command: SendMessage, random: Any) -> None:
    """White space, the order of names, escapes and unknown fields do not change the encoding."""
    fields = [*attrs.asdict(command, recurse=False).items(), ("unknown", {"a": 1})]
    random.shuffle(fields)
    body = json.dumps(
        dict(fields), indent=random.choice([None, 2]), ensure_ascii=random.choice([True, False])
    )
    assert canonical(structure(decode(body.encode()), SendMessage, Limits())) == canonical(command)


def test_a_new_optional_field_changes_nothing() -> None:
    """A retry across an upgrade has the same encoding: fields with their defaults are left out."""

    @attrs.frozen
    class EditMessageLater(EditMessage):
        mentions: tuple[int, ...] = ()

    assert canonical(EditMessageLater(MessageId(1), "x")) == canonical(EditMessage(MessageId(1), "x"))


@pytest.mark.parametrize("command", sorted({each.command for each in ENDPOINTS}, key=str))
def test_no_secret_is_in_a_fingerprint(command: type[attrs.AttrsInstance]) -> None:
    """Part 5: no fingerprint is computed from a password or a token."""
    names = [each.name for each in attrs.fields(command)]
    secrets = {name for name in names if "password" in name or "token" in name}
    encoded = canonical(command(**{name: f"value of {name}" for name in names}))
    assert {name for name in names if f"value of {name}".encode() in encoded} == set(names) - secrets
    assert (command is RegisterUser) <= ("password" in secrets)
