"""The examples of the documentation run, and print what the documentation shows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "doc" / "examples"
#: The part of a VM's name that differs from run to run.
VM_ID = re.compile(r"-[0-9a-f]{8}\b")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("library", ["etc"]), ("primitives", ["etc"]), ("ranking", [])],
)
def test_an_example_prints_what_its_page_shows(name: str, arguments: list[str]) -> None:
    run = subprocess.run(
        [sys.executable, f"{name}.py", *arguments],
        cwd=EXAMPLES,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert run.stderr == ""
    shown = (EXAMPLES / f"{name}.txt").read_text()
    assert VM_ID.sub("-*", run.stdout) == VM_ID.sub("-*", shown)
