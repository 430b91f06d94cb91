"""What the commands share: help, error reports, and the options that several of them take."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from cliff import _argparse, command, display

from isoneph.core.cli.failures import OK, UsageError

if TYPE_CHECKING:
    from isoneph.core.cli.main import Isoneph
    from isoneph.core.config import Loaded
    from isoneph.core.registry import Registry


class HelpFormatter(_argparse.SmartHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Leaves descriptions and examples as they are written."""


class Command(command.Command):
    """Of every command: the docstring is its description, ``examples`` the end of its help.

    ``exit_code`` is what a command sets that did only part of what it was asked for.
    """

    app: Isoneph
    examples: ClassVar[str] = ""

    def __init__(self, app: Isoneph, app_args: argparse.Namespace | None) -> None:
        # Without a name: cliff would look for installed hooks of each command by it.
        super().__init__(app, app_args)
        self.exit_code = OK

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options of this command."""
        parser = super().get_parser(prog_name)
        parser.formatter_class = HelpFormatter
        parser.allow_abbrev = False
        return parser

    def get_epilog(self) -> str:
        """The examples. cliff would look through all installed packages for this command's."""
        return f"examples:\n{self.examples}" if self.examples else ""

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Do it, and report what goes wrong."""
        try:
            return super().run(parsed_args) or self.exit_code
        except BrokenPipeError:
            raise
        except Exception as error:  # noqa: BLE001 (a traceback tells an operator nothing)
            return self.app.report(error)


class DisplayCommand(Command, display.DisplayCommandBase[Any]):
    """A command that shows something in one of the formats."""

    def _generate_columns_and_selector(
        self, parsed_args: argparse.Namespace, column_names: Sequence[str]
    ) -> tuple[list[str], list[bool] | None]:
        known = {self._normalize_column_name(name) for name in column_names}
        for column in parsed_args.columns:
            if self._normalize_column_name(column) not in known:
                raise UsageError(f"there is no column '{column}', only {', '.join(column_names)}")
        return super()._generate_columns_and_selector(parsed_args, column_names)


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Where the configuration is."""
    group = parser.add_argument_group("configuration")
    group.add_argument(
        "--config-dir",
        metavar="DIR",
        action="append",
        default=[],
        help="a directory of configuration files, by default $ISONEPH_CONFIG_DIR, "
        "~/.config/isoneph or /etc/isoneph; may be repeated",
    )
    group.add_argument(
        "--config-file",
        metavar="FILE",
        action="append",
        default=[],
        help="a service configuration file such as isoneph.conf; may be repeated",
    )


def load_config(parsed_args: argparse.Namespace, registry: Registry | None = None) -> Loaded:
    """The configuration that the options name; plugins that were loaded for it are in
    ``registry`` then. Raises ConfigInvalid."""
    from isoneph.core.config import load_settings  # noqa: PLC0415 (slow, and not always needed)

    return load_settings(parsed_args.config_file, parsed_args.config_dir, registry)


def given(parsed_args: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Those of the options that were given, by name."""
    return {name: value for name in names if (value := getattr(parsed_args, name)) is not None}
