"""``isoneph cloud prepare``: what an application describes to be there on its clouds."""

from __future__ import annotations

import argparse
import logging
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from cliff.lister import Lister

from isoneph.core.cli.base import DisplayCommand, add_config_options, load_config
from isoneph.core.cli.failures import FAILED, INTERRUPTED, UsageError
from isoneph.core.cli.progress import progress
from isoneph.core.errors import CloudError
from isoneph.core.model import Finding, Outcome, Preparation
from isoneph.core.plugin import Cloud
from isoneph.core.registry import Registry

if TYPE_CHECKING:
    from isoneph.core.settings import ApplicationSettings, CloudSettings, Settings

LOG = logging.getLogger(__name__)

#: What is not as it is described.
_WRONG = frozenset({Outcome.MISSING, Outcome.DIFFERS, Outcome.FAILED})


class PrepareClouds(DisplayCommand, Lister):
    """Make what an application describes to be there on its clouds.

    The description stands under 'prepare' in the application's file. What is missing is made, and
    what differs is set right; nothing is removed without --prune, and then only what isoneph made
    for this application. Doing it again changes nothing. What is right is not shown.

    The exit code is 1 when something is not as it is described: with --check now, else in the
    end. What is there and not described does not count.
    """

    examples = """\
  isoneph cloud prepare mme --check
  isoneph cloud prepare mme --admin ~/admin-clouds.yaml
  isoneph cloud prepare mme --cloud quebec --prune -f json"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument("application", metavar="APPLICATION", help="the application's name")
        doing = parser.add_mutually_exclusive_group()
        doing.add_argument(
            "--check", action="store_true", help="only show what differs, and change nothing"
        )
        doing.add_argument(
            "--prune",
            action="store_true",
            help="also remove what isoneph made for the application and is described no more",
        )
        parser.add_argument(
            "--cloud",
            metavar="NAME",
            action="append",
            default=[],
            help="only this one of its clouds; may be repeated",
        )
        parser.add_argument(
            "--admin",
            metavar="FILE",
            help="a file like clouds.yaml that has the same clouds with an administrator's "
            "credentials, for what others may not make",
        )
        parser.add_argument("--all", action="store_true", help="also show what is right")
        add_config_options(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        """One row for each thing that is described, cloud by cloud."""
        runs = self._runs(parsed_args)
        try:
            _carry_out(runs, self.app.stderr, quiet=self.app.quiet)
        except KeyboardInterrupt:
            self.exit_code = INTERRUPTED
            self.app.warn("interrupted; run it again to go on")
        for run in runs:
            self.app.warn(f"{run.name}: {run.summary()}")
        findings = [finding for run in runs for finding in run.findings]
        outcomes = {finding.outcome for finding in findings}
        if Outcome.EXTRA in outcomes and not parsed_args.prune:
            self.app.warn("--prune removes of what is extra all that isoneph made")
        if outcomes & (_WRONG if parsed_args.check else {Outcome.FAILED}):
            self.exit_code = self.exit_code or FAILED
        rows = (
            (each.cloud, each.kind, each.name, str(each.outcome), each.text)
            for each in findings
            if each.outcome != Outcome.RIGHT or each.text or parsed_args.all
        )
        return ("cloud", "kind", "name", "outcome", "text"), rows

    def _runs(self, parsed_args: argparse.Namespace) -> Sequence[_Run]:
        """What is to be done, cloud by cloud; of clouds that need nothing it is told."""
        # Slow imports: help and completion do without.
        from isoneph.core.application import make_cloud  # noqa: PLC0415
        from isoneph.core.clock import SystemClock  # noqa: PLC0415
        from isoneph.core.config import load_clouds  # noqa: PLC0415
        from isoneph.core.metrics import PrometheusMetrics  # noqa: PLC0415

        registry, clock, metrics = Registry(), SystemClock(), PrometheusMetrics()
        settings = load_config(parsed_args, registry).settings
        application = _application(settings, parsed_args.application)
        clouds = []
        for cloud in _clouds(settings, application, parsed_args.cloud):
            driver = cast("type[Cloud]", registry.load("clouds", cloud.driver))
            if driver.prepare_schema:
                clouds.append(cloud)
            else:
                self.app.warn(f"{cloud.name}: driver {cloud.driver} has nothing to prepare")
        admins: Mapping[str, CloudSettings] = {}
        if parsed_args.admin and clouds:
            admins = load_clouds(parsed_args.admin, [cloud.name for cloud in clouds], registry)
            _check_admins(parsed_args.admin, clouds, admins)
        return [
            _Run(
                name=cloud.name,
                cloud=make_cloud(cloud, registry, clock, metrics),
                admin=make_cloud(admins[cloud.name], registry, clock, metrics) if admins else None,
                preparation=_preparation(application, cloud, parsed_args),
            )
            for cloud in clouds
        ]


def _application(settings: Settings, name: str) -> ApplicationSettings:
    from isoneph.core.config.problems import unknown  # noqa: PLC0415 (slow; help does without)

    if name not in settings.applications:
        known = list(settings.applications)
        raise UsageError(f"'{name}': {unknown('application', name, known)}")
    return settings.applications[name]


def _clouds(
    settings: Settings, application: ApplicationSettings, names: Sequence[str]
) -> Iterator[CloudSettings]:
    """Those of the application's clouds that are meant, in its order."""
    from isoneph.core.config.problems import unknown  # noqa: PLC0415 (slow; help does without)

    for name in names:
        if name not in application.clouds:
            raise UsageError(f"'{name}': {unknown('cloud', name, application.clouds)}")
    for name in application.clouds:
        if not names or name in names:
            yield settings.clouds[name]


