"""``tools/demo`` as a newcomer runs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent.parent


@pytest.mark.timeout(300)
def test_the_tour_shows_placement_traffic_and_healing_and_leaves_nothing() -> None:
    run = subprocess.run(
        [str(TOP / "tools" / "demo"), "--once"],
        env={**os.environ, "ISONEPH_VENV": sys.prefix},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    told = run.stdout
    assert "uniform | first choice" in told
    five = told[told.index("--count 5") : told.index("Each is a real process")]
    assert five.count("uniform") == 3
    assert five.count("quebec") == 2
    assert '"cloud": "quebec"' in told  # a VM's own answer
    assert "deleted a mme_worker on uniform: 3 VMs on uniform" in told
    refusals = told[told.index("Now uniform refuses") : told.index("A VM dies")]
    assert "quota_exceeded: 2 of at most 2 VMs are there" in refusals
    assert "attempt     | 2" in told
    assert "broke_down: was killed" in told
    totals = dict(re.findall(r"(?m)^ +(\w+) (\d+)$", told))
    assert totals["sent"] == totals["answered"]
    assert (totals["unanswered"], totals["wrong"], totals["disconnected"]) == ("0", "0", "0")
    assert told.rstrip().endswith("The service has ended, its VMs are gone.")
    for vm_id in set(re.findall(r"[0-9a-f]{8}-[0-9a-f-]{27}", told)):
        assert not _processes_of(vm_id)


def test_a_wrong_option_is_told() -> None:
    run = subprocess.run(
        [str(TOP / "tools" / "demo"), "--twice"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert "no option '--twice'" in run.stderr


def _processes_of(vm_id: str) -> list[str]:
    found = []
    for process in Path("/proc").iterdir():
        try:
            if f"ISONEPH_ID={vm_id}".encode() in (process / "environ").read_bytes():
                found.append(process.name)
        except OSError:
            continue  # not a process, not ours, or gone meanwhile
    return found
