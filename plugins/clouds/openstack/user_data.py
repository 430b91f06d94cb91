"""A VM's user data: a text with isoneph's placeholders, as Nova takes it.

Placeholders are ``{{isoneph.NAME}}`` and nothing else: a shell's ``$NAME`` and the Jinja of
cloud-init stay as they are.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from pathlib import Path

from voluptuous import Invalid

from isoneph.core.errors import InvalidRequest

#: What a template may name.
PLACEHOLDERS = ("id", "name", "application", "type", "cloud", "relay")
#: Most bytes that Nova takes, counted after they were encoded with base64.
LARGEST = 65535

_PLACEHOLDER = re.compile(r"\{\{\s*isoneph\.(.*?)\s*\}\}", re.DOTALL)


def template(value: object) -> str:
    """Validates a text with placeholders."""
    if not isinstance(value, str) or not value:
        raise Invalid("expected a text that is not empty")
    problem = _problem(value)
    if problem is not None:
        raise Invalid(problem)
    return value


def template_file(value: object) -> str:
    """Validates the path of a file with such a text."""
    wanted = "expected the absolute path of a file, or one that begins with ~/"
    if not isinstance(value, str) or "\0" in value:
        raise Invalid(wanted)
    try:
        path = Path(value).expanduser()
    except RuntimeError:
        raise Invalid(f"{wanted}: there is no home directory for ~") from None
    if not path.is_absolute():
        raise Invalid(wanted)
    try:
        template(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Invalid(f"the file cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Invalid("the file is not UTF-8 text") from None
    except Invalid as error:
        raise Invalid(f"in the file: {error.msg}") from None
    return value


def read_template(path: str) -> str:
    """The text of a file that :func:`template_file` took earlier.

    Raises InvalidRequest when it can be read no more.
    """
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, RuntimeError):
        raise InvalidRequest(f"user_data_file: {path} cannot be read") from None


def render(text: str, values: Mapping[str, str | None]) -> str:
    """``text`` with its placeholders filled in, encoded with base64.

    Raises InvalidRequest, quoting nothing of the text, for a placeholder that is not known or
    has no value, and for more than Nova takes.
    """
    problem = _problem(text)
    if problem is not None:
        raise InvalidRequest(f"user_data: {problem}")
    missing = sorted({match[1] for match in _PLACEHOLDER.finditer(text) if not values[match[1]]})
    if missing:
        raise InvalidRequest(
            f"user_data: it names {{{{isoneph.{missing[0]}}}}}; say in option `{missing[0]}` "
            "what that is"
        )
    filled = _PLACEHOLDER.sub(lambda match: values[match[1]] or "", text)
    encoded = base64.b64encode(filled.encode())
    if len(encoded) > LARGEST:
        raise InvalidRequest(_too_large(len(encoded)))
    return encoded.decode("ascii")


def _problem(text: str) -> str | None:
    """What is wrong with a template, whatever its placeholders stand for."""
    for match in _PLACEHOLDER.finditer(text):
        if match[1] not in PLACEHOLDERS:
            known = ", ".join(f"{{{{isoneph.{name}}}}}" for name in PLACEHOLDERS)
            line = text.count("\n", 0, match.start()) + 1
            return f"unknown placeholder in line {line}; expected one of {known}"
    # Placeholders are about as long as what they stand for; the rest is checked when filled in.
    size = len(base64.b64encode(_PLACEHOLDER.sub("", text).encode()))
    return _too_large(size) if size > LARGEST else None


def _too_large(size: int) -> str:
    return f"expected at most {LARGEST} bytes after encoding with base64, found {size}"
