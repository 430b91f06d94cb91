"""The long runs of ``tools/benchmark relay``, for some seconds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
PROGRAM = TESTS / "benchmarks" / "run_relay.py"
MESSAGES = 40_000
PATIENCE = 100.0


def test_memory_stays_flat_and_nothing_is_lost_while_workers_come_and_go() -> None:
    command = [sys.executable, str(PROGRAM), "--print-only", "--only", "soak,exactly"]
    command += ["--soak", "12", "--messages", str(MESSAGES), "--disturb", "0.5"]
    run = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(TESTS / "support")},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert figure(run.stdout, "messages, each answered once, in turn") == MESSAGES
    assert figure(run.stdout, "lost, doubled, out of turn") == 0
    assert figure(run.stdout, r"workers killed \(SIGKILL\)") > 0
    for way in ("workers", "plain"):
        assert figure(run.stdout, f"isoneph relay, {way}") > 1000


def figure(output: str, what: str) -> int:
    """The first figure of the first row of that name."""
    found = re.search(rf"^{what} +([\d,]+)", output, re.MULTILINE)
    assert found, output
    return int(found[1].replace(",", ""))
