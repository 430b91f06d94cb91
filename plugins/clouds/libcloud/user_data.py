"""A VM's user data: a text with isoneph's placeholders.

Placeholders are ``{{isoneph.NAME}}`` and nothing else: a shell's ``$NAME`` and the Jinja of
cloud-init stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from voluptuous import Invalid

from isoneph.plugins.clouds.libcloud.values import WrongOption

#: What a text may name.
PLACEHOLDERS = ("id", "name", "application", "type", "cloud", "relay")

_PLACEHOLDER = re.compile(r"\{\{\s*isoneph\.(.*?)\s*\}\}", re.DOTALL)


def template(value: object) -> str:
    """Validates a text with placeholders."""
    if not isinstance(value, str) or not value:
        raise Invalid("expected a text that is not empty")
    for match in _PLACEHOLDER.finditer(value):
        if match[1] not in PLACEHOLDERS:
            known = ", ".join(f"{{{{isoneph.{name}}}}}" for name in PLACEHOLDERS)
            line = value.count("\n", 0, match.start()) + 1
            raise Invalid(f"unknown placeholder in line {line}; expected one of {known}")
    return value


def render(text: str, values: Mapping[str, str | None]) -> str:
    """``text``, as :func:`template` took it, with its placeholders filled in.

    Raises WrongOption, quoting nothing of the text, for a placeholder without a value.
    """
    for match in _PLACEHOLDER.finditer(text):
        if not values[match[1]]:
            text = f"it names {{{{isoneph.{match[1]}}}}}; say in option `{match[1]}` what that is"
            raise WrongOption("user_data", text)
    return _PLACEHOLDER.sub(lambda match: values[match[1]] or "", text)
