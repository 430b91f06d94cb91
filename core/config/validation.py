"""Validating values with voluptuous schemas, and telling what is wrong in an operator's words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import voluptuous as vol
from voluptuous.schema_builder import VirtualPathComponent

from isoneph.core.config.lookup import choices_at, group_at, keys_at, refuses_key, schemas_at
from isoneph.core.config.masking import is_secret, secrets_in
from isoneph.core.config.problems import KeyPath, unknown
from isoneph.core.config.rules import Each, Expected
from isoneph.core.config.schema import TYPE_WORDS, type_words
from isoneph.core.errors import PluginError
from isoneph.core.plugin import OptionSchema, Plugin
from isoneph.core.registry import Registry

#: Takes a problem: the path to it in the value, and what is wrong.
Report = Callable[[KeyPath, str], None]

_CLAUSE_END = re.compile(r"[;:.](?:\s|$)")
#: What voluptuous says by itself: the schema tells it better.
_STANDARD = re.compile(
    r"expected (?:a )?(?P<type>\w+)|not a valid value|value must be .*|length of value .*"
    r"|invalid value or type.*|does not match regular expression .*"
)
_GROUPS = re.compile(
    r"(two or more|some but not all) values in the same group of (exclusion|inclusion) .*"
)
_WANTS_TEXT = re.compile(r"\b(text|name|word|string)\b")
_WANTS_OTHER = re.compile(r"\b(numbers?|mapping|list|true or false)\b")
_WANTS_SINGLE = re.compile(rf"{_WANTS_TEXT.pattern}|{_WANTS_OTHER.pattern}|\bone of\b")
_QUOTABLE = (bool, int, float)


def check(schema: Any, value: Any, report: Report) -> Any | None:
    """``value`` as ``schema`` makes it, defaults filled in; None after problems were reported.

    Never raises, whatever the value, and whatever a plugin's schema does with it.
    """
    try:
        return vol.Schema(_thorough(schema))(value)
    except vol.MultipleInvalid as error:
        errors = _flat(error)
        for each in errors:
            path = _path_of(each)
            report(path, _text(each, path, schema, value))
        grouped = _grouped(errors, schema)
        if grouped:  # voluptuous looks at nothing else then
            check(schema, {key: value[key] for key in value if key not in grouped}, report)
    except Exception as error:  # noqa: BLE001 (a plugin's validator may raise anything)
        report((), f"the plugin failed to check this: {type(error).__name__}, a mistake in it")
    return None


def check_plugin(
    plugin: type[Plugin] | None, schema: Any, value: Mapping[str, Any], report: Report
) -> Any | None:
    """As :func:`check`, for a mapping with a plugin's options beside keys of the core's own
    (``schema``); without a plugin anything goes for its options."""
    options: OptionSchema = {vol.Extra: object} if plugin is None else plugin.schema
    checked = check({**options, **schema}, value, report)
    if checked is None or plugin is None:
        return checked
    try:
        problems = plugin.problems(checked)
    except Exception as error:  # noqa: BLE001 (a plugin may raise anything)
        problems = [f"the plugin failed to check this: {type(error).__name__}, a mistake in it"]
    for problem in problems:
        report((), problem)
    return None if problems else checked


def _grouped(errors: Sequence[vol.Invalid], schema: Any) -> Sequence[str]:
    """The keys of a mapping that are wrong together, where that is all that is known."""
    return [
        key
        for error in errors
        if isinstance(error, vol.ExclusiveInvalid | vol.InclusiveInvalid) and len(error.path) == 1
        for key in group_at(schema, (), error.path[-1])
    ]


def load_plugin(
    registry: Registry, kind: str, name: str, report: Report, *key: str
) -> type[Plugin] | None:
    """The class of the plugin that ``key`` names; None after it was reported why not."""
    try:
        return registry.load(kind, name)
    except PluginError as error:
        report(key, error.message)
        return None


def _thorough(schema: Any) -> Any:
    """``schema`` with its lists reporting the mistakes of all their items."""
    if isinstance(schema, Mapping) and not isinstance(schema, vol.Object):
        return {marker: _thorough(value) for marker, value in schema.items()}
    if isinstance(schema, list) and len(schema) == 1:
        return Each(_thorough(schema[0]))
    if type(schema) is vol.All:
        return vol.All(*map(_thorough, schema.validators), msg=schema.msg)
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
        if not isinstance(key, VirtualPathComponent)  # the name of a group of options
    )


def _text(error: vol.Invalid, path: KeyPath, schema: Any, whole: Any) -> str:
    told = _told_of_keys(error, path, schema)
    if told:
        return told
    value = path[-1] if refuses_key(schema, path) else _value_at(whole, path)
    choices = choices_at(schema, path) if isinstance(error, vol.InInvalid) else ()
    if choices and isinstance(value, str):
        return unknown("word", value, choices)
    message = str(error.msg)
    secret = any(map(is_secret, path))
    if not isinstance(error, Expected):
        message = _translated(message, _wanted(schema, path))
        if _betrays(message, value, secret=secret):
            return "not valid; why is not shown, because it holds a secret"
    return _expectation(message, value, secret=secret)


def _told_of_keys(error: vol.Invalid, path: KeyPath, schema: Any) -> str | None:
    """What is wrong, when it is which keys a mapping has, and not one of its values."""
    message = str(error.msg)
    is_standard = _STANDARD.fullmatch(message) is not None
    if message == "extra keys not allowed" or (is_standard and refuses_key(schema, path)):
        return unknown("key", str(path[-1]), keys_at(schema, path[:-1]))
    if message == "required key not provided":
        return _missing(error.path[-1], _wanted(schema, path))
    if isinstance(error, vol.ExclusiveInvalid | vol.InclusiveInvalid):
        group = ", ".join(group_at(schema, path, error.path[-1]))
        wanted = "one" if isinstance(error, vol.ExclusiveInvalid) else "all or none"
        return f"expected {wanted} of {group}" if _GROUPS.fullmatch(message) else message
    return None


def _wanted(schema: Any, path: KeyPath) -> str:
    return " or ".join(filter(None, dict.fromkeys(map(type_words, schemas_at(schema, path)))))


def _missing(marker: Any, wanted: str) -> str:
    description = str(getattr(marker, "description", None) or "")
    told = _CLAUSE_END.split(description, maxsplit=1)[0]
    return f"missing; expected {wanted or 'a value'}" + (f" ({told})" if told else "")


def _translated(message: str, wanted: str) -> str:
    """What voluptuous says, in the words of the schema; another's message as it is."""
    standard = _STANDARD.fullmatch(message)
    if standard and wanted:
        return f"expected {wanted}"
    if standard and standard["type"] in TYPE_WORDS:
        return f"expected {TYPE_WORDS[standard['type']]}"
    return message


def _expectation(message: str, value: Any, *, secret: bool) -> str:
    if not message.startswith("expected") or "found" in message:
        return message
    message += _found(message, value, secret=secret)
    if isinstance(value, _QUOTABLE) and _WANTS_TEXT.search(message):
        return f"{message}; put it in quotes"
    if value is None and "mapping" in message and "not empty" not in message:
        return f"{message}; write {{}} for an empty one"
    return message


def _found(message: str, value: Any, *, secret: bool) -> str:
    """What was found instead: its value where that is short and no secret, else its type."""
    if isinstance(value, str):
        return ", found text" if _WANTS_OTHER.search(message) else ""
    if isinstance(value, list | dict) and not _WANTS_SINGLE.search(message):
        return ""
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
