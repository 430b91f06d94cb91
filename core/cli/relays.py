"""``isoneph relay``: the process that carries an application's traffic, and a look at it."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from isoneph.core.cli.base import Command, add_config_options, load_config
from isoneph.core.cli.failures import CommandFailed, UsageError
from isoneph.core.cli.vms import seconds

if TYPE_CHECKING:
    from isoneph.core.relaying import RemoteRelay, Standing
    from isoneph.core.settings import ApplicationSettings, RelaySettings, Settings
    from isoneph.core.traffic import RelayReport, Table

#: Seconds between two looks of the live table.
INTERVAL = 1.0
_HOME_AND_CLEAR = "\x1b[H\x1b[J"


def _chosen(settings: Settings, name: str) -> tuple[ApplicationSettings, RelaySettings]:
    """An application that has a relay with a process of its own."""
    from isoneph.core.registry import Registry  # noqa: PLC0415 (slow; help does without)
    from isoneph.core.relaying import has_process  # noqa: PLC0415 (as above)

    application = settings.applications.get(name)
    if application is None:
        known = ", ".join(settings.applications) or "none"
        raise UsageError(f"there is no application '{name}'; configured: {known}")
    relay = application.relay
    if relay is None:
        raise UsageError(f"application {name} has no relay; its file has no section 'relay'")
    if not has_process(relay, Registry()):
        raise UsageError(
            f"the {relay.driver} relay of {name} has no process of its own: it runs in the engine, "
            "of 'isoneph serve' or 'isoneph engine'"
        )
    return application, relay


def _add_application(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("application", metavar="APPLICATION", help="one that has a relay")


class RunRelay(Command):
    """Carry the traffic of an application to its VMs.

    The relay that the application's file names, with the backends that the engine tells it. It
    keeps them in a file, so that it may be started anew at any time. Runs until SIGTERM or
    SIGINT; sessions are given --drain seconds then, a second signal ends them at once. It logs to
    standard error, as the configuration says.
    """

    examples = """\
  isoneph relay mme
  isoneph relay mme --config-dir ./etc/isoneph --state ./state --drain 10"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        _add_application(parser)
        parser.add_argument(
            "--state",
            metavar="DIR",
            type=Path,
            help="where the last backends are kept, by default $STATE_DIRECTORY, "
            "$XDG_STATE_HOME/isoneph, ~/.local/state/isoneph or, as root, /var/lib/isoneph",
        )
        parser.add_argument(
            "--drain",
            type=seconds,
            metavar="SECONDS",
            help="how long sessions may last when it is stopped, by default as long as those of a "
            "VM that is removed",
        )
        add_config_options(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Run until told to stop."""
        from isoneph.core.relaying.process import Run, run_relay  # noqa: PLC0415 (as above)
        from isoneph.core.service.logs import configure_logging  # noqa: PLC0415 (as above)

        settings = load_config(parsed_args).settings
        application, relay = _chosen(settings, parsed_args.application)
        configure_logging(settings.service.log_level, settings.service.log_format)
        drain = relay.drain if parsed_args.drain is None else parsed_args.drain
        return run_relay(
            Run(application=application, relay=relay, state=parsed_args.state, drain=drain)
        )


class ShowRelay(Command):
    """Show a running relay: its backends, its clients, their figures.

    On a terminal again each second, with rates, until Ctrl-C; else once.
    """

    examples = """\
  isoneph relay status mme
  isoneph relay status mme --once
  isoneph relay status mme -f json"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        _add_application(parser)
        parser.add_argument("--once", action="store_true", help="show it once")
        parser.add_argument(
            "-f", "--format", choices=["table", "json"], default="table", help="by default a table"
        )
        add_config_options(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Ask and print."""
        application, relay = _chosen(load_config(parsed_args).settings, parsed_args.application)
        as_json = parsed_args.format == "json"
        live = not (parsed_args.once or as_json) and self.app.stdout.isatty()
        asyncio.run(self._show(application, relay, live=live, as_json=as_json))

    async def _show(
        self, application: ApplicationSettings, relay: RelaySettings, *, live: bool, as_json: bool
    ) -> None:
        from isoneph.core.relaying import RemoteRelay, control_of  # noqa: PLC0415 (as above)

        control = control_of(application)
        remote = RemoteRelay(application.name, control, relay.control_secret_file)
        before: Look | None = None
        look: Look | None
        try:
            while True:
                try:
                    look = await _look(application.name, remote)
                    text = look.as_json() if as_json else "\n".join(look.lines(before))
                except CommandFailed as error:
                    if before is None:
                        raise
                    look, text = None, error.message  # it may be started anew: look again
                print(f"{_HOME_AND_CLEAR if live else ''}{text}", file=self.app.stdout, flush=True)
                if not live:
                    return
                before = look or before
                await asyncio.sleep(INTERVAL)
        finally:
            await remote.close()


async def _look(application: str, remote: RemoteRelay) -> Look:
    from isoneph.core.errors import RelayUnreachable  # noqa: PLC0415 (as above)

    try:
        standing, report = await remote.watch()
    except RelayUnreachable as error:
        hint = f"is it running? start it with 'isoneph relay {application}'"
        raise CommandFailed(error.message, hint=hint) from error
    return Look(application, time.monotonic(), standing, report)


@dataclass(frozen=True, slots=True)
class Look:
    """What a relay said at one moment, ``at`` on the monotonic clock."""

    application: str
    at: float
    standing: Standing
    report: RelayReport

    def as_json(self) -> str:
        """All of it as one JSON object."""
        content = {
            "application": self.application,
            "listening": self.report.listening,
            "facts": self.report.facts,
            "backends": [dict(zip(_COLUMNS, row, strict=True)) for row in self._rows(time.time())],
            "tables": {
                table.name: [dict(zip(table.columns, row, strict=False)) for row in table.rows]
                for table in self.report.tables
            },
        }
        return msgspec.json.format(msgspec.json.encode(content, enc_hook=str), indent=2).decode()

    def lines(self, before: Look | None) -> Iterator[str]:
        """It for a person; with rates since the look ``before``."""
        yield f"relay of {self.application}, {time.strftime('%H:%M:%S')}"
        if self.report.listening:
            yield f"listening: {', '.join(self.report.listening)}"
        for name, text in self.report.facts.items():
            yield f"{name}: {text}"
        yield from ("", "backends")
        yield from _table(_COLUMNS, self._rows(time.time()))
        for table in self.report.tables:
            yield from ("", table.name)
            earlier = None if before is None else before.table(table.name)
            elapsed = 0.0 if before is None else self.at - before.at
            yield from _with_rates(table, earlier, elapsed)

    def table(self, name: str) -> Table | None:
        """The relay's table of that name."""
        return next((table for table in self.report.tables if table.name == name), None)

    def _rows(self, now: float) -> Sequence[Sequence[Any]]:
        from isoneph.core.relaying import Member  # noqa: PLC0415 (slow; help does without)

        named = {**self.standing.servers, **self.standing.members}
        others = [
            Member(id=key, placement="", addresses=())
            for key in sorted(self.standing.status.keys() - named.keys())
        ]
        rows = []
        for member in [*named.values(), *others]:
            status = self.standing.status.get(member.id)
            since = self.standing.draining.get(member.id)
            rows.append(
                (
                    member.id,
                    member.cloud,
                    ", ".join(member.addresses),
                    _state(status is not None and status.ready, since is not None),
                    0 if status is None else status.sessions,
                    None if since is None else round(max(now - since, 0.0)),
                    "" if status is None else status.text,
                )
            )
        return rows


_COLUMNS = ("id", "cloud", "addresses", "state", "sessions", "draining_seconds", "text")


def _state(ready: bool, draining: bool) -> str:
    if draining:
        return "draining"
    return "ready" if ready else "not ready"


def _with_rates(table: Table, before: Table | None, elapsed: float) -> Iterator[str]:
    """The table, each column of its counters followed by its rate a second."""
    columns: list[str] = []
    for name in table.columns:
        columns += [name, f"{name}/s"] if name in table.counters else [name]
    earlier = {row[0]: row for row in before.rows if row} if before is not None else {}
    rows = []
    for row in table.rows:
        known = dict(zip(table.columns, earlier.get(row[0], ()), strict=False))
        cells: list[Any] = []
        for name, value in zip(table.columns, row, strict=False):
            cells.append(value)
            if name in table.counters:
                cells.append(_rate(value, known.get(name), elapsed))
        rows.append(cells)
    return _table(columns, rows)


def _rate(now: Any, before: Any, elapsed: float) -> str:
    figures = isinstance(now, int | float) and isinstance(before, int | float)
    if not figures or elapsed <= 0 or now < before:
        return ""
    return f"{(now - before) / elapsed:.0f}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    """Columns under their names, figures to the right."""
    shown = [[_cell(value) for value in row] for row in rows]
    widths = [
        max([len(name), *(len(row[index]) for row in shown if index < len(row))])
        for index, name in enumerate(columns)
    ]
    yield "  ".join(name.ljust(width) for name, width in zip(columns, widths, strict=True)).rstrip()
    for row, values in zip(shown, rows, strict=True):
        cells = [
            cell.rjust(width) if isinstance(value, int | float) else cell.ljust(width)
            for cell, width, value in zip(row, widths, values, strict=False)
        ]
        yield "  ".join(cells).rstrip()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return "".join(char if char.isprintable() else "?" for char in text)
