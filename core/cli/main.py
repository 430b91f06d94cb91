"""The entry point of ``isoneph``, and the application that finds and runs its commands.

What a command needs is imported when it runs, so that the others start quickly.
"""

from __future__ import annotations

import argparse
import difflib
import itertools
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import EntryPoint
from typing import Any, TextIO

from cliff.app import App
from cliff.commandmanager import CommandManager

from isoneph.core.cli.failures import INTERRUPTED, READER_GONE, USAGE, UsageError, failure_of

DESCRIPTION = "Keeps an application's virtual machines balanced over several clouds."

EPILOG = """\
The commands speak to a running service, 'isoneph serve', or with --local to the clouds
themselves. 'isoneph COMMAND --help' tells each one's options.

environment:
  ISONEPH_URL          the service, http://127.0.0.1:8642 by default
  ISONEPH_APPLICATION  the application, the default one otherwise
  ISONEPH_TOKEN        the bearer token

exit codes: 0 done, 1 it failed, 2 wrong usage or configuration, 130 interrupted
"""

_PACKAGE = "isoneph.core.cli"
COMMANDS = {
    name: EntryPoint(name=name, value=f"{_PACKAGE}.{target}", group="isoneph.cli")
    for name, target in {
        "cloud list": "clouds:ListClouds",
        "cloud prepare": "preparing:PrepareClouds",
        "cloud show": "clouds:ShowCloud",
        "complete": "builtins:Complete",
        "config check": "configuration:CheckConfig",
        "config show": "configuration:ShowConfig",
        "engine": "daemons:RunEngine",
        "explain": "explain:Explain",
        "help": "builtins:Help",
        "plugin list": "plugins:ListPlugins",
        "plugin show": "plugins:ShowPlugin",
        "relay": "relays:RunRelay",
        "relay status": "relays:ShowRelay",
        "serve": "daemons:Serve",
        "token create": "tokens:CreateToken",
        "type list": "clouds:ListTypes",
        "vm create": "vms:CreateVms",
        "vm delete": "vms:DeleteVms",
        "vm list": "vms:ListVms",
        "vm show": "vms:ShowVm",
    }.items()
}

#: By verbosity: ``-q``, nothing, ``-v``, ``-vv``.
_LEVELS = (logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG)


