"""What the tests of relays' control channels share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from control_channel import Relays


@pytest.fixture
async def relays(tmp_path: Path) -> AsyncIterator[Relays]:
    made = Relays(tmp_path)
    yield made
    await made.close()


@pytest.fixture
def port(unused_tcp_port: int) -> int:
    return unused_tcp_port
