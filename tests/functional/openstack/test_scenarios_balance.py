"""Bursts over two real clouds: balanced, within the quotas, each VM made by one call."""

from __future__ import annotations

from collections import Counter

import pytest

from openstack_world import CLOUDS, QUEBEC, UNIFORM, World, clouds_of

#: A busy machine takes several times as long as a quiet one.
pytestmark = pytest.mark.timeout(300)

BURST = 20
#: How many servers the project may have on one cloud, and how many VMs are asked for then.
QUOTA, MORE_THAN_QUOTA = 3, 8


def test_a_burst_over_both_clouds_ends_even_with_one_create_for_each_vm(world: World) -> None:
    world.write_application(types={"worker": {"options": world.connected}})
    world.start()
    vms = world.burst(BURST)
    half = BURST // 2
    assert clouds_of(vms) == {UNIFORM: half, QUEBEC: half}
    places = world.wait_until_exactly(vm["id"] for vm in vms)
    assert sorted(places.values()) == [QUEBEC] * half + [UNIFORM] * half
    assert world.figure("refused_total") == 0
    made = {cloud: len(world.calls(cloud, "POST", "/servers$")) for cloud in CLOUDS}
    assert made == {UNIFORM: half, QUEBEC: half}


def test_over_the_quota_of_one_cloud_the_rest_goes_to_the_other(world: World) -> None:
    world.write_application(placement=["count-balance"])
    with world.testbed.quota(UNIFORM, instances=QUOTA):
        world.start()
        # One by one: of many at once Nova may take too many, and fails them afterwards.
        vms = [world.create() for _ in range(2 * QUOTA - 1)]
        assert clouds_of(vms) == {UNIFORM: QUOTA, QUEBEC: QUOTA - 1}
        vms += world.burst(MORE_THAN_QUOTA - len(vms))
        places = world.wait_until_exactly(vm["id"] for vm in vms)
        assert Counter(places.values()) == {UNIFORM: QUOTA, QUEBEC: MORE_THAN_QUOTA - QUOTA}
        assert world.figure("refused_total") > 0
        assert world.figure("refused_total") == world.figure("refused_total", code="quota_exceeded")


def test_once_the_limits_are_known_not_one_request_is_refused(world: World) -> None:
    world.write_application(placement=["quota", "count-balance"])
    with world.testbed.quota(UNIFORM, instances=QUOTA):
        world.start()
        vms = world.burst(MORE_THAN_QUOTA)
        assert clouds_of(vms) == {UNIFORM: QUOTA, QUEBEC: MORE_THAN_QUOTA - QUOTA}
        world.wait_until_exactly(vm["id"] for vm in vms)
        assert world.figure("refused_total") == 0
        assert {call["status"] for call in world.calls(UNIFORM, "POST", "/servers$")} == {202}
