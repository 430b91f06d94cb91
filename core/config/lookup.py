"""Finding in a voluptuous schema what it says about one place in a value.

What is hidden inside a function of a plugin cannot be seen, and then nothing is found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import voluptuous as vol

from isoneph.core.config.problems import KeyPath
from isoneph.core.config.rules import Each


def mappings(schema: Any) -> Iterator[Mapping[Any, Any]]:
    """The mappings that ``schema`` takes as alternatives, or as one."""
    if isinstance(schema, vol.Schema | vol.Msg):
        yield from mappings(schema.schema)
    elif isinstance(schema, Mapping):
        yield schema
    else:
        for validator in getattr(schema, "validators", ()):
            yield from mappings(validator)


def items(schema: Any) -> Iterator[Any]:
    """What ``schema`` takes as an item, where it takes a list."""
    if isinstance(schema, vol.Schema | vol.Msg):
        yield from items(schema.schema)
    elif isinstance(schema, Each):
        yield schema.item
    elif isinstance(schema, list | tuple):
        yield from schema
    else:
        for validator in getattr(schema, "validators", ()):
            yield from items(validator)


def schemas_at(schema: Any, path: KeyPath) -> Sequence[Any]:
    """The parts of ``schema`` that a value at ``path`` has to do with; empty if none is seen."""
    found = [schema]
    for key in path:
        if isinstance(key, int):
            found = [item for each in found for item in items(each)]
        else:
            found = [value for each in found for value in _values_at(each, key)]
    return found


def _values_at(schema: Any, key: str) -> Iterator[Any]:
    for mapping in mappings(schema):
        if key in mapping:
            yield mapping[key]
        else:
            yield from (value for marker, value in mapping.items() if not is_literal(marker))


def keys_at(schema: Any, path: KeyPath) -> Sequence[str]:
    """The keys that a mapping at ``path`` may have."""
    return tuple(
        str(marker)
        for each in schemas_at(schema, path)
        for mapping in mappings(each)
        for marker in mapping
        if is_literal(marker)
    )


def group_at(schema: Any, path: KeyPath, label: object) -> Sequence[str]:
    """The keys of the group ``label`` in a mapping at ``path``: those that exclude or need one
    another."""
    return tuple(
        str(marker)
        for each in schemas_at(schema, path)
        for mapping in mappings(each)
        for marker in mapping
        if (isinstance(marker, vol.Exclusive) and marker.group_of_exclusion == label)
        or (isinstance(marker, vol.Inclusive) and marker.group_of_inclusion == label)
    )


def choices_at(schema: Any, path: KeyPath) -> Sequence[str]:
    """The words of which the value at ``path`` must be one, when it is so."""
    found = list(schemas_at(schema, path))
    for each in found:
        found += getattr(each, "validators", ())
    return tuple(word for each in found if isinstance(each, vol.In) for word in choices_of(each))


def choices_of(validator: vol.In) -> Sequence[str]:
    """The words that a validator takes, sorted where they have no order."""
    container: Any = validator.container
    words = [str(word) for word in container]
    return sorted(words) if isinstance(container, set | frozenset) else words


def refuses_key(schema: Any, path: KeyPath) -> bool:
    """Whether the last key of ``path`` is itself what ``schema`` does not take."""
    key = path[-1] if path else 0
    if isinstance(key, int):
        return False
    markers = [
        marker
        for each in schemas_at(schema, path[:-1])
        for mapping in mappings(each)
        for marker in mapping
    ]
    return bool(markers) and not any(_takes(marker, key) for marker in markers)


def _takes(marker: Any, key: str) -> bool:
    try:
        vol.Schema(marker)(key)
    except Exception:  # noqa: BLE001 (a plugin's validator may raise anything)
        return False
    return True


def is_literal(marker: Any) -> bool:
    """Whether a schema's key stands for itself, and not for any key of a kind."""
    return isinstance(getattr(marker, "schema", marker), str)
