"""``isoneph explain``: where the next VM would go, and why."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cliff.lister import Lister

from isoneph.core.cli.access import add_access_options, connect
from isoneph.core.cli.base import DisplayCommand, given
from isoneph.core.cli.columns import Reasons, Score


class Explain(DisplayCommand, Lister):
    """Show where the next VM would go and what speaks for it and against.

    Nothing is created. The clouds come in the order in which they would be tried. What each
    policy added to the score stands in brackets.
    """

    examples = """\
  isoneph explain web
  isoneph explain web --near paris
  isoneph explain web -f json"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument("type", metavar="TYPE", help="one of 'type list'")
        parser.add_argument("--near", metavar="PLACE", help="near this place, cloud or VM")
        parser.add_argument("--cloud", metavar="NAME", help="on this cloud only")
        add_access_options(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterator[Sequence[Any]]]:
        """One row for each cloud."""
        with connect(parsed_args) as client:
            ranking = client.explain(given(parsed_args, "type", "near", "cloud"))["ranking"]
        return ("cloud", "verdict", "score", "reasons"), _rows(ranking)


def _rows(ranking: Sequence[Mapping[str, Any]]) -> Iterator[Sequence[Any]]:
    for position, verdict in enumerate(ranking):
        word = "first choice" if position == 0 else "possible"
        yield (
            verdict["candidate"],
            "rejected" if verdict["score"] is None else word,
            Score(verdict["score"]),
            Reasons(verdict["reasons"]),
        )
