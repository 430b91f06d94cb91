"""What the tests of the core share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relayed_site import RelayedSite
from scripted_relay import Elsewhere
from world import World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    yield made
    await made.close()


@pytest.fixture
async def site(world: World, monkeypatch: pytest.MonkeyPatch) -> RelayedSite:
    made = RelayedSite(world, Elsewhere().take_the_place_of_processes(monkeypatch))
    await made.start()
    return made
