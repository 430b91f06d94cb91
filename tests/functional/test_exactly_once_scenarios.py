"""Thousands of seeded scenarios of faults and deaths; see tests/support/chaos.py.

They run in processes of their own, one for each core. A failing seed can be played alone:
``python tests/support/play_chaos.py SEED SEED memory``.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PLAY = Path(__file__).parent.parent / "support" / "play_chaos.py"


@pytest.mark.timeout(400)
def test_each_key_has_exactly_one_vm_in_every_scenario() -> None:
    parts = [(1000, 1599, "memory"), (2000, 2599, "memory"), (1000, 1149, "sqlite")]
    players = [
        subprocess.Popen(
            [sys.executable, str(PLAY), str(first), str(last), store],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for first, last, store in parts
    ]
    outputs = [player.communicate()[0] for player in players]
    for player, output in zip(players, outputs, strict=True):
        assert player.returncode == 0, output
    assert sum("has exactly one VM" in output for output in outputs) == len(parts)
