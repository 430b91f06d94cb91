"""A store that leases share, and the clock that they go by."""

from __future__ import annotations

import pytest

from isoneph.core.lease import Lease
from isoneph.core.plugin import Store
from isoneph.core.testing import make_environment
from lease_pieces import TTL, FlakyStore, MakeLease, SteppedClock


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def store(clock: SteppedClock) -> FlakyStore:
    return FlakyStore({}, make_environment(clock=clock))


@pytest.fixture
def make_lease(store: Store, clock: SteppedClock) -> MakeLease:
    return lambda owner: Lease(store, clock, "leader", owner, TTL)
