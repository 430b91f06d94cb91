"""``isoneph cloud`` and ``isoneph type``: where VMs can be, and of which kinds."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

from cliff.lister import Lister
from cliff.show import ShowOne

from isoneph.core.cli.access import add_access_options, connect
from isoneph.core.cli.base import DisplayCommand
from isoneph.core.cli.columns import Limits, Names, Optional, Pairs, Time

#: How the fields of a cloud are shown, where not as they are.
_COLUMNS = {
    "retry_at": Time,
    "last_error": Optional,
    "listed_at": Time,
    "by_type": Pairs,
    "by_state": Pairs,
    "limits": Limits,
}


class ListClouds(DisplayCommand, Lister):
    """List the clouds: whether they are well, and how many VMs they run."""

    examples = """\
  isoneph cloud list
  isoneph cloud list -f value -c name -c vms"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        add_access_options(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterator[Sequence[Any]]]:
        """One row for each cloud, in order of preference."""
        with connect(parsed_args) as client:
            clouds = client.list_clouds()
        plain = ("name", "driver", "healthy", "breaker", "vms", "in_flight")
        rows = (
            (*(cloud[name] for name in plain), Optional(cloud["last_error"])) for cloud in clouds
        )
        return (*plain, "last_error"), rows


class ShowCloud(DisplayCommand, ShowOne):
    """Show all that is known of one cloud."""

    examples = "  isoneph cloud show paris"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument("name", metavar="NAME", help="the cloud's name in 'cloud list'")
        add_access_options(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        """Its fields."""
        with connect(parsed_args) as client:
            cloud = client.get_cloud(parsed_args.name)
        return self.dict2columns(
            {
                key: _COLUMNS[key](value) if key in _COLUMNS else value
                for key, value in cloud.items()
            }
        )


class ListTypes(DisplayCommand, Lister):
    """List the VM types and the clouds that offer them."""

    examples = "  isoneph type list"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        add_access_options(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterator[Sequence[Any]]]:
        """One row for each type."""
        with connect(parsed_args) as client:
            types = client.list_types()
        rows = (
            (each["name"], Names([offer["cloud"] for offer in each["clouds"]])) for each in types
        )
        return ("name", "clouds"), rows
