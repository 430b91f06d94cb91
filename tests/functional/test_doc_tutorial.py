"""The tutorial, played as it stands: every command prints what the page shows."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from doc_session import Shell, steps
from services import wait_for

DOC = Path(__file__).parents[2] / "doc"
#: Where the page says that the service is.
SHOWN = "127.0.0.1:8642"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    shutil.copytree(DOC / "examples" / "tutorial", tmp_path / "isoneph-tutorial" / "etc")
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
            ["isoneph", "serve", "--config-dir", "etc"],
            cwd=home / "isoneph-tutorial",
            env={**environment, "OS_API__PORT": "0"},
            stderr=output,
        )
    try:
        found = wait_for(lambda: re.findall(r"ready at (\S+)", log.read_text()), "ready")[0]
        yield found
        for vm in httpx.get(f"{found}/vm").json()["vms"]:
            httpx.delete(f"{found}/vm/{vm['id']}")
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait(timeout=30)


def test_every_command_of_the_tutorial_prints_what_it_shows(
    home: Path, environment: dict[str, str], url: str
) -> None:
    shell = Shell(home, {**environment, "ISONEPH_URL": url})
    page = (DOC / "source" / "tutorial.rst").read_text()
    script = list(steps(page.replace(SHOWN, url.removeprefix("http://"))))
    assert len(script) > 20
    try:
        for step in script:
            shell.check(step)
    finally:
        shell.close()
