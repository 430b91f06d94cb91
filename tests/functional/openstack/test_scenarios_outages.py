"""One service of one real cloud is pulled out: nothing is lost, nothing doubled, and the other
cloud serves as if nothing had happened."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from isoneph.core import identity
from openstack_world import CLOUDS, PATIENCE, QUEBEC, UNIFORM, World, at_once, clouds_of
from services import wait_for

#: A busy machine takes several times as long as a quiet one.
pytestmark = pytest.mark.timeout(300)

#: How much longer than before a create on the healthy cloud may take, of a machine that is busy
#: with other things too: a factor, and seconds.
SLOWER, SLACK = 2.5, 1.5
CREATE = {"method": "POST", "path": "/servers$"}
LISTING = {"method": "GET", "path": "/servers"}


def median_seconds(world: World, count: int, **body: str) -> float:
    """How long one create after the other takes until its answer, and that it goes to quebec."""
    took = []
    for _ in range(count):
        began = time.monotonic()
        assert world.create(**body)["cloud"] == QUEBEC
        took.append(time.monotonic() - began)
    return statistics.median(took)


def breaker_is(world: World, state: str, cloud: str = UNIFORM) -> bool:
    return bool(world.cloud(cloud)["breaker"] == state)


def is_well(world: World, cloud: str = UNIFORM) -> bool:
    return bool(world.cloud(cloud)["healthy"])


def states(world: World, cloud: str) -> set[str]:
    return {vm["state"] for vm in world.get("/vm")["vms"] if vm["cloud"] == cloud}


def odd_answers(world: World, cloud: str) -> set[tuple[int, str]]:
    """What Nova answered that is neither a success nor of a token, with what was asked."""
    calls = [call for call in world.calls(cloud) if call["status"] not in (200, 202, 204, 401)]
    return {(call["status"], call["method"]) for call in calls}


def test_with_nova_of_one_cloud_stopped_the_other_serves_at_full_speed(world: World) -> None:
    # Long enough that the breaker is not found between two pauses.
    world.write_clouds(uniform={"isoneph": {"breaker_pause": 5}})
    world.write_application(types={"worker": {"options": world.connected}})
    world.start()
    ids = [vm["id"] for vm in world.burst(4)]
    world.wait_until_exactly(ids)
    usual = median_seconds(world, 3, cloud=QUEBEC)
    with world.testbed.stopped(UNIFORM, "nova-api"):
        now = median_seconds(world, 5)
        assert now < usual * SLOWER + SLACK
        wait_for(lambda: breaker_is(world, "open"), "the breaker opens", PATIENCE)
        listed = world.get("/vm")
        assert [silence["cloud"] for silence in listed["incomplete"]] == [UNIFORM]
        assert states(world, UNIFORM) == {"UNKNOWN"}
        assert states(world, QUEBEC) <= {"BUILDING", "ACTIVE"}
        table = world.command("cloud", "list", "-f", "value", "-c", "name", "-c", "healthy")
        assert table.splitlines() == ["uniform False", "quebec True"]
        assert {vm["id"] for vm in listed["vms"]} >= set(ids)
    everything = {vm["id"] for vm in listed["vms"]}
    wait_for(lambda: is_well(world), "uniform is well again", PATIENCE)
    world.wait_until_exactly(everything)
    wait_for(lambda: states(world, UNIFORM) == {"ACTIVE"}, "its VMs are known", PATIENCE)
    assert world.create()["cloud"] == UNIFORM


def test_nova_killed_in_the_middle_of_creates_doubles_and_loses_nothing(world: World) -> None:
    world.write_application(types={"worker": {"options": world.connected}})
    world.start()
    keys = [f"key-{n}" for n in range(12)]
    with ThreadPoolExecutor(len(keys)) as clients:
        asked = [clients.submit(world.ask_until_answered, key) for key in keys]
        wait_for(lambda: world.calls(UNIFORM), "the first call is over", PATIENCE)
        with world.testbed.killed(UNIFORM, "nova-api"):
            ids = [one.result() for one in asked]
    assert ids == [identity.id_of_key(world.application, key, 0) for key in keys]
    wait_for(lambda: is_well(world), "uniform is well again", PATIENCE)
    world.wait_until_exactly(ids)
    assert world.ask_until_answered(keys[0]) == ids[0]


def test_a_vm_in_doubt_on_a_cloud_that_went_dark_is_found_and_removed(world: World) -> None:
    """Nova makes the VM, the answer is lost, and then it cannot be looked for."""
    world.start()
    ids = [vm["id"] for vm in world.burst(2)]
    world.wait_until_exactly(ids)
    lost = {**CREATE, "delay": 4, "lose": "answer"}
    with world.testbed.faults(UNIFORM, "nova-api", lost), ThreadPoolExecutor(1) as client:
        asked = client.submit(world.post, key="attach-17")
        wait_for(lambda: world.cloud(UNIFORM)["in_flight"] == 1, "it is decided", PATIENCE)
        time.sleep(1.5)  # Nova has the request by then, and handles it after the delay
        with world.testbed.faults(UNIFORM, "nova-api", {**LISTING, "status": 503}):
            vm = asked.result().json()
            assert vm["cloud"] == QUEBEC
            codes = [refusal["code"] for refusal in vm["placement"]["refusals"]]
            assert codes == ["outcome_unknown"]
            there = {cloud for cloud, _status in world.places()[vm["id"]]}
            assert there == set(CLOUDS)
    assert world.wait_until_exactly([*ids, vm["id"]])[vm["id"]] == QUEBEC
    assert world.ask_until_answered("attach-17") == vm["id"]
    assert world.figure("reaped_total", kind="vm") == 1


def test_without_keystone_a_token_serves_on_and_a_new_isoneph_has_the_other_cloud(
    world: World,
) -> None:
    world.write_application(types={"worker": {"options": world.connected}})
    world.start()
    ids = [vm["id"] for vm in world.burst(2)]
    world.wait_until_exactly(ids)
    with world.testbed.stopped(UNIFORM, "keystone"):
        more = world.burst(4)
        assert clouds_of(more) == {UNIFORM: 2, QUEBEC: 2}
        ids += [vm["id"] for vm in more]
        places = world.wait_until_exactly(ids)
        world.start_from_nothing()
        late = world.burst(2)
        assert clouds_of(late) == {QUEBEC: 2}
        ids += [vm["id"] for vm in late]
        error = world.cloud(UNIFORM)["last_error"]
        assert "clouds.uniform.auth.auth_url: Keystone" in error
    wait_for(lambda: is_well(world), "uniform is well again", PATIENCE)
    assert world.wait_until_exactly(ids).items() >= places.items()
    assert {vm["id"] for vm in world.get("/vm")["vms"]} == set(ids)


def test_when_tokens_are_revoked_no_request_fails_and_boots_that_do_are_repeated(
    world: World,
) -> None:
    """Nova asks Neutron with the token that came with the create: what is building then fails."""
    world.write_application(types={"worker": {"options": world.connected}})
    world.start()
    ids = [vm["id"] for vm in world.burst(2)]
    world.wait_until_exactly(ids)
    with ThreadPoolExecutor(6) as clients:
        asked = [clients.submit(world.create) for _ in range(6)]
        at_once(world.testbed.revoke_tokens, CLOUDS)
        ids += [one.result()["id"] for one in asked]
    ids += [vm["id"] for vm in world.burst(2)]
    world.wait_until_exactly(ids)
    assert world.figure("refused_total") == world.figure("refused_total", code="boot_failed")
    for cloud in CLOUDS:
        assert 401 in {call["status"] for call in world.calls(cloud)}
        # What is deleted is asked for until it is gone; Glance may refuse the token that Nova got.
        assert odd_answers(world, cloud) <= {(404, "GET"), (404, "DELETE"), (400, "POST")}
