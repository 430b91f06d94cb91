"""The table of metrics: their meaning from the core's own list, their kind and labels from the
calls that feed them."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from sphinx.application import Sphinx

from isoneph.core import metrics
from reference.text import Generated, code, plain, table

_KINDS = {"count": "counter", "gauge": "gauge", "observe": "histogram"}
_ENDINGS = {"counter": "_total"}


class Use(NamedTuple):
    """How the core feeds a figure."""

    kind: str
    labels: Sequence[str]


class Metrics(Generated):
    """``isoneph-metrics::``: every figure that the core gives."""

    sources = ("isoneph.core.metrics",)

    def lines(self) -> list[str]:
        """One table."""
        used = uses(Path(metrics.__file__).parent)
        rows = [
            (
                code(metrics.PREFIX + name + _ENDINGS.get(used[name].kind, "")),
                used[name].kind,
                ", ".join(map(code, used[name].labels)),
                plain(text),
            )
            for name, text in metrics.HELP.items()
        ]
        return table(("Name", "Kind", "Labels", "Meaning"), rows, "32 12 24 32")


def uses(package: Path) -> Mapping[str, Use]:
    """What the modules of a package feed, by the figure's name."""
    found: dict[str, Use] = {}
    for file in sorted(package.rglob("*.py")):
        for name, use in _uses_in(ast.parse(file.read_text())):
            found.setdefault(name, use)
    return found


def _uses_in(tree: ast.AST) -> Iterator[tuple[str, Use]]:
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        first = node.args[0] if node.args else None
        if node.func.attr in _KINDS and isinstance(first, ast.Constant):
            labels = [word.arg for word in node.keywords if word.arg is not None]
            yield str(first.value), Use(_KINDS[node.func.attr], labels)


def setup(app: Sphinx) -> None:
    """Called by the package."""
    app.add_directive("isoneph-metrics", Metrics)
