"""A stub of OpenStack on a clock that the test holds, and the driver's ``Api`` in front of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from isoneph.core.testing import FakeClock
from isoneph.plugins.clouds.openstack.api import Api
from stub_calls import CREATE, LIST, MADE, SERVERS, make_api
from stub_openstack import StubCloud, stub_cloud


@pytest.fixture
def cloud() -> Iterator[StubCloud]:
    with stub_cloud() as cloud:
        cloud.on(LIST, SERVERS)
        cloud.on(CREATE, MADE)
        yield cloud


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def api(cloud: StubCloud, clock: FakeClock) -> Iterator[Api]:
    api = make_api(cloud.options(), clock)
    yield api
    api.close()
