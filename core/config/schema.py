"""Looking into voluptuous schemas: what they take, for messages and for the reference.

Schemas are plain values, so most of what they mean can be read off them; what a validator
function expects is told by its docstring's first line.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import voluptuous as vol

from isoneph.core.config.problems import KeyPath
from isoneph.core.config.rules import Each

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
    """The options that ``schema`` takes, in its order, those of nested mappings flattened."""
    return tuple(_rows(schema, ""))


def _rows(schema: Any, prefix: str) -> Iterator[OptionRow]:
    for mapping in mappings(schema):
        for marker, value in mapping.items():
            name = prefix + _key_words(marker)
            yield OptionRow(
                name=name,
                required=_is_required(marker),
                default=_default_of(marker),
                type=type_words(value),
                description=" ".join(str(getattr(marker, "description", None) or "").split()),
            )
            yield from _rows(value, f"{name}.")
            for item in _items(value):
                yield from _rows(item, f"{name}[].")


def type_words(schema: Any) -> str:
    """What a schema expects, in words that follow "expected"."""
    if isinstance(schema, vol.Schema):
        return type_words(schema.schema)
    if isinstance(schema, vol.Msg):
        return str(schema.msg).removeprefix("expected ")
    if isinstance(schema, vol.All):
        return ", ".join(dict.fromkeys(map(type_words, schema.validators)))
    alternatives = getattr(schema, "validators", None)
    if alternatives is not None:
        return " or ".join(dict.fromkeys(map(type_words, alternatives)))
    if isinstance(schema, Mapping):
        return _mapping_words(schema)
    if isinstance(schema, list | tuple | Each):
        items = dict.fromkeys(map(type_words, _items(schema)))
        return f"a list, each {' or '.join(items)}" if items else "a list"
    if schema is vol.Extra:
        return "anything"
    return _validator_words(schema)


def _mapping_words(schema: Mapping[Any, Any]) -> str:
    values = [value for marker, value in schema.items() if not _is_literal(marker)]
    if not values or len(values) < len(schema):
        return "a mapping"
    return f"a mapping to {' or '.join(dict.fromkeys(map(type_words, values)))}"


def _validator_words(schema: Any) -> str:
    expects = getattr(schema, "expects", None)
    if isinstance(expects, str):
        return expects
    if isinstance(schema, vol.In):
        return f"one of {', '.join(_words(schema))}"
    if isinstance(schema, vol.Range):
        return _bounds(schema.min, schema.max, "above", "below", schema)
    if isinstance(schema, vol.Length):
        return f"with a length {_bounds(schema.min, schema.max, 'above', 'below', None)}"
    if isinstance(schema, vol.Match):
        return f"matching {schema.pattern.pattern}"
    if isinstance(schema, vol.Coerce):
        return type_words(schema.type)
    if isinstance(schema, type):
        return _TYPES.get(schema, schema.__name__)
    if callable(schema):
        return _function_words(schema)
    return json.dumps(schema, default=str)


def _bounds(low: Any, high: Any, above: str, below: str, limits: vol.Range | None) -> str:
    words = []
    if low is not None:
        words.append(f"{'at least' if limits is None or limits.min_included else above} {low}")
    if high is not None:
        words.append(f"{'at most' if limits is None or limits.max_included else below} {high}")
    return " and ".join(words)


def _function_words(function: Any) -> str:
    kind = function if inspect.isroutine(function) else type(function)
    # What a factory returns is a nested function: its name is the factory's.
    name = str(kind.__qualname__).split(".<locals>", 1)[0].rsplit(".", 1)[-1]
    told = inspect.getdoc(function) if inspect.isroutine(function) else None
    if not told:
        return name.strip("_").replace("_", " ").lower()
    first = told.split("\n\n", 1)[0].replace("\n", " ").rstrip(".")
    return first[:1].lower() + first[1:]


def mappings(schema: Any) -> Iterator[Mapping[Any, Any]]:
    """The mappings that ``schema`` takes as alternatives, or as one."""
    if isinstance(schema, vol.Schema):
        yield from mappings(schema.schema)
    elif isinstance(schema, vol.Msg):
        yield from mappings(schema.schema)
    elif isinstance(schema, Mapping):
        yield schema
    else:
        for validator in getattr(schema, "validators", ()):
            yield from mappings(validator)


def _items(schema: Any) -> Iterator[Any]:
    """What ``schema`` takes as an item, where it takes a list."""
    if isinstance(schema, vol.Schema | vol.Msg):
        yield from _items(schema.schema)
    elif isinstance(schema, Each):
        yield schema.item
    elif isinstance(schema, list | tuple):
        yield from schema
    else:
        for validator in getattr(schema, "validators", ()):
            yield from _items(validator)


def schemas_at(schema: Any, path: KeyPath) -> Sequence[Any]:
    """The parts of ``schema`` that a value at ``path`` has to do with; empty if none is seen."""
    found = [schema]
    for key in path:
        if isinstance(key, int):
            found = [item for each in found for item in _items(each)]
        else:
            found = [value for each in found for value in _values_at(each, key)]
    return found


def _values_at(schema: Any, key: str) -> Iterator[Any]:
    for mapping in mappings(schema):
        if key in mapping:
            yield mapping[key]
        else:
            yield from (value for marker, value in mapping.items() if not _is_literal(marker))


def keys_at(schema: Any, path: KeyPath) -> Sequence[str]:
    """The keys that a mapping at ``path`` may have."""
    return tuple(
        str(marker)
        for each in schemas_at(schema, path)
        for mapping in mappings(each)
        for marker in mapping
        if _is_literal(marker)
    )


def choices_at(schema: Any, path: KeyPath) -> Sequence[str]:
    """The words of which the value at ``path`` must be one, when it is so."""
    found = list(schemas_at(schema, path))
    for each in found:
        found += getattr(each, "validators", ())
    return tuple(word for each in found if isinstance(each, vol.In) for word in _words(each))


def _words(choice: vol.In) -> Sequence[str]:
    words = map(str, choice.container)
    return sorted(words) if isinstance(choice.container, set | frozenset) else list(words)


def _is_literal(marker: Any) -> bool:
    return isinstance(getattr(marker, "schema", marker), str)


def _is_required(marker: Any) -> bool:
    return isinstance(marker, vol.Required) and isinstance(marker.default, vol.Undefined)


def _default_of(marker: Any) -> str | None:
    default = getattr(marker, "default", vol.UNDEFINED)
    if isinstance(default, vol.Undefined):
        return None
    return json.dumps(default(), default=str)


def _key_words(marker: Any) -> str:
    return str(marker) if _is_literal(marker) else "*"
