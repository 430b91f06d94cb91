"""Showing the configuration in force, without its secrets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from isoneph.core.config.masking import MASK, mask
from isoneph.core.settings import Settings


def describe(settings: Settings) -> dict[str, Any]:
    """``settings`` as plain mappings, lists, texts and numbers, defaults filled in and secrets
    masked; what a plugin's schema made of an option, if it is none of these, as text."""
    return {each.name: _plain(getattr(settings, each.name)) for each in fields(settings)}


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: _field(each.name, getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(map(_plain, value), key=str)
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def _field(name: str, value: Any) -> Any:
    """One field; only options have keys that tell secrets from names."""
    plain = _plain(value)
    if name in {"options", "prepare"}:
        return mask(plain)
    return MASK if name == "sha256" else plain
