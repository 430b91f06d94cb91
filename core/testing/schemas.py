"""What a plugin's schema must have to become its reference page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from voluptuous import UNDEFINED, All, Invalid, Marker, Schema
from voluptuous import Any as OneOf


def undescribed_options(schema: Any) -> list[str]:
    """The options in ``schema``, nested ones too, whose marker has no description.

    A key that is no marker counts, unless it is a type or a function: those stand for any name.
    """
    return [
        str(key)
        for key, _ in _entries(schema)
        if not getattr(key, "description", None) and isinstance(key, Marker | str)
    ]


def unfit_defaults(schema: Any) -> list[str]:
    """What is wrong with defaults in ``schema``: each must pass its own validator."""
    problems = []
    for key, validator in _entries(schema):
        default: Any = getattr(key, "default", UNDEFINED)
        if default is not UNDEFINED:
            try:
                Schema(validator)(default())
            except Invalid as error:
                problems.append(f"{key}: {error}")
    return problems


def _entries(schema: Any) -> Iterator[tuple[Any, Any]]:
    """All keys of mappings in ``schema``, however deep, with what validates their values."""
    if isinstance(schema, Mapping):
        for key, validator in schema.items():
            yield key, validator
            yield from _entries(validator)
    elif isinstance(schema, Schema):
        yield from _entries(schema.schema)
    elif isinstance(schema, All | OneOf):
        yield from _entries(schema.validators)
    elif isinstance(schema, list | tuple | set | frozenset):
        for item in schema:
            yield from _entries(item)
