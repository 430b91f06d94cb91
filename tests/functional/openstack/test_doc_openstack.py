"""The page on two OpenStack clouds, played as it stands: every command prints what it shows."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from doc_session import Shell, comparable, steps
from services import wait_for
from testbed import Testbed

DOC = Path(__file__).parents[3] / "doc"
PAGE = DOC / "source" / "openstack-start.rst"
PATIENCE = 120.0
#: Where the page has Nova ended and started again, by what is said before the command.
STOP, START = "tools/openstack-testbed stop", "tools/openstack-testbed start"
_VARYING = (
    (re.compile(r"10\.77\.0\.\d+\b(?!/)"), "10.77.0.N"),
    (re.compile(r"room for \d+ more"), "room for N more"),
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:PORT"),
    (re.compile(r"for \d+(\.\d+)? s"), "for N s"),
)


@pytest.fixture
def home(tmp_path: Path, testbed: Testbed) -> Path:
    directory = tmp_path / "isoneph-openstack"
    shutil.copytree(DOC / "examples" / "openstack", directory)
    shutil.copy(testbed.clouds_file, directory)
    return tmp_path


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "HOME": str(home), "PATH": path, "TZ": "UTC"}


@pytest.fixture
def url(home: Path, environment: dict[str, str]) -> Iterator[str]:
    """The service of the second terminal, on a port of its own."""
    log = home / "service.log"
    with log.open("wb") as output:
        service = subprocess.Popen(
            ["isoneph", "serve", "--config-dir", "."],
            cwd=home / "isoneph-openstack",
            env={**environment, "OS_API__PORT": "0"},
            stderr=output,
        )
    try:
        found = wait_for(lambda: re.findall(r"ready at (\S+)", log.read_text()), "ready", PATIENCE)[
            0
        ]
        yield found
        for vm in httpx.get(f"{found}/vm").json()["vms"]:
            httpx.delete(f"{found}/vm/{vm['id']}", timeout=PATIENCE)
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait(timeout=60)


def test_every_command_of_the_page_prints_what_it_shows(
    home: Path, environment: dict[str, str], url: str, testbed: Testbed
) -> None:
    shell = Shell(home, {**environment, "ISONEPH_URL": url})
    parts = re.split(f"({STOP}|{START}) uniform-nova-api", PAGE.read_text())
    assert parts[1::2] == [STOP, START]
    before, during, after = parts[::2]
    try:
        played = _play(shell, before)
        with testbed.stopped("uniform", "nova-api"):
            wait_for(lambda: _uniform(url)["breaker"] == "open", "uniform left alone", PATIENCE)
            played += _play(shell, during)
        wait_for(lambda: _uniform(url)["healthy"], "uniform well again", PATIENCE)
        played += _play(shell, after)
    finally:
        shell.close()
    assert played > 12


def _uniform(url: str) -> Mapping[str, Any]:
    shown: Mapping[str, Any] = httpx.get(f"{url}/cloud/uniform", timeout=PATIENCE).json()
    return shown


def _play(shell: Shell, page: str) -> int:
    """Type the commands of a part of the page; how many they were."""
    script = list(steps(page))
    for step in script:
        printed = shell.run(step.command)
        assert _comparable(printed) == _comparable(step.output), step.command
    return len(script)


def _comparable(text: str) -> str:
    text = comparable(text)
    for pattern, stand_in in _VARYING:
        text = pattern.sub(stand_in, text)
    return text
