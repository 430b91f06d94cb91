"""The keys of the configuration files."""

from __future__ import annotations

from importlib import import_module

from oslo_config import cfg, types
from sphinx.application import Sphinx

from isoneph.core.config.options import list_opts
from reference.options import options_table
from reference.text import Generated, code, heading, plain, table

_TYPES = {
    types.Boolean: "true or false",
    types.Integer: "a whole number",
    types.Float: "a number",
    types.Port: "a port",
    types.HostAddress: "a host name or an IP address",
}


class ServiceOptions(Generated):
    """``isoneph-service-options::``: the options of ``isoneph.conf``, section by section."""

    sources = ("isoneph.core.config.options",)

    def lines(self) -> list[str]:
        """A table for each section."""
        lines: list[str] = []
        for group, options in list_opts():
            lines += [*heading(f"[{group.name}]", "~"), plain(group.help or ""), ""]
            rows = [
                (
                    code(option.dest),
                    plain(_type(option)),
                    code(_default(option)),
                    plain(option.help or ""),
                )
                for option in options
            ]
            lines += table(("Option", "Type", "Default", "Meaning"), rows, "24 22 16 38")
        return lines


class SchemaOptions(Generated):
    """``isoneph-options:: MODULE SCHEMA``: the keys that one of the core's own schemas takes."""

    required_arguments = 2

    def lines(self) -> list[str]:
        """One table."""
        module = import_module(self.arguments[0])
        self.depend_on(module)
        return options_table(getattr(module, self.arguments[1]))


def _type(option: cfg.Opt) -> str:
    choices = getattr(option.type, "choices", None)
    if choices:
        return "one of " + ", ".join(f"`{word}`" for word in choices)
    return _TYPES.get(type(option.type), "text") + _bound(option)


def _bound(option: cfg.Opt) -> str:
    low = getattr(option.type, "min", None)
    is_port = isinstance(option.type, types.Port)
    return f" of at least {low:g}" if low is not None and not is_port else ""


def _default(option: cfg.Opt) -> str:
    default = option.default
    if isinstance(default, bool):
        return str(default).lower()
    return "" if default is None else str(default)


def setup(app: Sphinx) -> None:
    """Called by the package."""
    app.add_directive("isoneph-service-options", ServiceOptions)
    app.add_directive("isoneph-options", SchemaOptions)
