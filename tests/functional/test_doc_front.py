"""The page on servers that are there already is played in a kernel with SCTP, as it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMAND = "python3 tests/support/uml.py sh doc/examples/front/play.sh"


def test_the_page_is_played_by_the_command_on_it() -> None:
    assert f"$ {COMMAND}\n" in (ROOT / "doc/source/relays/front.rst").read_text()
    run = subprocess.run(
        COMMAND.split(),
        cwd=ROOT,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.findall(r"DATA\(\d+\):  (.*)\.", run.stdout) == ["hello", "good day", "anybody"]
    states = re.findall(r"(?m)^(127\.\S+) +127\S+ +((?:not )?ready) +(\d)", run.stdout)
    assert states == [
        ("127.0.0.2", "ready", "1"),
        ("127.0.0.3", "ready", "1"),
        ("127.0.0.2", "not ready", "0"),
        ("127.0.0.3", "ready", "2"),
    ]
