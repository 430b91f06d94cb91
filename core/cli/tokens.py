"""``isoneph token``: bearer tokens for an application's users."""

from __future__ import annotations

import argparse
import hashlib
import secrets

from isoneph.core.cli.base import Command
from isoneph.core.cli.failures import UsageError
from isoneph.core.identity import NAME_PATTERN
from isoneph.core.settings import SCOPES

TOKEN_BYTES = 32


class CreateToken(Command):
    """Make a new token and the lines that allow its use.

    The first line printed is the token, for its owner: it is shown this once and kept nowhere.
    The lines after it belong into the application's file; they hold the token's digest only.
    """

    examples = """\
  isoneph token create ci
  isoneph token create prometheus --scope metrics"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument("name", metavar="NAME", help="whose token it is, for the service's log")
        parser.add_argument(
            "--scope",
            dest="scopes",
            action="append",
            choices=SCOPES,
            help="what it allows; may be repeated; read and write by default",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Print the token and the lines."""
        name = parsed_args.name
        if not NAME_PATTERN.fullmatch(name):
            raise UsageError(
                f"'{name}' cannot be a token's name: expected a letter, then at most 62 letters, "
                "digits, '_', '.' or '-'"
            )
        token = secrets.token_urlsafe(TOKEN_BYTES)
        scopes = dict.fromkeys(parsed_args.scopes or ("read", "write"))
        lines = [
            token,
            "",
            "tokens:",
            f"  - name: {name}",
            f'    sha256: "{hashlib.sha256(token.encode()).hexdigest()}"',
            f"    scopes: [{', '.join(scopes)}]",
        ]
        print("\n".join(lines), file=self.app.stdout)
        self.app.stdout.flush()
        print("keep the first line: it is not shown again", file=self.app.stderr)
