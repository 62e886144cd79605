"""`/docs/socket`: the description of the socket as a page, rendered from it; there is no script in it."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import frozen
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

FILES = Path(__file__).with_name("socket_docs")

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)

Part = Mapping[str, Any]


@frozen
class FieldRow:
    """A property, as a row of a table."""

    name: str
    """With the names of the objects that it is in, such as `data.user`."""
    type: str
    description: str
    is_required: bool
    schema: str | None
    """The named schema that the type links to."""


def render(document: Part) -> str:
    """The page of a document of AsyncAPI."""
    environment = Environment(
        loader=FileSystemLoader(FILES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"prose": prose, "inline": inline, "example": example}
    components = document["components"]
    messages = components["messages"]
    operations = document["operations"]
    sent = [each for each in operations.values() if each["action"] == "send"]
    return environment.get_template("page.html").render(
        info=document["info"],
        channels=document["channels"],
        sent={
            _last(operation["channel"]): {
                _last(each): messages[f"{_last(operation['channel'])}.{_last(each)}"]
                for each in operation["messages"]
            }
            for operation in sent
        },
        received={
            _last(each): (messages[f"{_last(operation['channel'])}.{_last(each)}"], operation["reply"])
            for operation in operations.values()
            if operation["action"] == "receive"
            for each in operation["messages"]
        },
        schemas=components["schemas"],
        inline_schemas=_used_once(document),
        security=components["securitySchemes"],
        limits=document["x-limits"],
        rows=rows,
        last=_last,
    )


def _used_once(document: Part) -> set[str]:
    """The names of the schemas that one message alone refers to, as its data: they are shown with it."""
    found = Counter(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    as_data = [each["payload"]["properties"]["data"] for each in document["components"]["messages"].values()]
    return {name for each in as_data for name in _named(each) if found[name] == 1}


def rows(schema: Part) -> Iterator[FieldRow]:
    """Yields a row for each property of an object."""
    for name, each in schema.get("properties", {}).items():
        bounds = ", ".join(_bounds(each))
        said = each.get("description", "")
        text = f"{said} {bounds[:1].upper()}{bounds[1:]}." if bounds else said
        yield FieldRow(
            name, type_of(each), text.strip(), name in schema.get("required", ()), next(_named(each), None)
        )


def type_of(schema: Part) -> str:
    """The name of a schema's type, such as `integer or null`."""
    if "$ref" in schema:
        return _last(schema)
    if "const" in schema:
        return json.dumps(schema["const"])
    if "anyOf" in schema:
        return " or ".join(type_of(each) for each in schema["anyOf"])
    kinds = schema.get("type", "any")
    names = [kinds] if isinstance(kinds, str) else list(kinds)
    if "enum" in schema:
        names = [" | ".join(json.dumps(each) for each in schema["enum"]), *names[1:]]
    if "items" in schema:
        names[0] = f"array of {type_of(schema['items'])}"
    if "additionalProperties" in schema:
        names[0] = f"object of {type_of(schema['additionalProperties'])}"
    if schema.get("format") == "date-time":
        names[0] = "time"
    return " or ".join(names)


def _bounds(schema: Part) -> Iterator[str]:
    if "minLength" in schema:
        yield f"{schema['minLength']} to {schema['maxLength']} characters"
    if "pattern" in schema:
        yield f"matches `{schema['pattern']}`"
    if "default" in schema:
        yield f"{json.dumps(schema['default'])} if absent"


def _named(schema: Part) -> Iterator[str]:
    """Yields the named schemas that a type refers to."""
    for each in (schema, *schema.get("anyOf", ()), schema.get("items", {})):
        if "$ref" in each:
            yield _last(each)


def _last(reference: Part) -> str:
    name: str = reference["$ref"].rpartition("/")[2]
    return name


def prose(text: str) -> Markup:
    """A description with its code and emphasis; of Markdown these pages use no more."""
    paragraphs = text.strip().split("\n\n")
    return Markup("\n").join(Markup("<p>{}</p>").format(inline(each)) for each in paragraphs)


def inline(text: str) -> Markup:
    """A line with its code and emphasis."""
    return Markup("").join(_piece(each) for each in re.split(r"(`[^`]+`|\*[^*]+\*)", text))


def _piece(text: str) -> Markup:
    if len(text) > 2 and text[0] == text[-1] == "`":
        return Markup("<code>{}</code>").format(text[1:-1])
    if len(text) > 2 and text[0] == text[-1] == "*":
        return Markup("<em>{}</em>").format(text[1:-1])
    return escape(text)


def example(message: Part) -> str:
    """The example of a message, indented; short objects and arrays stay on one line."""
    return _indented(message["examples"][0]["payload"], "")


def _indented(value: object, indent: str) -> str:
    short = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(short) <= LINE or not isinstance(value, (dict, list)):
        return short
    inner = f"{indent}  "
    if isinstance(value, list):
        items = [_indented(each, inner) for each in value]
        opened, closed = "[]"
    else:
        items = [f"{json.dumps(name)}: {_indented(each, inner)}" for name, each in value.items()]
        opened, closed = "{}"
    joined = f",\n{inner}".join(items)
    return f"{opened}\n{inner}{joined}\n{indent}{closed}"


LINE = 76
"""Characters of a line of an example."""
