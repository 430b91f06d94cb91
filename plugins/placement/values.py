"""Validators of single values that the options of several placement policies share.

Numbers are kept between 1e-9 and 1e12 (or exactly 0, where that is allowed), so that no
combination of valid options can lead to an infinite weight.
"""

from __future__ import annotations

import re
from typing import Any

from voluptuous import Invalid

from isoneph.core.identity import NAME_PATTERN

SMALLEST = 1e-9
LARGEST = 1e12


def name(value: Any) -> str:
    """The name of a cloud, a type or a place."""
    if isinstance(value, str) and NAME_PATTERN.fullmatch(value):
        return value
    raise Invalid(
        "expected a name: a letter, then at most 62 letters, digits, dots, dashes or underscores"
    )


def positive(value: Any) -> float:
    """A number above 0."""
    if _is_number(value) and SMALLEST <= value <= LARGEST:
        return float(value)
    raise Invalid("expected a positive number")


def not_negative(value: Any) -> float:
    """A number that may be 0."""
    if _is_number(value) and (value == 0 or SMALLEST <= value <= LARGEST):
        return float(value)
    raise Invalid("expected a number of 0 or more")


def count(value: Any) -> int:
    """A whole number that may be 0."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST:
        return value
    raise Invalid("expected a whole number of 0 or more")


def currency(value: Any) -> str:
    """A currency's code as in ISO 4217."""
    if isinstance(value, str) and re.fullmatch("[A-Z]{3}", value):
        return value
    raise Invalid("expected a currency code of three capital letters, such as EUR")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
