"""Validators of the core's own configuration.

Each says what it expects, for the messages and for the reference, and never repeats the value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import voluptuous as vol

from isoneph.core.identity import NAME_PATTERN


class Expected(vol.Invalid):
    """A value that is not what was expected; the message holds nothing of the value."""


class Rule:
    """A validator of one value; ``expects`` completes the sentence "expected ..."."""

    def __init__(self, expects: str, convert: Callable[[Any], Any]) -> None:
        self.expects = expects
        self._convert = convert

    def __call__(self, value: Any) -> Any:
        """``value`` converted; raises :class:`Expected`."""
        try:
            return self._convert(value)
        except (TypeError, ValueError, ArithmeticError) as error:
            raise Expected(f"expected {self.expects}") from error


class Each:
    """A validator of lists that, unlike voluptuous' own, reports the mistakes of all items."""

    def __init__(self, item: Any, *, least: int = 0, unique: bool = False) -> None:
        self.item = item
        self._schema = vol.Schema(item)
        self._least = least
        self._unique = unique

    def __call__(self, value: Any) -> list[Any]:
        """The list with its items converted; raises ``voluptuous.Invalid``."""
        if not isinstance(value, list):
            raise Expected("expected a list")
        if len(value) < self._least:
            raise Expected(f"there is nothing in the list; expected at least {self._least}")
        checked: list[Any] = []
        errors: list[vol.Invalid] = []
        for index, item in enumerate(value):
            try:
                checked.append(self._schema(item))
            except vol.MultipleInvalid as error:
                error.prepend([index])
                errors += error.errors
            else:
                if self._unique and checked[-1] in checked[:-1]:
                    errors.append(Expected("this is in the list twice", [index]))
        if errors:
            raise vol.MultipleInvalid(errors)
        return checked


def whole(least: int) -> Rule:
    """A whole number of at least ``least``."""

    def convert(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError
        return value

    return Rule(f"a whole number of at least {least}", convert)


def number(*, above: float = -math.inf, least: float = -math.inf) -> Rule:
    """A finite number, as a float."""

    def convert(value: Any) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise TypeError
        if not (math.isfinite(value) and value > above and value >= least):
            raise ValueError
        return float(value)

    bound = f" above {above:g}" if above > -math.inf else ""
    bound += f" of at least {least:g}" if least > -math.inf else ""
    return Rule(f"a number{bound}", convert)


def one_of(*words: str) -> vol.In:
    """One of a few words."""
    return vol.In(words)


def _matching(pattern: re.Pattern[str]) -> Callable[[Any], str]:
    def convert(value: Any) -> str:
        if not pattern.fullmatch(value):
            raise ValueError
        return str(value)

    return convert


NAME = Rule(
    "a name: a letter, then at most 62 letters, digits, '_', '.' or '-'", _matching(NAME_PATTERN)
)
DIGEST = Rule(
    "the SHA-256 digest of the token in 64 hexadecimal digits (as sha256sum prints it), "
    "never the token itself",
    lambda value: _matching(re.compile("[0-9A-Fa-f]{64}"))(value).lower(),
)
