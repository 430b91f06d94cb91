from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from api_site import Site, open_site
from isoneph.core.registry import Registry
from world import World

#: Looking for plugins takes longer than most tests here.
REGISTRY = Registry()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    made.registry = REGISTRY
    yield made
    await made.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lasting_world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """For modules whose tests disturb nothing: they begin in no time."""
    made = World(tmp_path_factory.mktemp("world"))
    made.registry = REGISTRY
    yield made
    await made.close()


@pytest.fixture
async def site(world: World) -> Site:
    """The API of one open application, ``mme``, with type ``worker`` on two clouds."""
    return await open_site(world)
