"""The option that the routers here have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from voluptuous import Invalid, Optional

_LARGEST: Final = 65535


def _window(value: Any) -> int:
    """How many messages."""
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _LARGEST:
        return value
    raise Invalid(f"expected a whole number from 1 to {_LARGEST}")


OPTIONS: Final[Mapping[Any, Any]] = {
    Optional(
        "window",
        default=256,
        description="how many messages of one conversation a worker may have unanswered; with 1 "
        "each of them finds the state that the one before it has left (plain servers: without "
        "meaning)",
    ): _window,
}
