"""The reference of the ``isoneph`` command: what each command's own help says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from sphinx.application import Sphinx

from isoneph.core.cli.main import Isoneph
from reference.text import Generated, heading

WIDTH = "88"


class Commands(Generated):
    """``isoneph-commands::``: a section for each command."""

    sources = ("isoneph.core.cli.main",)

    def lines(self) -> list[str]:
        """Their help texts."""
        lines: list[str] = []
        with _width():
            app = Isoneph()
            for name, point in sorted(app.command_manager):
                kind = point.load()
                self.depend_on(kind)
                help_text = kind(app, None).get_parser(f"isoneph {name}").format_help()
                lines += [f".. _command-{name.replace(' ', '-')}:"]
                lines += heading(f"isoneph {name}", "-")
                lines += [".. code-block:: text", ""]
                lines += [f"   {line}".rstrip() for line in help_text.splitlines()]
                lines += [""]
        return lines


@contextmanager
def _width() -> Iterator[None]:
    """As wide as a page, wherever the documentation is built."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = WIDTH
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def setup(app: Sphinx) -> None:
    """Called by the package."""
    app.add_directive("isoneph-commands", Commands)
