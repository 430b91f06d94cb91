"""reStructuredText as the directives write it."""

from __future__ import annotations

import inspect
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

_SPECIAL = re.compile(r"([\\`*_|])")
_CODE = re.compile(r"`+([^`]+)`+")


def plain(text: str) -> str:
    """Text in which nothing is markup but `code` in backquotes."""
    parts = _CODE.split(" ".join(text.split()))
    return "".join(
        code(part) if index % 2 else _SPECIAL.sub(r"\\\1", part) for index, part in enumerate(parts)
    )


def code(text: str) -> str:
    """Text as it is, in a fixed-width face."""
    return f"``{text}``" if text.strip() == text and text else ""


def heading(text: str, underline: str) -> list[str]:
    """A section's title."""
    return ["", text, underline * len(text), ""]


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], widths: str = "auto") -> list[str]:
    """A table; cells hold reStructuredText of one line."""
    lines = ["", ".. list-table::", "   :header-rows: 1", f"   :widths: {widths}", ""]
    for row in (headers, *rows):
        for index, cell in enumerate(row):
            marker = "*" if index == 0 else " "
            lines.append(f"   {marker} - {cell}".rstrip())
    return [*lines, ""]


def first_paragraph(documented: Any) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((inspect.getdoc(documented) or "").split("\n\n", 1)[0].split())


class Generated(SphinxDirective, ABC):
    """A directive that stands for what :meth:`lines` gives.

    ``sources`` are modules: the page is built again after one of them has changed.
    """

    sources: ClassVar[Sequence[str]] = ()

    def run(self) -> list[nodes.Node]:
        """Called by docutils."""
        for name in self.sources:
            self.depend_on(sys.modules[name])
        return self.parse_text_to_nodes("\n".join(self.lines()), allow_section_headings=True)

    def depend_on(self, source: Any) -> None:
        """Build the page again when the file of a module or class has changed."""
        file = inspect.getsourcefile(source)
        if file is not None:
            self.env.note_dependency(str(Path(file)))

    @abstractmethod
    def lines(self) -> list[str]:
        """The reStructuredText."""
