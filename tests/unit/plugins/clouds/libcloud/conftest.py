from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests_mock

from isoneph.core.model import VmRequest
from isoneph.core.testing import FakeClock, build_plugin, make_environment
from isoneph.plugins.clouds.libcloud import LibcloudCloud
from scripted_ec2 import OPTIONS, ScriptedEc2, wanted


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def ec2() -> Iterator[ScriptedEc2]:
    with requests_mock.Mocker() as mocker:
        yield ScriptedEc2(mocker)


@pytest.fixture
def make_cloud(clock: FakeClock) -> Callable[..., LibcloudCloud]:
    def make(**options: Any) -> LibcloudCloud:
        environment = make_environment("public", clock=clock)
        return build_plugin(LibcloudCloud, {**OPTIONS, **options}, environment=environment)

    return make


@pytest.fixture
def cloud(make_cloud: Callable[..., LibcloudCloud]) -> LibcloudCloud:
    return make_cloud()


@pytest.fixture
def request_(clock: FakeClock) -> VmRequest:
    return wanted(clock)
