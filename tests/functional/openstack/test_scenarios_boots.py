"""VMs that a real cloud accepts and cannot boot: they move, keep their id, and leave nothing."""

from __future__ import annotations

import re

import pytest

from openstack_world import CLOUDS, QUEBEC, UNIFORM, World, clouds_of

#: A busy machine takes several times as long as a quiet one.
pytestmark = pytest.mark.timeout(300)

#: Long enough that the cloud is still left alone when the VM has moved.
PATIENT = {"isoneph": {"breaker_pause": 300}}


def test_no_valid_host_moves_a_vm_and_keeps_the_next_ones_away(world: World) -> None:
    heavy = {"options": world.connected, "clouds": {UNIFORM: {"flavor": "impossible"}}}
    world.write_clouds(uniform=PATIENT)
    world.write_application(
        types={"heavy": heavy}, placement=[{"policy": "overflow", "order": CLOUDS}]
    )
    world.start()
    first = world.create(type="heavy")
    assert first["cloud"] == UNIFORM
    assert world.wait_until_exactly([first["id"]]) == {first["id"]: QUEBEC}
    moved = world.get(f"/vm/{first['id']}")
    assert (moved["attempt"], moved["cloud"], moved["state"]) == (2, QUEBEC, "ACTIVE")
    (refusal,) = moved["placement"]["refusals"]
    assert (refusal["cloud"], refusal["code"]) == (UNIFORM, "no_capacity")
    assert "No valid host was found" in refusal["text"]
    others = world.burst(3, type="heavy")
    assert clouds_of(others) == {QUEBEC: 3}
    other_type = world.create()
    assert other_type["cloud"] == UNIFORM
    world.wait_until_exactly(vm["id"] for vm in [first, *others, other_type])


@pytest.mark.parametrize("fault", ["spawn_error", "spawn_abort"])
def test_boots_that_fail_move_to_the_other_cloud(world: World, fault: str) -> None:
    world.write_clouds(uniform=PATIENT)
    world.write_application(types={"worker": {"options": world.connected}})
    world.start()
    broken = {"match": re.escape(world.application), fault: "the hypervisor is broken"}
    with world.testbed.faults(UNIFORM, "nova-compute", broken):
        vms = world.burst(4)
        assert clouds_of(vms) == {UNIFORM: 2, QUEBEC: 2}
        places = world.wait_until_exactly(vm["id"] for vm in vms)
        assert set(places.values()) == {QUEBEC}
        attempts = {vm["id"]: vm["attempt"] for vm in world.get("/vm")["vms"]}
        assert attempts == {vm["id"]: 2 if vm["cloud"] == UNIFORM else 1 for vm in vms}
        assert world.figure("replaced_total") == 2
