"""JSON Schema of the classes for requests, responses and frames, in what draft 7 and 2020-12 share."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import EnumMeta
from inspect import cleandoc
from types import MappingProxyType, NoneType
from typing import Annotated, Any, Literal, assert_never, get_args, get_origin, get_type_hints

import attrs
import msgspec

from adapters.http_api.docstrings import attribute_docstrings
from adapters.http_api.views import SUFFIX, View
from adapters.http_api.wire import IDENTIFIERS, least, without_none
from messaging_core.constraints import (
    CONSTRAINT,
    UNSET,
    AllBut,
    Constraint,
    Count,
    Identifiers,
    JsonObject,
    Text,
    longest_as_sent,
)
from messaging_core.ids import MAX_ID
from messaging_core.limits import Limits

Schema = dict[str, Any]


class Schemas:
    """Builds schemas, those of classes in `components`; `limits` provides the numbers of the constraints.

    `views` has the view of each model that an annotation such as `ShownUser` names.
    """

    def __init__(self, limits: Limits, views: Mapping[Any, type[View]] = MappingProxyType({})) -> None:
        self.components: dict[str, Schema] = {}
        self._limits = limits
        self._views = views

    def of(self, type_: Any) -> Schema:
        """The schema of a type; a view, or another class with fields, is a reference into `components`."""
        inner = without_none(type_)
        schemas = [self._of_one(part) for part in inner]
        if NoneType in get_args(type_):
            schemas.append({"type": "null"})
        if len(schemas) == 1:
            return schemas[0]
        if len(schemas) == 2 and schemas[1] == {"type": "null"} and isinstance(schemas[0].get("type"), str):
            return {**schemas[0], "type": [schemas[0]["type"], "null"]}
        return {"anyOf": schemas}

    def properties(self, class_: type[attrs.AttrsInstance], names: Iterable[str]) -> dict[str, Schema]:
        """The schemas of the named fields of a class, each with its constraint and default."""
        types = get_type_hints(class_)
        wanted = set(names)
        return {
            attribute.name: self._property(attribute, types[attribute.name])
            for attribute in attrs.fields(class_)
            if attribute.name in wanted
        }

    def required(self, class_: type[attrs.AttrsInstance], names: Iterable[str]) -> list[str]:
        wanted = set(names)
        return [a.name for a in attrs.fields(class_) if a.name in wanted and a.default is attrs.NOTHING]

    def _property(self, attribute: "attrs.Attribute[Any]", type_: Any) -> Schema:
        schema = self.of(type_)
        constraint: Constraint | None = attribute.metadata.get(CONSTRAINT)
        if constraint is not None:
            schema = {**schema, **self._bounds(constraint, schema)}
        if attribute.default not in (attrs.NOTHING, UNSET, None):
            schema = {**schema, "default": attribute.default}
        return schema

    def _bounds(self, constraint: Constraint, schema: Schema) -> Schema:
        match constraint:
            case Text():
                minimum = (
                    getattr(self._limits, constraint.minimum)
                    if constraint.minimum
                    else int(not constraint.blank)
                )
                bounds: Schema = {
                    "minLength": minimum,
                    "maxLength": longest_as_sent(constraint, self._limits),
                }
                maximum = getattr(self._limits, constraint.maximum)
                if bounds["maxLength"] > maximum and not constraint.any_spelling:
                    bounds["description"] = f"At most {maximum} characters in its normal form."
                if constraint.pattern:
                    bounds["pattern"] = f"^{constraint.pattern}$"
                if constraint.example != "":
                    bounds["examples"] = [constraint.example]
                return bounds
            case Identifiers():
                return {"maxItems": getattr(self._limits, constraint.maximum)}
            case Count():
                return {"minimum": 1, "maximum": getattr(self._limits, constraint.maximum)}
            case JsonObject():
                return {
                    "description": f"At most {getattr(self._limits, constraint.bytes_maximum)} bytes of JSON."
                }
            case AllBut():
                withheld = {choice.value for choice in constraint.values}
                return {"enum": [choice for choice in schema["enum"] if choice not in withheld]}
            case _:
                assert_never(constraint)

    def _of_one(self, type_: Any) -> Schema:
        if type_ in IDENTIFIERS:
            return {"type": "integer", "minimum": least(type_), "maximum": MAX_ID}
        if isinstance(type_, type) and (issubclass(type_, msgspec.Struct) or attrs.has(type_)):
            return self._reference(type_)
        if isinstance(type_, EnumMeta):
            return {"type": "string", "enum": [choice.value for choice in type_]}  # type: ignore[var-annotated]
        origin = get_origin(type_)
        if origin is Literal:
            return {"enum": list(get_args(type_))}
        if origin is Annotated:
            return self._annotated(*get_args(type_))
        if origin in (tuple, list, Sequence):
            return {"type": "array", "items": self.of(get_args(type_)[0])}
        if origin is Mapping:
            return {"type": "object"}
        if origin is dict:
            return {"type": "object", "additionalProperties": self.of(get_args(type_)[1])}
        return dict(PLAIN[type_])

    def _annotated(self, type_: Any, said: Any) -> Schema:
        if isinstance(said, msgspec.Meta):
            bounds = {"minimum": said.ge, "maximum": said.le, "maxItems": said.max_length}
            return {**self.of(type_), **{name: each for name, each in bounds.items() if each is not None}}
        return self._reference(self._views[said])

    def _reference(self, class_: type) -> Schema:
        name = class_.__name__.removesuffix(SUFFIX)
        if name not in self.components:
            self.components[name] = {}  # so that a class that refers to itself does not recurse
            types = get_type_hints(class_, include_extras=True)
            names = [each.name for each in attrs.fields(class_)] if attrs.has(class_) else _fields(class_)
            docstrings = attribute_docstrings(class_)
            # Objects that are sent never omit a key, so all of them are required.
            self.components[name] = {
                "type": "object",
                "properties": {
                    each: _described(self.of(types[each]), docstrings.get(each)) for each in names
                },
                "required": names,
            }
            if class_.__doc__:
                self.components[name]["description"] = " ".join(cleandoc(class_.__doc__).split())
        return {"$ref": f"#/components/schemas/{name}"}


def _described(schema: Schema, description: str | None) -> Schema:
    # Beside a reference, readers of draft 7 ignore every other word.
    if description is None or "$ref" in schema:
        return schema
    return {**schema, "description": description}


def _fields(struct: type[msgspec.Struct]) -> list[str]:
    return list(struct.__struct_fields__)


PLAIN: dict[Any, Schema] = {
    int: {"type": "integer"},
    str: {"type": "string"},
    bool: {"type": "boolean"},
    bytes: {"type": "string"},
    datetime: {"type": "string", "format": "date-time"},
    Any: {},
}
