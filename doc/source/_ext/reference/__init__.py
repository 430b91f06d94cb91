"""The parts of the documentation that are read off the code, so that they cannot be out of date.

Each module here adds one directive or a few; all of them write reStructuredText and let Sphinx
parse it.
"""

from __future__ import annotations

from sphinx.application import Sphinx

from reference import commands, configuration, constants, errors, metrics, notes, plugins, rest


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    for module in (commands, configuration, constants, errors, metrics, notes, plugins, rest):
        module.setup(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
