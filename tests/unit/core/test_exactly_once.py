"""A taste of the scenarios that the functional tests play by the thousand."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos import Chaos


@pytest.mark.parametrize("seed", range(8))
async def test_each_key_has_exactly_one_vm_whatever_fails(seed: int, tmp_path: Path) -> None:
    await Chaos(seed, tmp_path).run()
