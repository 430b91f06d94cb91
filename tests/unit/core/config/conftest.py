"""What the tests of the configuration share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from configured import Directory


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Directory:
    for name in os.environ:
        if name.startswith(("OS_", "ISONEPH_")):
            monkeypatch.delenv(name)
    return Directory(tmp_path)