def _check_admins(
    file: str, clouds: Sequence[CloudSettings], admins: Mapping[str, CloudSettings]
) -> None:
    for cloud in clouds:
        driver = admins[cloud.name].driver
        if driver != cloud.driver:
            raise UsageError(
                f"{file}: clouds.{cloud.name}.driver: expected {cloud.driver}, as in clouds.yaml, "
                f"found {driver}"
            )


def _preparation(
    application: ApplicationSettings, cloud: CloudSettings, parsed_args: argparse.Namespace
) -> Preparation:
    return Preparation(
        application=application.name,
        options=application.prepare.get(cloud.driver, {}),
        types={
            name: on_clouds[cloud.name]
            for name, on_clouds in application.types.items()
            if cloud.name in on_clouds
        },
        change=not parsed_args.check,
        prune=parsed_args.prune,
    )


@dataclass(kw_only=True)
class _Run:
    """The preparation of one cloud, and what it has found so far."""

    name: str
    cloud: Cloud
    admin: Cloud | None
    preparation: Preparation
    findings: list[Finding] = field(default_factory=list)
    done: bool = False

    def carry_out(self, stop: threading.Event) -> None:
        """Do it, until it is done or ``stop`` is set. Never raises."""
        try:
            with ExitStack() as opened:
                for cloud in filter(None, (self.cloud, self.admin)):
                    opened.callback(cloud.close)
                    cloud.start()
                for finding in self.cloud.prepare(self.preparation, self.admin):
                    self.findings.append(finding)
                    if stop.is_set():
                        return
            self.done = True
        except CloudError as error:
            self._fail(f"{error.code}: {error.message}")
        except Exception as error:
            LOG.exception("cloud %s: the driver failed to prepare it", self.name)
            self._fail(f"the driver failed: {type(error).__name__}")

    def _fail(self, text: str) -> None:
        self.done = True
        self.findings.append(
            Finding(
                cloud=self.name, kind="cloud", name=self.name, outcome=Outcome.FAILED, text=text
            )
        )

    def summary(self) -> str:
        """How many things there are of each outcome, and whether there would have been more."""
        counts = Counter(finding.outcome for finding in self.findings)
        told = [f"{counts[outcome]} {outcome}" for outcome in Outcome if counts[outcome]]
        if not self.done:
            told.append("broken off")
        return ", ".join(told) or "nothing is described"


def _carry_out(runs: Sequence[_Run], stderr: Any, *, quiet: bool) -> None:
    """All clouds at once, so that one that hangs holds up nobody; when that is interrupted, each
    ends with the thing that it is at."""
    stop = threading.Event()

    def text() -> str:
        doing = "breaking off" if stop.is_set() else "preparing"
        return f"{doing} " + ", ".join(f"{run.name} ({len(run.findings)})" for run in runs)

    with (
        progress(stderr, text, enabled=not quiet),
        ThreadPoolExecutor(max_workers=max(1, len(runs))) as pool,
    ):
        try:
            for done in [pool.submit(run.carry_out, stop) for run in runs]:
                done.result()
        except BaseException:
            stop.set()
            raise
