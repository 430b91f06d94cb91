"""Runs tests inside User-mode Linux and lets the pytest outside report them as its own.

The pytest outside collects the tests as usual. Instead of running the first of them it boots a
machine in which a second pytest runs them all; each report of that comes back as a line of JSON,
and is replayed when its test's turn has come. One boot serves all.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from uml import Machine

#: Where the pytest inside writes its reports; that it is set means to be inside.
REPORTS: Final = "ISONEPH_UML_REPORTS"
#: Seconds that a test may take inside, and seconds without news after which the machine is given
#: up: booting and importing come on top.
INSIDE_TIMEOUT: Final = 60
SILENCE: Final = 100.0


class Recorder:
    """The plugin of the pytest inside: writes each report as it is made."""

    def __init__(self, config: pytest.Config, path: Path) -> None:
        self._config = config
        self._file = path.open("a")

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write it through to the file system of the host."""
        hook = self._config.hook
        data = hook.pytest_report_to_serializable(config=self._config, report=report)
        self._file.write(json.dumps(data) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


class Replayer:
    """The plugin of the pytest outside; only for the tests in ``directory``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._machine: Machine | None = None
        self._incoming: Iterator[pytest.TestReport] | None = None
        self._reports: defaultdict[str, list[pytest.TestReport]] = defaultdict(list)
        self._temporary = tempfile.TemporaryDirectory(prefix="uml-")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        """Report what became of a test inside."""
        if not self._concerns(item):
            return None
        if self._incoming is None:
            self._incoming = self._boot(item.session)
        hook = item.ihook
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self._reports_of(item):
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def _reports_of(self, item: pytest.Item) -> list[pytest.TestReport]:
        """All reports of a test, when the last of them has come."""
        assert self._incoming is not None
        own = self._reports[item.nodeid]
        while not (own and own[-1].when == "teardown"):
            report = next(self._incoming, None)
            if report is None:
                return [*own, self._missing(item)]
            self._reports[report.nodeid].append(report)
        return own

    @pytest.hookimpl
    def pytest_sessionfinish(self) -> None:
        """End the machine, whatever it does."""
        if self._machine is not None:
            self._machine.stop()
        self._temporary.cleanup()

    def _concerns(self, item: pytest.Item) -> bool:
        return item.path.is_relative_to(self._directory)

    def _boot(self, session: pytest.Session) -> Iterator[pytest.TestReport]:
        home = Path(self._temporary.name)
        tests = home / "tests"
        concerned = filter(self._concerns, session.items)
        tests.write_text("".join(f"{item.nodeid}\n" for item in concerned))
        reports = home / "reports"
        reports.touch()
        self._machine = Machine(
            [
                *(sys.executable, "-m", "pytest", "-q", "--color=no", "-p", "no:cacheprovider"),
                *(f"--basetemp={home / 'tmp'}", f"--timeout={INSIDE_TIMEOUT}", f"@{tests}"),
            ],
            home,
            working=session.config.rootpath,
            environment={REPORTS: str(reports), "PYTHONDONTWRITEBYTECODE": "1"},
        )
        self._machine.start()
        return self._follow(session.config, reports)

    def _follow(self, config: pytest.Config, path: Path) -> Iterator[pytest.TestReport]:
        """The reports as they come, until the machine is off or nothing comes any more."""
        assert self._machine is not None
        text, last = "", time.monotonic()
        with path.open() as file:
            while True:
                running = self._machine.running  # if not, all that it wrote is there to be read
                text += file.readline()
                if text.endswith("\n"):
                    data, text, last = json.loads(text), "", time.monotonic()
                    yield config.hook.pytest_report_from_serializable(config=config, data=data)
                elif not running or time.monotonic() - last > SILENCE:
                    return
                else:
                    time.sleep(0.02)

    def _missing(self, item: pytest.Item) -> pytest.TestReport:
        """What is reported for a test of which nothing, or not all, was heard."""
        assert self._machine is not None
        self._machine.stop()
        text = f"no report\n{self._machine.console}\n{self._machine.output}"
        return pytest.TestReport(item.nodeid, item.location, {}, "failed", text, "call")


def register(config: pytest.Config, directory: Path) -> None:
    """Make the tests in ``directory`` run inside; for the conftest there."""
    if reports := os.environ.get(REPORTS):
        config.pluginmanager.register(Recorder(config, Path(reports)))
    else:
        config.pluginmanager.register(Replayer(directory))