class _Version(argparse.Action):
    """Prints the version; finding it out takes a while, so only when asked."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version  # noqa: PLC0415 (see the class)

        sys.stdout.write(f"{parser.prog} {version('isoneph')}\n")
        parser.exit()


class Isoneph(App):
    """The commands, their common options, and how they report."""

    NAME = "isoneph"
    LOG = logging.getLogger(NAME)
    LOG_FILE_MESSAGE_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    CONSOLE_MESSAGE_FORMAT = "isoneph: %(levelname)s: %(message)s"

    options: argparse.Namespace

    def __init__(self, *, stdout: TextIO | None = None, stderr: TextIO | None = None) -> None:
        super().__init__(DESCRIPTION, None, CommandManager(), stdout=stdout, stderr=stderr)
        self.command_manager.commands.update(COMMANDS)
        self._handlers: list[logging.Handler] = []

    def build_option_parser(
        self,
        description: str | None,
        version: str | None,
        argparse_kwargs: dict[str, Any] | None = None,
    ) -> argparse.ArgumentParser:
        """The options that every command takes, before it or after."""
        parser = argparse.ArgumentParser(
            prog=self.NAME,
            usage="isoneph [-v | -q] [--log-file FILE] [--debug] COMMAND ...",
            description=description,
            epilog=EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            add_help=False,
            allow_abbrev=False,
        )
        parser.add_argument("-h", "--help", action="store_true", help="show this and exit")
        parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
        verbosity = parser.add_mutually_exclusive_group()
        verbosity.add_argument(
            "-v",
            "--verbose",
            action="count",
            dest="verbose_level",
            default=self.DEFAULT_VERBOSE_LEVEL,
            help="log more to standard error; twice for even more",
        )
        verbosity.add_argument(
            "-q",
            "--quiet",
            action="store_const",
            dest="verbose_level",
            const=0,
            help="log errors only, and show no progress",
        )
        parser.add_argument("--log-file", metavar="FILE", help="log to this file too, everything")
        parser.add_argument("--debug", action="store_true", help="show tracebacks of errors")
        return parser

    @property
    def quiet(self) -> bool:
        """Whether only errors should be seen."""
        return not self.options.verbose_level

    def configure_logging(self) -> None:
        """Log to standard error and, if asked, to a file, until the command ends."""
        level = _LEVELS[min(self.options.verbose_level, len(_LEVELS) - 1)]
        console = logging.StreamHandler(self.stderr)
        console.setLevel(level)
        console.setFormatter(logging.Formatter(self.CONSOLE_MESSAGE_FORMAT))
        self._handlers.append(console)
        root = logging.getLogger()
        root.setLevel(level)
        if self.options.log_file:
            file = logging.FileHandler(self.options.log_file)
            file.setFormatter(logging.Formatter(self.LOG_FILE_MESSAGE_FORMAT))
            self._handlers.append(file)
            root.setLevel(logging.DEBUG)
        logging.getLogger("httpcore").setLevel(logging.INFO)
        for handler in self._handlers:
            root.addHandler(handler)

    def _release_logging(self) -> None:
        root = logging.getLogger()
        root.setLevel(logging.WARNING)
        for handler in self._handlers:
            root.removeHandler(handler)
            handler.close()
        self._handlers.clear()

    def run(self, argv: list[str]) -> int:
        """Run the command that ``argv`` names and return its exit code."""
        self.options, rest = self.parser.parse_known_args(argv)
        try:
            self.configure_logging()
            return self._run(rest)
        except BrokenPipeError:
            raise
        except OSError as error:
            return self.report(error)
        finally:
            self._release_logging()

    def _run(self, rest: list[str]) -> int:
        if not rest:
            self.print_help()
            return 0 if self.options.help else USAGE
        try:
            name = self.command_manager.find_command(rest)[1]
        except ValueError:
            return self._unknown_command(rest)
        return self.run_subcommand([*name.split(), "--help"] if self.options.help else rest)

    def print_help(self) -> None:
        """Print the common options and one line for each command."""
        print(self.parser.format_help(), file=self.stdout)
        print("commands:", file=self.stdout)
        for name, point in sorted(self.command_manager):
            summary = (point.load().__doc__ or "").partition("\n")[0].rstrip(".")
            print(f"  {name:<14} {summary}", file=self.stdout)

    def warn(self, text: str) -> None:
        """Tell what a person should know, unless only errors are wanted."""
        if not self.quiet:
            print(f"{self.NAME}: {text}", file=self.stderr)

    def report(self, error: Exception) -> int:
        """Tell what went wrong, and return the exit code for it."""
        if self.options.debug:
            traceback.print_exception(error, file=self.stderr)
        failure = failure_of(error)
        print(f"{self.NAME}: {failure.message}", file=self.stderr)
        if failure.hint:
            print(f"hint: {failure.hint}", file=self.stderr)
        return failure.exit_code

    def _unknown_command(self, argv: Sequence[str]) -> int:
        if argv[0].startswith("-"):
            message = f"unknown option {argv[0]}; a command's own options stand after it"
            return self.report(UsageError(message))
        words = list(itertools.takewhile(lambda word: not word.startswith("-"), argv))
        meant = _near(words, list(self.command_manager.commands))
        hint = "did you mean " + " or ".join(f"'{name}'" for name in meant) + "?" if meant else None
        typed = " ".join(words[:2])
        message = f"there is no command '{typed}'; 'isoneph --help' lists all"
        return self.report(UsageError(message, hint=hint))


def _near(words: Sequence[str], names: Sequence[str]) -> Sequence[str]:
    """The commands that ``words`` were most likely meant to be."""
    group = [name for name in names if name.split()[0] == words[0]]
    if len(words) == 1 and group:
        return group
    typed = " ".join(words[:2])
    return (
        difflib.get_close_matches(typed, names, n=3)
        or group
        or difflib.get_close_matches(words[0], names, n=3)
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (by default the process's) and return the exit code."""
    try:
        code = _run(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has gone; at exit Python would complain that it cannot flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _run(argv: Sequence[str]) -> int:
    try:
        return Isoneph().run(list(argv))
    except SystemExit as end:  # argparse's way to end, after help or a wrong command line
        return end.code if isinstance(end.code, int) else USAGE
