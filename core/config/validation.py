"""Validating values with voluptuous schemas, and telling what is wrong in an operator's words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import voluptuous as vol

from isoneph.core.config.masking import is_secret, secrets_in
from isoneph.core.config.problems import KeyPath, unknown
from isoneph.core.config.rules import Each, Expected
from isoneph.core.config.schema import TYPE_WORDS, choices_at, keys_at, schemas_at, type_words
from isoneph.core.errors import PluginError
from isoneph.core.plugin import Plugin
from isoneph.core.registry import Registry

#: Takes a problem: the path to it in the value, and what is wrong.
Report = Callable[[KeyPath, str], None]

#: What voluptuous says by itself: the schema tells it better.
_STANDARD = re.compile(
    r"expected (?:a )?(?P<type>\w+)|not a valid value|value must be .*|length of value .*"
    r"|invalid value or type.*|does not match regular expression .*"
)
_WANTS_TEXT = re.compile(r"\b(text|name|word|string)\b")
_WANTS_OTHER = re.compile(r"\b(numbers?|mapping|list|true or false)\b")
_QUOTABLE = (bool, int, float)


def check(schema: Any, value: Any, report: Report) -> Any | None:
    """``value`` as ``schema`` makes it, defaults filled in; None after problems were reported.

    Never raises, whatever the value, and whatever a plugin's schema does with it.
    """
    try:
        return vol.Schema(_thorough(schema))(value)
    except vol.MultipleInvalid as error:
        for each in _flat(error):
            path = _path_of(each)
            report(path, _text(each, path, schema, value))
    except Exception as error:  # noqa: BLE001 (a plugin's validator may raise anything)
        report((), f"the schema itself is broken: {type(error).__name__} while it was applied")
    return None


def load_plugin(
    registry: Registry, kind: str, name: str, report: Callable[[str], None]
) -> type[Plugin] | None:
    """The class of a plugin; None after it was reported that it cannot be had."""
    try:
        return registry.load(kind, name)
    except PluginError as error:
        report(error.message)
        return None


def _thorough(schema: Any) -> Any:
    """``schema`` with its lists reporting the mistakes of all their items."""
    if isinstance(schema, Mapping) and not isinstance(schema, vol.Object):
        return {marker: _thorough(value) for marker, value in schema.items()}
    if isinstance(schema, list) and len(schema) == 1:
        return Each(_thorough(schema[0]))
    return schema


def _flat(error: vol.MultipleInvalid) -> list[vol.Invalid]:
    """The single errors: voluptuous nests them where alternatives were tried."""
    single: list[vol.Invalid] = []
    for each in error.errors:
        single += _flat(each) if isinstance(each, vol.MultipleInvalid) else [each]
    return single


def _path_of(error: vol.Invalid) -> KeyPath:
    return tuple(
        key if isinstance(key, int) and not isinstance(key, bool) else str(key)
        for key in error.path
    )


def _text(error: vol.Invalid, path: KeyPath, schema: Any, whole: Any) -> str:
    message = str(error.msg)
    if message == "extra keys not allowed":
        return unknown("key", str(path[-1]), keys_at(schema, path[:-1]))
    wanted = " or ".join(dict.fromkeys(map(type_words, schemas_at(schema, path))))
    if message == "required key not provided":
        return f"missing; expected {wanted}" if wanted else "missing, but required"
    value = _value_at(whole, path)
    if isinstance(error, vol.InInvalid) and isinstance(value, str):
        choices = choices_at(schema, path)
        if choices:
            return unknown("word", value, choices)
    secret = any(map(is_secret, path))
    if not isinstance(error, Expected):
        standard = _STANDARD.fullmatch(message)
        if standard and wanted:
            message = f"expected {wanted}"
        elif standard and standard["type"] in TYPE_WORDS:
            message = f"expected {TYPE_WORDS[standard['type']]}"
        elif _betrays(message, value, secret=secret):
            return "not valid; why is not shown, because it holds a secret"
    return _expectation(message, value, secret=secret)


def _expectation(message: str, value: Any, *, secret: bool) -> str:
    if not message.startswith("expected") or "found" in message:
        return message
    message += _found(message, value, secret=secret)
    if isinstance(value, _QUOTABLE) and _WANTS_TEXT.search(message):
        return f"{message}; put it in quotes"
    if value is None and "mapping" in message:
        return f"{message}; write {{}} for an empty one"
    return message


def _found(message: str, value: Any, *, secret: bool) -> str:
    """What was found instead: its value where that is short and no secret, else its type."""
    if isinstance(value, str):
        return ", found text" if _WANTS_OTHER.search(message) else ""
    if isinstance(value, _QUOTABLE) and not secret:
        return f", found {json.dumps(value)}"
    return f", found {TYPE_WORDS.get(type(value).__name__, type(value).__name__)}"


def _betrays(message: str, value: Any, *, secret: bool) -> bool:
    """Whether a plugin's message repeats a secret that is in the value it complains of."""
    return any(
        form in message
        for text in secrets_in(value, secret=secret)
        for form in (text, repr(text)[1:-1], json.dumps(text)[1:-1])
    )


def _value_at(value: Any, path: KeyPath) -> Any:
    for key in path:
        try:
            value = value[key]
        except (LookupError, TypeError):
            return None
    return value
