"""``isoneph config``: looking at the configuration."""

from __future__ import annotations

import argparse
from typing import Any

from cliff.show import ShowOne

from isoneph.core.cli.base import Command, DisplayCommand, add_config_options, load_config
from isoneph.core.cli.failures import FAILED, OK
from isoneph.core.errors import ConfigInvalid


class CheckConfig(Command):
    """Check the configuration and print all its problems and warnings.

    Nothing but files is read: no cloud is asked. The exit code is 1 if there is a problem.
    """

    examples = """\
  isoneph config check
  isoneph config check --config-dir ./etc/isoneph"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        add_config_options(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Print what is wrong, or that nothing is."""
        out = self.app.stdout
        try:
            loaded = load_config(parsed_args)
        except ConfigInvalid as error:
            print("\n".join(error.problems), file=out)
            return FAILED
        for warning in loaded.warnings:
            print(f"warning: {warning}", file=out)
        clouds, applications = len(loaded.settings.clouds), len(loaded.settings.applications)
        print(
            f"ok: {clouds} cloud{'s' * (clouds != 1)}, "
            f"{applications} application{'s' * (applications != 1)}",
            file=out,
        )
        return OK


class ShowConfig(DisplayCommand, ShowOne):
    """Show the configuration in force, defaults filled in and secrets masked."""

    examples = """\
  isoneph config show
  isoneph config show -c applications -f json"""

    @property
    def formatter_default(self) -> str:
        """YAML, as it is written."""
        return "yaml"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        add_config_options(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Any]:
        """One field for each section."""
        from isoneph.core.config import describe  # noqa: PLC0415 (slow; help does not need it)

        return self.dict2columns(describe(load_config(parsed_args).settings))
