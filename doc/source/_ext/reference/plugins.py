"""A page for every plugin that is installed.

The pages are written below ``plugins/`` before Sphinx looks for sources: a heading and a
directive each, so that a new plugin has its page without anybody writing one.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

from sphinx.application import Sphinx

from isoneph.core.plugin import KINDS, Cloud
from isoneph.core.registry import Registry, group_of
from reference.options import options_table, plugin_options_table
from reference.text import Generated, code, first_paragraph, heading, plain, table

TITLES = {
    "clouds": "Clouds",
    "placement": "Placement policies",
    "victims": "Victim policies",
    "stores": "Stores",
    "relays": "Relays",
    "routers": "Routers",
    "transports": "Transports",
}


def installed(kind: str) -> Iterator[tuple[str, EntryPoint]]:
    """The plugins of a kind, by name."""
    for name, points in Registry().entry_points(kind).items():
        yield name, points[0]


class Plugins(Generated):
    """``isoneph-plugins:: KIND``: the plugins of a kind, each with its summary."""

    required_arguments = 1
    sources = ("isoneph.core.registry",)

    def lines(self) -> list[str]:
        """A table with a link to each page."""
        kind = self.arguments[0]
        rows = []
        for name, point in installed(kind):
            plugin = Registry().load(kind, name)
            self.depend_on(plugin)
            link = f":doc:`{name} </plugins/{kind}/{name}>`"
            rows.append((link, plain(first_paragraph(plugin)), code(_package(point))))
        return table(("Name", "What it does", "Package"), rows, "20 62 18")


class PluginPage(Generated):
    """``isoneph-plugin:: KIND NAME``: all there is to know to use a plugin."""

    required_arguments = 2
    sources = ("isoneph.core.registry", "isoneph.core.plugin")

    def lines(self) -> list[str]:
        """Its docstring and its options."""
        kind, name = self.arguments
        plugin = Registry().load(kind, name)
        self.depend_on(plugin)
        package = code(_package(dict(installed(kind))[name]))
        lines = [
            *(inspect.getdoc(plugin) or "").splitlines(),
            "",
            f"*From package* {package}, *entry point* {code(name)} *in* {code(group_of(kind))}.",
            *heading("Options", "-"),
            *plugin_options_table(plugin),
        ]
        if issubclass(plugin, Cloud):
            lines += heading("Options of a VM type", "-")
            lines += ["What `options` of a VM type may hold on such a cloud.", ""]
            lines += options_table(plugin.type_schema)
            if plugin.prepare_schema:
                lines += heading("Options of a preparation", "-")
                lines += ["What `prepare` of an application may hold for this driver.", ""]
                lines += options_table(plugin.prepare_schema)
        return lines


def write_pages(app: Sphinx) -> None:
    """Write the pages, leaving those that are right already as they are."""
    top = Path(app.srcdir) / "plugins"
    wanted = {top / f"{kind}.rst": _kind_page(kind) for kind in KINDS}
    for kind in KINDS:
        for name, _point in installed(kind):
            wanted[top / kind / f"{name}.rst"] = _plugin_page(kind, name)
    for path in set(top.rglob("*.rst")) - set(wanted):
        path.unlink()
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def _kind_page(kind: str) -> str:
    title = TITLES.get(kind, kind.capitalize())
    about = plain(first_paragraph(KINDS[kind]))
    lines = [
        f".. _plugins-{kind}:",
        *heading(title, "="),
        about,
        "",
        f".. isoneph-plugins:: {kind}",
    ]
    lines += ["", ".. toctree::", "   :hidden:", "   :glob:", "", f"   {kind}/*", ""]
    return "\n".join(lines)


def _plugin_page(kind: str, name: str) -> str:
    lines = [f".. _plugin-{kind}-{name}:", *heading(name, "=")]
    return "\n".join([*lines, f".. isoneph-plugin:: {kind} {name}", ""])


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else ""


def setup(app: Sphinx) -> None:
    """Called by the package."""
    app.connect("builder-inited", write_pages)
    app.add_directive("isoneph-plugins", Plugins)
    app.add_directive("isoneph-plugin", PluginPage)
