"""What a body or a query holds: one table of fields, by which requests are read and OpenAPI describes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from gateway.api.problems import invalid

Schema: TypeAlias = Mapping[str, Any]
"""JSON Schema, of which :func:`_check` knows the words that are used here."""

_KINDS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: type(value) is int,
    "number": lambda value: type(value) in {int, float},
    "boolean": lambda value: isinstance(value, bool),
    "array": lambda value: isinstance(value, list),
    "null": lambda value: value is None,
}


_SHOWN: Final = 40


@dataclass(frozen=True, slots=True)
class Field:
    """A member of a body, or a parameter of a query."""

    name: str
    schema: Schema
    required: bool = False


Shape: TypeAlias = tuple[Field, ...]


def schema_of(shape: Shape) -> dict[str, Any]:
    """The JSON Schema of an object."""
    required = [each.name for each in shape if each.required]
    return {
        "type": "object",
        "properties": {each.name: dict(each.schema) for each in shape},
        **({"required": required} if required else {}),
        "additionalProperties": False,
    }


def check_object(shape: Shape, given: object) -> dict[str, Any]:
    """The members of a JSON object.

    Raises:
        Problem: it is none, lacks one, or has one that is wrong or unknown.
    """
    if not isinstance(given, dict):
        raise invalid("the body must be a JSON object")
    found = 0
    for each in shape:
        if each.name in given:
            found += 1
            _check(each.name, each.schema, given[each.name])
        elif each.required:
            _check_names(shape, given)
            raise invalid(f"{each.name} is missing")
    if found < len(given):
        _check_names(shape, given)
    return given


def _check_names(shape: Shape, given: Mapping[str, Any]) -> None:
    known = [each.name for each in shape]
    for name in given:
        if name not in known:
            raise invalid(f"{_shown(name)} is unknown here: there are {', '.join(known)}")


def _shown(name: str) -> str:
    """Of what a caller has sent no more is sent back than shows what is meant."""
    return repr(name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…")


def check_query(shape: Shape, given: Mapping[str, str]) -> dict[str, Any]:
    """The parameters of a query, of the types that they shall have.

    Raises:
        Problem: one is missing, wrong, unknown or there twice.
    """
    if not shape and not given:
        return {}
    if len(given) > len(set(given)):
        raise invalid("a parameter of the query is there twice")
    known = {each.name: each for each in shape}
    for name in given:
        if name not in known:
            raise invalid(
                f"the query has an unknown parameter: there are {', '.join(known) or 'none'}; a key belongs into the header Authorization"
            )
    found = {name: _converted(known[name], text) for name, text in given.items()}
    return check_object(shape, found)


def check_path(schemas: Mapping[str, Schema], given: Mapping[str, str]) -> None:
    """See whether the parts of a path are as they must be.

    Raises:
        Problem: one is not.
    """
    for name, value in given.items():
        _check(name, schemas[name], value)


def _converted(field: Field, text: str) -> Any:
    kind = field.schema["type"]
    if kind == "integer":
        # int() takes blanks, underscores and the digits of other scripts, too.
        if not (text.isascii() and text.isdigit() and len(text) <= 18):
            raise invalid(f"{field.name} must be an integer that is not negative")
        return int(text)
    if kind == "boolean":
        if text not in {"true", "false"}:
            raise invalid(f"{field.name} must be true or false")
        return text == "true"
    return text


def _check(name: str, schema: Schema, value: Any) -> None:
    kinds = schema.get("type")
    if kinds is None:
        return  # anything
    if not (
        _KINDS[kinds](value)
        if isinstance(kinds, str)
        else any(_KINDS[kind](value) for kind in kinds)
    ):
        told = kinds if isinstance(kinds, str) else " or ".join(kinds)
        raise invalid(f"{name} must be of type {told}")
    if isinstance(value, str):
        _check_bounds(name, schema, len(value), "Length", "have ", " characters")
    elif isinstance(value, list):
        _check_bounds(name, schema, len(value), "Items", "have ", " items")
        for each in value:
            _check(f"each of {name}", schema["items"], each)
    elif value is not None and not isinstance(value, bool):
        _check_bounds(name, schema, value, "imum", "be ", "")
        bound = schema.get("exclusiveMaximum")
        if bound is not None and value >= bound:
            # The description has the unit, which is what such a number usually gets wrong.
            raise invalid(f"{name} must be below {bound:,.0f}: {schema['description']}")


def _check_bounds(
    name: str, schema: Schema, found: float, bound: str, verb: str, unit: str
) -> None:
    least, most = schema.get(f"min{bound}"), schema.get(f"max{bound}")
    if least is not None and found < least:
        raise invalid(f"{name} must {verb}at least {least}{unit}")
    if most is not None and found > most:
        raise invalid(f"{name} must {verb}at most {most}{unit}")
