"""``isoneph plugin``: which plugins are installed, and what they can be told."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any

from cliff.columns import FormattableColumn
from cliff.lister import Lister
from cliff.show import ShowOne

from isoneph.core.cli.base import DisplayCommand
from isoneph.core.cli.columns import Optional
from isoneph.core.errors import PluginError
from isoneph.core.plugin import KINDS, Cloud, Plugin
from isoneph.core.registry import Registry

if TYPE_CHECKING:
    from isoneph.core.config import OptionRow


class ListPlugins(DisplayCommand, Lister):
    """List the installed plugins and whether they load."""

    examples = """\
  isoneph plugin list
  isoneph plugin list --kind placement"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--kind", choices=list(KINDS), help="of this kind only")
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterator[Sequence[Any]]]:
        """One row for each plugin."""
        kinds = [parsed_args.kind] if parsed_args.kind else list(KINDS)
        return ("kind", "name", "package", "summary", "status"), _rows(kinds)


def _rows(kinds: Sequence[str]) -> Iterator[Sequence[Any]]:
    registry = Registry()
    for kind in kinds:
        for name, points in registry.entry_points(kind).items():
            try:
                summary, status = _summary(registry.load(kind, name)), "ok"
            except PluginError as error:
                summary, status = None, f"broken: {error.message}"
            yield kind, name, _packages(points), Optional(summary), status


def _packages(points: Sequence[EntryPoint]) -> str:
    return ", ".join(
        f"{point.dist.name} {point.dist.version}" if point.dist else point.value for point in points
    )


def _docstring(plugin: type[Plugin]) -> str:
    """Its own: what a base class says is not about it."""
    return inspect.cleandoc(plugin.__doc__ or "")


def _summary(plugin: type[Plugin]) -> str:
    return _docstring(plugin).partition("\n")[0]


class ShowPlugin(DisplayCommand, ShowOne):
    """Show what a plugin does and every option it takes."""

    examples = """\
  isoneph plugin show clouds mock
  isoneph plugin show placement cost-aware -f yaml"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument("kind", metavar="KIND", choices=list(KINDS), help=", ".join(KINDS))
        parser.add_argument("name", metavar="NAME", help="the plugin's name in 'plugin list'")
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        """What its class tells."""
        from isoneph.core.config import option_rows, plugin_rows  # noqa: PLC0415 (slow; help does without)

        registry = Registry()
        plugin = registry.load(parsed_args.kind, parsed_args.name)
        summary, _, rest = _docstring(plugin).partition("\n")
        shown = {
            "kind": parsed_args.kind,
            "name": parsed_args.name,
            "package": _packages(registry.entry_points(parsed_args.kind)[parsed_args.name]),
            "summary": summary,
            "description": rest.strip(),
            "options": Options([_described(row) for row in plugin_rows(plugin)]),
        }
        if issubclass(plugin, Cloud):
            rows = option_rows(plugin.type_schema)
            shown["type_options"] = Options([_described(row) for row in rows])
            rows = option_rows(plugin.prepare_schema)
            shown["prepare_options"] = Options([_described(row) for row in rows])
        return self.dict2columns(shown)


def _described(row: OptionRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "required": row.required,
        "default": row.default,
        "type": row.type,
        "description": row.description,
    }


class Options(FormattableColumn[Sequence[Mapping[str, Any]]]):
    """A plugin's options: in a table a few lines each."""

    def human_readable(self) -> str:
        """For a table."""
        return "\n\n".join(_option_text(option) for option in self._value) or "none"


def _option_text(option: Mapping[str, Any]) -> str:
    notes = [option["type"]]
    if option["required"]:
        notes.append("required")
    elif option["default"] is not None:
        notes.append(f"default {option['default']}")
    return f"{option['name']} ({'; '.join(notes)})\n{option['description']}"
