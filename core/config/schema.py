"""Telling what a voluptuous schema takes, for messages and for the reference.

Schemas are plain values, so most of what they mean can be read off them; a validator function is
asked what it expects by giving it something that nobody would take.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import voluptuous as vol

from isoneph.core.config.lookup import choices_of, is_literal, items, mappings
from isoneph.core.config.rules import Each, Rule
from isoneph.core.plugin import Plugin

_TYPES = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "a mapping",
    list: "a list",
    type(None): "nothing",
    object: "anything",
}
#: What is not worth saying of every value in a mapping.
_VAGUE = {_TYPES[dict], _TYPES[object]}
#: What no validator takes.
_NOTHING = object()
#: How voluptuous calls the types in its messages.
TYPE_WORDS = {kind.__name__: words for kind, words in _TYPES.items()} | {
    "dictionary": _TYPES[dict],
    "boolean": _TYPES[bool],
}


@dataclass(frozen=True, slots=True)
class OptionRow:
    """One option of a plugin as its reference shows it.

    ``name`` is the way to it: ``a.b`` inside a mapping, ``a[].b`` inside a list of mappings.
    ``default`` is written as in JSON, or None when there is none.
    """

    name: str
    required: bool
    default: str | None
    type: str
    description: str


def option_rows(schema: Any) -> Sequence[OptionRow]:
    """The options that ``schema`` takes, in its order, those of nested mappings flattened. A key
    that is free to choose shows as ``*``."""
    return tuple(_rows(schema, ""))


def plugin_rows(plugin: type[Plugin]) -> Sequence[OptionRow]:
    """The options that a plugin takes, the parts that it is put together from first."""
    parts = (
        OptionRow(
            name=key,
            required=False,
            default=json.dumps(each.default),
            type=f"a plugin of kind {each.kind}: its name, or a mapping with `driver` and options",
            description=" ".join(each.description.split()),
        )
        for key, each in plugin.parts.items()
    )
    return (*parts, *option_rows(plugin.schema))


def _rows(schema: Any, prefix: str) -> Iterator[OptionRow]:
    for mapping in mappings(schema):
        for marker, value in mapping.items():
            name = prefix + (str(marker) if is_literal(marker) else "*")
            description = " ".join(str(getattr(marker, "description", None) or "").split())
            if is_literal(marker) or description:
                yield OptionRow(
                    name=name,
                    required=_is_required(marker),
                    default=_default_of(marker),
                    type=type_words(value) or "anything",
                    description=description,
                )
            yield from _rows(value, f"{name}.")
            for item in items(value):
                yield from _rows(item, f"{name}[].")


@singledispatch
def type_words(schema: Any) -> str:
    """What a schema expects, in words that follow "expected"."""
    if schema is vol.Extra:
        return "anything"
    alternatives = getattr(schema, "validators", None)
    if alternatives is not None:
        return " or ".join(_distinct(alternatives))
    return _function_words(schema) if callable(schema) else json.dumps(schema, default=str)


@type_words.register
def _(schema: vol.Schema) -> str:
    return type_words(schema.schema)


@type_words.register
def _(schema: vol.Msg) -> str:
    return str(schema.msg).removeprefix("expected ")


@type_words.register
def _(schema: vol.All) -> str:
    return ", ".join(_distinct(schema.validators))


@type_words.register(Mapping)
def _(schema: Mapping[Any, Any]) -> str:
    if any(map(is_literal, schema)):
        return "a mapping"
    values = [words for words in _distinct(schema.values()) if words not in _VAGUE]
    return f"a mapping, each {' or '.join(values)}" if values else "a mapping"


@type_words.register(list)
@type_words.register(tuple)
@type_words.register(Each)
def _(schema: Any) -> str:
    words = _distinct(items(schema))
    return f"a list, each {' or '.join(words)}" if words else "a list"


@type_words.register
def _(schema: Rule) -> str:
    return schema.expects


@type_words.register
def _(schema: vol.In) -> str:
    return f"one of {', '.join(choices_of(schema))}"


@type_words.register
def _(schema: vol.Range) -> str:
    return _bounds(
        schema.min,
        schema.max,
        least="at least" if schema.min_included else "above",
        most="at most" if schema.max_included else "below",
    )


@type_words.register
def _(schema: vol.Length) -> str:
    if (schema.min, schema.max) == (1, None):
        return "not empty"
    return f"with a length of {_bounds(schema.min, schema.max)}"


@type_words.register
def _(schema: vol.Match) -> str:
    return f"matching {schema.pattern.pattern}"


@type_words.register
def _(schema: vol.Coerce) -> str:
    return type_words(schema.type)


@type_words.register(type)
@type_words.register(type(None))
def _(schema: type | None) -> str:
    return "nothing" if schema is None else _TYPES.get(schema, schema.__name__)


def _distinct(schemas: Iterable[Any]) -> Sequence[str]:
    return [words for words in dict.fromkeys(map(type_words, schemas)) if words]


def _bounds(low: Any, high: Any, *, least: str = "at least", most: str = "at most") -> str:
    words = [] if low is None else [f"{least} {low}"]
    words += [] if high is None else [f"{most} {high}"]
    return " and ".join(words)


def _function_words(function: Any) -> str:
    """What a validator function says that it expects when it is given nothing it could take."""
    try:
        function(_NOTHING)
    except vol.Invalid as error:
        said = str(error.msg).split("; ", 1)[0]
        if said.startswith("expected ") and repr(_NOTHING) not in said:
            return said.removeprefix("expected ")
    except Exception:  # noqa: BLE001 (a plugin's function may raise anything)
        return ""
    return ""


def _is_required(marker: Any) -> bool:
    return isinstance(marker, vol.Required) and isinstance(marker.default, vol.Undefined)


def _default_of(marker: Any) -> str | None:
    default = getattr(marker, "default", vol.UNDEFINED)
    if isinstance(default, vol.Undefined):
        return None
    return json.dumps(default(), default=str)
