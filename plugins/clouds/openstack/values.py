"""Validators of option values: each says what it expects, and repeats no value."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable

from voluptuous import Invalid


def whole(low: int, high: int | None = None) -> Callable[[object], int]:
    """A whole number between two bounds, both included."""
    wanted = f"of {low} or more" if high is None else f"from {low} to {high}"

    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise Invalid(f"expected a whole number {wanted}")
        if value < low or (high is not None and value > high):
            raise Invalid(f"expected a whole number {wanted}")
        return value

    return check


def positive(value: object) -> float:
    """A finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Invalid("expected a positive number")
    if not math.isfinite(value) or value <= 0:
        raise Invalid("expected a positive number")
    return float(value)


def flag(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise Invalid("expected true or false")
    return value


def name(value: object) -> str:
    """The name or id of something in the cloud."""
    return _line(value, 1, 255)


def line(longest: int) -> Callable[[object], str]:
    """One line of text, perhaps empty."""
    return lambda value: _line(value, 0, longest)


def _line(value: object, shortest: int, longest: int) -> str:
    wanted = f"expected a text of {shortest} to {longest} characters in one line"
    if not isinstance(value, str) or not shortest <= len(value) <= longest:
        raise Invalid(wanted)
    if not value.isprintable():
        raise Invalid(wanted)
    return value


def address(value: object) -> str:
    """An IP address, IPv4 or IPv6."""
    try:
        return str(ipaddress.ip_address(value if isinstance(value, str) else ""))
    except ValueError:
        raise Invalid("expected an IP address") from None


def unique(value: list[str]) -> list[str]:
    """A list in which nothing stands twice."""
    if len(set(value)) < len(value):
        raise Invalid("expected each one once")
    return value
