"""A real cloud that hangs, loses what it was asked or answered, or asks for fewer calls."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from isoneph.core import identity
from openstack_world import CLOUDS, PATIENCE, QUEBEC, UNIFORM, World, at_once, clouds_of
from services import wait_for

#: A busy machine takes several times as long as a quiet one.
pytestmark = pytest.mark.timeout(300)

#: Seconds that one call of a cloud that will hang may take, and that it is left alone then.
TIMEOUT, PAUSE = 6.0, 12.0
IMPATIENT = {"isoneph": {"timeout": TIMEOUT, "slow_create": 3, "breaker_pause": PAUSE}}
CREATE = {"method": "POST", "path": "/servers$"}


def warm_up(world: World) -> list[str]:
    """A VM on each cloud: from now on isoneph knows the ids of all that its types name."""
    ids = [vm["id"] for vm in world.burst(2)]
    world.wait_until_exactly(ids)
    return ids


def test_a_cloud_whose_creates_hang_is_left_alone_and_what_comes_late_is_removed(
    world: World,
) -> None:
    """Nova asks Glance for the image before it answers; its listings need no Glance."""
    world.write_clouds(uniform=IMPATIENT)
    world.start()
    ids = warm_up(world)
    with world.testbed.frozen(UNIFORM, "glance"):
        began = time.monotonic()
        ids += at_once(world.ask_until_answered, [f"key-{n}" for n in range(6)])
        hung = time.monotonic() - began
        assert TIMEOUT * 0.8 < hung < TIMEOUT + PATIENCE / 2
        assert world.cloud(UNIFORM)["breaker"] == "open"
        assert world.get("/vm")["incomplete"] == []
        began = time.monotonic()
        late = world.create()
        assert late["cloud"] == QUEBEC
        assert time.monotonic() - began < TIMEOUT
        ids.append(late["id"])
    world.wait_until_exactly(ids)
    # In the end Nova made the VMs of those whose answer nobody waited for any more.
    assert world.figure("reaped_total", kind="vm") == 3
    wait_for(lambda: world.cloud(UNIFORM)["healthy"], "uniform may be asked again", PATIENCE)
    ids += [vm["id"] for vm in world.burst(2)]
    assert Counter(world.wait_until_exactly(ids).values())[UNIFORM] > 1


def test_while_the_message_queue_of_both_clouds_hangs_each_key_gets_one_vm(world: World) -> None:
    """Nova writes down what was asked, and hangs when it passes it on: no answer, but a VM."""
    world.write_clouds(uniform=IMPATIENT, quebec=IMPATIENT)
    world.start()
    ids = warm_up(world)
    keys = [f"key-{n}" for n in range(6)]
    with world.testbed.frozen("rabbitmq"):
        answers = at_once(lambda key: world.post(key=key), keys)
        assert [answer.status_code for answer in answers] == [201] * len(keys)
        assert {world.cloud(cloud)["breaker"] for cloud in CLOUDS} == {"open"}
        refused = world.post(key="one-more")
        assert (refused.status_code, refused.json()["code"]) == (503, "placement_failed")
        assert world.get("/vm")["incomplete"] == []
    ids += [answer.json()["id"] for answer in answers]
    ids.append(world.ask_until_answered("one-more"))
    places = world.wait_until_exactly(ids)
    assert all(places[answer.json()["id"]] == answer.json()["cloud"] for answer in answers)


def test_vms_that_nova_accepts_and_never_builds_move_to_the_other_cloud(world: World) -> None:
    connected = {"options": world.connected}
    world.write_application(
        types={"worker": connected}, healing={"boot_timeout": 10, "attempts": 20}
    )
    world.start()
    ids = warm_up(world)
    with world.testbed.frozen(UNIFORM, "nova-conductor"):
        ids += [world.ask_until_answered(f"key-{n}") for n in range(4)]
        stuck = {vm_id for vm_id, cloud in placed(world).items() if cloud == UNIFORM} - set(ids[:2])
        assert len(stuck) == 2

        def moved() -> bool:
            time.sleep(0.5)
            where = placed(world)
            return all(where[vm_id] == QUEBEC for vm_id in stuck)

        wait_for(moved, "they are on the other cloud", PATIENCE)
    world.wait_until_exactly(ids)
    assert ids[2:] == [identity.id_of_key(world.application, f"key-{n}", 0) for n in range(4)]


def placed(world: World) -> dict[str, str]:
    return {vm["id"]: vm["cloud"] for vm in world.get("/vm")["vms"]}


def test_an_answer_that_is_lost_costs_no_second_vm(world: World) -> None:
    world.start()
    lost = {**CREATE, "lose": "answer", "times": 1}
    with world.testbed.faults(UNIFORM, "nova-api", lost):
        vm = world.create()
    assert vm["cloud"] == UNIFORM
    assert world.wait_until_exactly([vm["id"]]) == {vm["id"]: UNIFORM}
    assert [call["lost"] for call in world.calls(UNIFORM, "POST")] == ["answer"]
    assert world.count() == {UNIFORM: 1, QUEBEC: 0}


def test_a_request_that_is_lost_is_looked_for_and_then_sent_elsewhere(world: World) -> None:
    world.start()
    lost = {**CREATE, "lose": "request", "times": 1}
    with world.testbed.faults(UNIFORM, "nova-api", lost):
        vm = world.create()
    assert vm["cloud"] == QUEBEC
    assert [refusal["code"] for refusal in vm["placement"]["refusals"]] == ["outcome_unknown"]
    world.wait_until_exactly([vm["id"]])


@pytest.mark.parametrize("status", [429, 503])
def test_a_cloud_that_names_a_time_is_not_called_before_it(world: World, status: int) -> None:
    seconds = 4
    world.start()
    busy = {**CREATE, "status": status, "retry_after": seconds, "times": 1}
    with world.testbed.faults(UNIFORM, "nova-api", busy):
        vms = [world.create()]
    vms += world.burst(3)
    assert clouds_of(vms) == {QUEBEC: 4}
    refusals = [refusal["code"] for vm in vms for refusal in vm["placement"]["refusals"]]
    assert refusals == ["throttled"]

    wait_for(lambda: world.next_cloud() == UNIFORM, "uniform may be asked again", PATIENCE)
    vms.append(world.create())
    assert vms[-1]["cloud"] == UNIFORM
    world.wait_until_exactly(vm["id"] for vm in vms)
    calls = world.calls(UNIFORM)
    (refused,) = (call["at"] for call in calls if call["status"] == status)
    after = [call["at"] - refused for call in calls if call["at"] > refused]
    assert min(after) > seconds - 0.5
