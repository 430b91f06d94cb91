"""The testbed's two clouds for the tests of this directory.

They are brought up when they are not up, emptied, and taken down at the end unless
``ISONEPH_TESTBED_KEEP`` is set. Clouds that were up stay up, and what is on them stays.
``ISONEPH_WITHOUT_OPENSTACK=1`` leaves the tests out.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from openstack_testbed.rest import Rest
from openstack_world import World, world_on
from testbed import Testbed

HERE = Path(__file__).parent
#: Seconds for the first test, before which the clouds are installed and brought up.
UP_TIMEOUT = 1800
LEFT_OUT = os.environ.get("ISONEPH_WITHOUT_OPENSTACK", "0") not in {"", "0"}
REASON = "ISONEPH_WITHOUT_OPENSTACK is set"
_left_out = pytest.StashKey[int]()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    ours = [item for item in items if item.path.is_relative_to(HERE)]
    if LEFT_OUT:
        config.stash[_left_out] = len(ours)
        for item in ours:
            item.add_marker(pytest.mark.skip(reason=REASON))
    elif ours:
        ours[0].add_marker(pytest.mark.timeout(UP_TIMEOUT), append=False)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if count := config.stash.get(_left_out, 0):
        terminalreporter.section("OpenStack left out")
        terminalreporter.line(f"{count} tests on real OpenStack clouds did not run: {REASON}")


@pytest.fixture(scope="session")
def testbed(pytestconfig: pytest.Config) -> Iterator[Testbed]:
    """The two clouds, up."""
    testbed = Testbed()
    was_up = testbed.is_up()
    # What is being done is to be seen: it can take minutes.
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print()
        testbed.up()
    if not was_up:
        for cloud in testbed.clouds:
            testbed.sweep(cloud)
    yield testbed
    if not was_up and not os.environ.get("ISONEPH_TESTBED_KEEP"):
        testbed.down()


@pytest.fixture(scope="session")
def openstack_clouds(testbed: Testbed) -> Path:
    """A ``clouds.yaml`` with ``uniform`` and ``quebec``."""
    return testbed.clouds_file


@pytest.fixture(scope="session")
def network(testbed: Testbed) -> Iterator[str]:
    """The name of a network with 250 addresses that is there on both clouds."""
    name = f"tests-{secrets.token_hex(3)}"
    made: list[tuple[Rest, str]] = []
    for cloud in testbed.clouds:
        rest = testbed.rest(cloud)
        answer = rest.call("network", "POST", "/v2.0/networks", {"network": {"name": name}})
        network_id = answer["network"]["id"]
        made.append((rest, network_id))
        subnet = {"network_id": network_id, "ip_version": 4, "cidr": "10.99.0.0/24"}
        rest.call("network", "POST", "/v2.0/subnets", {"subnet": subnet})
    yield name
    for rest, network_id in made:
        rest.call("network", "DELETE", f"/v2.0/networks/{network_id}")


@pytest.fixture
def world(testbed: Testbed, network: str, tmp_path: Path) -> Iterator[World]:
    """An application on the two clouds that must have left nothing when its test is over."""
    with world_on(testbed, tmp_path / "isoneph", network) as world:
        yield world
