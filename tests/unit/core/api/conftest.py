from __future__ import annotations

import pytest

from api_site import Site, open_site
from world import World


@pytest.fixture
async def site(world: World) -> Site:
    """The API of one open application, ``mme``, with type ``worker`` on two clouds."""
    return await open_site(world)
