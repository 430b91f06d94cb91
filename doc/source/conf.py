"""How the documentation is built: ``sphinx-build -W -b html doc/source doc/build/html``."""

from __future__ import annotations

import logging
import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

logging.getLogger("reno").setLevel(logging.WARNING)

project = "isoneph"
author = "the isoneph authors"
copyright = f"2026, {author}"  # noqa: A001 (Sphinx reads it by this name)
release = version = version_of("isoneph")

extensions = ["sphinx.ext.autodoc", "reference"]
exclude_patterns = ["_ext", "benchmarks-table.rst"]
# In docstrings and in the descriptions of options `this` means code.
default_role = "literal"
highlight_language = "none"
suppress_warnings: list[str] = []
nitpicky = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}

html_theme = "furo"
html_title = f"isoneph {release}"
html_static_path = ["_static"]
html_css_files = ["isoneph.css"]
html_show_sphinx = False
