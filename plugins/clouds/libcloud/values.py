"""Validators of option values: each says what it expects, and repeats no value."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from voluptuous import Invalid

_LONGEST = 2048


class WrongOption(Exception):
    """An option of a VM type that the cloud, or libcloud, can do nothing with."""

    def __init__(self, option: str, text: str) -> None:
        super().__init__(f"{option}: {text}")
        self.option = option
        self.text = text


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


def line(value: object) -> str:
    """One line of text that is not empty."""
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST or not value.isprintable():
        raise Invalid("expected a text in one line that is not empty")
    return value


def unique(value: list[str]) -> list[str]:
    """A list in which nothing stands twice."""
    if len(set(value)) < len(value):
        raise Invalid("expected each one once")
    return value


def file(value: object) -> str:
    """The absolute path of a file."""
    try:
        path = Path(line(value)).expanduser()
    except (Invalid, RuntimeError):
        path = Path()
    if not path.is_absolute():
        raise Invalid("expected the absolute path of a file, or one that begins with ~/")
    return str(path)
