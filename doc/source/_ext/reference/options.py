"""Tables of options, from voluptuous schemas."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from isoneph.core.config import OptionRow, option_rows, plugin_rows
from isoneph.core.plugin import Plugin
from reference.text import code, plain, table


def options_table(schema: Any) -> list[str]:
    """The options that a schema takes, or a sentence that it takes none."""
    return _table(option_rows(schema))


def plugin_options_table(plugin: type[Plugin]) -> list[str]:
    """The same of a plugin, its parts first."""
    return _table(plugin_rows(plugin))


def _table(options: Iterable[OptionRow]) -> list[str]:
    rows = [
        (
            code(row.name),
            plain(row.type),
            "**required**" if row.required else code(row.default or ""),
            plain(row.description[:1].upper() + row.description[1:]),
        )
        for row in options
    ]
    if not rows:
        return ["", "It takes no options.", ""]
    return table(("Option", "Type", "Default", "Meaning"), rows, "24 22 16 38")
