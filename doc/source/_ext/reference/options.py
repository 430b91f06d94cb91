"""Tables of options, from voluptuous schemas."""

from __future__ import annotations

from typing import Any

from isoneph.core.config import option_rows
from reference.text import code, plain, table


def options_table(schema: Any) -> list[str]:
    """The options that a schema takes, or a sentence that it takes none."""
    rows = [
        (
            code(row.name),
            plain(row.type),
            "**required**" if row.required else code(row.default or ""),
            plain(row.description[:1].upper() + row.description[1:]),
        )
        for row in option_rows(schema)
    ]
    if not rows:
        return ["", "It takes no options.", ""]
    return table(("Option", "Type", "Default", "Meaning"), rows, "24 22 16 38")
