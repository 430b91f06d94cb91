"""cliff's own commands, with our help and error reports."""

from __future__ import annotations

import argparse

from cliff.complete import CompleteCommand
from cliff.help import HelpCommand

from isoneph.core.cli.base import Command


class Help(Command, HelpCommand):
    """Show the help of a command, or of all."""

    examples = "  isoneph help vm create"

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Print it."""
        if not parsed_args.cmd:
            self.app.print_help()
            return 0
        return super().take_action(parsed_args)


class Complete(Command, CompleteCommand):
    """Print a script that completes command lines in bash."""

    examples = "  isoneph complete > /etc/bash_completion.d/isoneph"
