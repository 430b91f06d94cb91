"""Tables of constants: their values and the comments that explain them in the code."""

from __future__ import annotations

from importlib import import_module

from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer

from reference.text import Generated, code, plain, table


class Constants(Generated):
    """``isoneph-constants::``, then a line ``MODULE NAME`` for each constant to be shown."""

    has_content = True

    def lines(self) -> list[str]:
        """One table."""
        rows = []
        for line in self.content:
            module_name, name = line.split()
            module = import_module(module_name)
            self.depend_on(module)
            comments = ModuleAnalyzer.for_module(module_name).find_attr_docs()
            value = getattr(module, name)
            shown = f"{value:,}" if isinstance(value, int) else f"{value:g}"
            where = f"{module_name.removeprefix('isoneph.core.')}.{name}"
            rows.append((plain(" ".join(comments["", name])), shown, code(where)))
        return table(("What", "Value", "In the code"), rows, "56 12 32")


def setup(app: Sphinx) -> None:
    """Called by the package."""
    app.add_directive("isoneph-constants", Constants)
