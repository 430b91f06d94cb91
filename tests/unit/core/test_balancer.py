"""Creating, deleting, listing and explaining over simulated clouds."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest

from isoneph.core.errors import (
    BadRequest,
    InvalidRequest,
    KeyReused,
    PlacementFailed,
    UnknownCloud,
    UnknownType,
    UnknownVm,
    WaitTimeout,
)
from isoneph.core.model import CreateRequest, Vm, VmState, VmType
from world import World

TWO: dict[str, dict[str, Any]] = {"uniform": {}, "quebec": {}}


def clouds_of(vms: list[Vm]) -> Counter[str]:
    return Counter(vm.cloud for vm in vms)


async def test_each_new_vm_goes_where_there_are_fewest_the_first_cloud_winning_ties(
    world: World,
) -> None:
    balancer = await world.balancer(TWO)
    places = [
        (await balancer.create(CreateRequest(type="worker"))).placed[0].vm.cloud for _ in range(5)
    ]
    assert places == ["uniform", "quebec", "uniform", "quebec", "uniform"]


async def test_a_burst_balances_as_if_one_by_one(world: World) -> None:
    balancer = await world.balancer({"uniform": {}, "quebec": {}, "tango": {}})
    for _ in range(4):
        await balancer.create(CreateRequest(type="worker", cloud="tango"))
    creations = await asyncio.gather(
        *(balancer.create(CreateRequest(type="worker")) for _ in range(20))
    )
    places = clouds_of([creation.placed[0].vm for creation in creations])
    assert places == {"uniform": 8, "quebec": 8, "tango": 4}


async def test_count_places_many_at_once(world: World) -> None:
    balancer = await world.balancer(TWO)
    creation = await balancer.create(CreateRequest(type="worker", count=7))
    assert clouds_of([one.vm for one in creation.placed]) == {"uniform": 4, "quebec": 3}
    assert len({one.vm.id for one in creation.placed}) == 7


@pytest.mark.parametrize("key", [None, "keyed"])
async def test_fewer_than_min_count_keeps_none(world: World, key: str | None) -> None:
    balancer = await world.balancer(
        {"uniform": {"quotas": {"instances": 2}}, "quebec": {"quotas": {"instances": 1}}}
    )
    with pytest.raises(PlacementFailed) as failed:
        await balancer.create(CreateRequest(type="worker", count=5, min_count=4, key=key))
    assert {refusal.code for refusal in failed.value.refusals} <= {"quota_exceeded"}
    vms, _errors = await balancer.list()
    assert [vm for vm in vms if vm.state is not VmState.DELETING] == []
    creation = await balancer.create(CreateRequest(type="worker", count=5, min_count=2))
    assert len(creation.placed) == 3
    assert len(creation.failures) == 2


async def test_the_answer_tells_every_candidates_reason_and_score(world: World) -> None:
    balancer = await world.balancer(TWO)
    await balancer.create(CreateRequest(type="worker"))
    placed = (await balancer.create(CreateRequest(type="worker"))).placed[0]
    assert placed.ranking is not None
    told = [(v.candidate, v.score, v.reasons[0].text) for v in placed.ranking.verdicts]
    assert told == [("quebec", 1.0, "no VMs here"), ("uniform", 0.0, "1 VM here")]


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("quota", "quota_exceeded"),
        ("no_capacity", "no_capacity"),
        ("throttle", "throttled"),
        ("outage", "unreachable"),
        ("unauthorized", "unauthorized"),
        ("timeout_before", "outcome_unknown"),
    ],
)
async def test_a_refusal_leads_to_the_next_candidate_with_its_reason_kept(
    world: World, fault: str, code: str
) -> None:
    balancer = await world.balancer(TWO)
    world.cloud("uniform").inject(fault, call="create")
    placed = (await balancer.create(CreateRequest(type="worker"))).placed[0]
    assert placed.vm.cloud == "quebec"
    assert [(r.cloud, r.code) for r in placed.refusals] == [("uniform", code)]
    rejected = placed.ranking.verdicts[-1] if placed.ranking else None
    assert rejected is not None
    assert rejected.candidate == "uniform"
    assert code in rejected.reasons[0].text


async def test_a_request_that_a_cloud_finds_wrong_is_not_tried_elsewhere(world: World) -> None:
    balancer = await world.balancer(TWO)
    world.cloud("uniform").inject("invalid", call="create", message="no image 'debian12'")
    with pytest.raises(InvalidRequest, match="no image 'debian12'") as refused:
        await balancer.create(CreateRequest(type="worker"))
    assert refused.value.cloud == "uniform"
    assert world.cloud("quebec").vms() == []
    world.cloud("uniform").clear_faults()
    again = await balancer.create(CreateRequest(type="worker"))
    assert again.placed[0].vm.cloud == "uniform"  # the refused create no longer counts


async def test_when_no_cloud_is_left_every_reason_is_told(world: World) -> None:
    balancer = await world.balancer(TWO)
    world.cloud("uniform").inject("quota", call="create")
    world.cloud("quebec").inject("throttle", call="create", retry_after=7)
    with pytest.raises(PlacementFailed) as failed:
        await balancer.create(CreateRequest(type="worker"))
    assert [r.code for r in failed.value.refusals] == ["quota_exceeded", "throttled"]
    assert failed.value.retry_after == 7


async def test_what_a_cloud_refused_is_not_asked_for_again_at_once(world: World) -> None:
    balancer = await world.balancer(TWO)
    world.cloud("uniform").inject("quota", call="create")
    for _ in range(5):
        await balancer.create(CreateRequest(type="worker"))
    assert world.cloud("uniform").calls()["create"] == 1
    world.cloud("uniform").clear_faults()
    world.clock.advance(60)
    assert (await balancer.create(CreateRequest(type="worker"))).placed[0].vm.cloud == "uniform"


async def calls_when_quiet(world: World, cloud: str) -> int:
    """How many calls a cloud got, once those in the background have ended."""
    seen, now = -1, 0
    while seen != now:
        seen = now
        await asyncio.sleep(0.03)
        now = sum(world.cloud(cloud).calls().values())
    return now


async def test_a_failing_cloud_is_left_alone_then_probed_once(world: World) -> None:
    balancer = await world.balancer(TWO)
    world.cloud("uniform").begin_outage()
    for _ in range(6):
        world.clock.advance(3)  # the listings age: each round meets the dead cloud
        await balancer.create(CreateRequest(type="worker"))
    before = await calls_when_quiet(world, "uniform")
    (uniform, quebec) = await balancer.clouds()
    assert (uniform.breaker, uniform.healthy) == ("open", False)
    assert (quebec.breaker, quebec.healthy, quebec.vms) == ("closed", True, 6)
    await balancer.create(CreateRequest(type="worker"))
    assert await calls_when_quiet(world, "uniform") == before
    world.cloud("uniform").end_outage()
    world.clock.advance(31)
    (uniform, _quebec) = await balancer.clouds()
    assert (uniform.breaker, uniform.healthy) == ("closed", True)


async def test_an_outage_leaves_the_vms_there_known_but_unknown(world: World) -> None:
    balancer = await world.balancer(TWO)
    vm = (await balancer.create(CreateRequest(type="worker"))).placed[0].vm
    await balancer.list()
    world.cloud("uniform").begin_outage()
    world.clock.advance(5)
    vms, errors = await balancer.list()
    assert [(v.id, v.state) for v in vms] == [(vm.id, VmState.UNKNOWN)]
    assert list(errors) == ["uniform"]


async def test_a_lost_answer_is_looked_up_by_tag_and_not_repeated(world: World) -> None:
    balancer = await world.balancer(TWO)
    world.cloud("uniform").inject("timeout_after", call="create", count=1)
    placed = (await balancer.create(CreateRequest(type="worker"))).placed[0]
    assert placed.vm.cloud == "uniform"
    assert world.cloud("uniform").calls()["create"] == 1
    assert world.cloud("quebec").vms() == []


async def test_the_same_key_gives_the_same_vm(world: World) -> None:
    balancer = await world.balancer(TWO)
    request = CreateRequest(type="worker", key="attach-17")
    first = (await balancer.create(request)).placed[0]
    second = (await balancer.create(request)).placed[0]
    assert (first.existed, second.existed) == (False, True)
    assert first.vm.id == second.vm.id
    other = await balancer.create(CreateRequest(type="worker", key="attach-18"))
    assert other.placed[0].vm.id != first.vm.id


async def test_the_same_key_many_times_at_once_gives_one_vm(world: World) -> None:
    balancer = await world.balancer(TWO)
    request = CreateRequest(type="worker", count=3, key="burst")
    creations = await asyncio.gather(*(balancer.create(request) for _ in range(10)))
    ids = {one.vm.id for creation in creations for one in creation.placed}
    assert len(ids) == 3
    assert len(world.cloud("uniform").vms()) + len(world.cloud("quebec").vms()) == 3


async def test_the_same_key_after_losing_everything_gives_the_same_vm(world: World) -> None:
    request = CreateRequest(type="worker", key="attach-17", tags={"user": "a"})
    first = (await (await world.balancer(TWO)).create(request)).placed[0].vm
    second = (await (await world.balancer(TWO)).create(request)).placed[0]
    assert second.existed
    assert second.vm.id == first.id
    assert second.vm.tags == {"user": "a"}


async def test_a_key_used_for_another_request_is_refused(world: World) -> None:
    balancer = await world.balancer(TWO)
    await balancer.create(CreateRequest(type="worker", key="k"))
    with pytest.raises(KeyReused, match="use a new key"):
        await balancer.create(CreateRequest(type="worker", key="k", tags={"a": "b"}))


async def test_a_caller_who_hangs_up_leaves_nothing_half_done(world: World) -> None:
    balancer = await world.balancer(TWO)
    task = asyncio.create_task(balancer.create(CreateRequest(type="worker", count=4)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await balancer.drain()
    vms, _errors = await balancer.list()
    assert len(vms) == 4


async def test_deleting_a_chosen_vm_twice_is_fine(world: World) -> None:
    balancer = await world.balancer(TWO)
    vm = (await balancer.create(CreateRequest(type="worker"))).placed[0].vm
    assert (await balancer.delete(vm.id)).vm is not None
    assert (await balancer.delete(vm.id)).vm is None
    with pytest.raises(UnknownVm):
        await balancer.get(vm.id)
    assert world.cloud("uniform").vms() == []


async def test_the_balancer_picks_from_the_largest_cloud_and_never_twice(world: World) -> None:
    balancer = await world.balancer(TWO)
    await balancer.create(CreateRequest(type="worker", count=3, cloud="quebec"))
    await balancer.create(CreateRequest(type="worker", cloud="uniform"))
    deletions = await asyncio.gather(*(balancer.delete_any() for _ in range(3)))
    assert len({d.vm.id for d in deletions if d.vm}) == 3
    assert clouds_of([d.vm for d in deletions if d.vm]) == {"quebec": 2, "uniform": 1}
    (left,), _errors = await balancer.list()
    await balancer.delete_any()
    with pytest.raises(UnknownVm, match="mme has no VM to take away"):
        await balancer.delete_any()
    assert left.cloud == "quebec"


async def test_a_repeated_pick_under_one_key_takes_one_vm(world: World) -> None:
    balancer = await world.balancer(TWO)
    await balancer.create(CreateRequest(type="worker", count=4))
    first = await balancer.delete_any(key="shrink")
    second = await balancer.delete_any(key="shrink")
    assert first.vm is not None
    assert second.vm is None
    assert len((await balancer.list())[0]) == 3


async def test_the_pick_passes_over_a_cloud_that_does_not_answer(world: World) -> None:
    balancer = await world.balancer(TWO)
    await balancer.create(CreateRequest(type="worker", count=2, cloud="quebec"))
    await balancer.create(CreateRequest(type="worker", cloud="uniform"))
    world.cloud("quebec").inject("outage", call="delete")
    deletion = await balancer.delete_any()
    assert deletion.vm is not None
    assert deletion.vm.cloud == "uniform"


async def test_explaining_creates_and_reserves_nothing(world: World) -> None:
    balancer = await world.balancer(TWO)
    rankings = [await balancer.explain(CreateRequest(type="worker")) for _ in range(3)]
    assert {r.best.candidate for r in rankings if r.best} == {"uniform"}
    assert world.cloud("uniform").calls().get("create", 0) == 0


async def test_waiting_sees_a_failed_boot_placed_again_under_the_same_id(world: World) -> None:
    balancer = await world.balancer({name: {"boot_seconds": 5} for name in TWO})
    world.cloud("uniform").inject("error_after_accept", call="create", count=1)
    vm = (await balancer.create(CreateRequest(type="worker"))).placed[0].vm
    active = await balancer.wait(vm.id, VmState.ACTIVE, timeout=60)
    assert (active.id, active.cloud, active.attempt) == (vm.id, "quebec", 2)
    assert world.cloud("uniform").vms() == []
    assert [r.code for r in balancer.placer.story(vm.id).refusals] == ["boot_failed"]


async def test_waiting_ends_at_its_time_with_the_state_told(world: World) -> None:
    balancer = await world.balancer({name: {"boot_seconds": 500} for name in TWO})
    vm = (await balancer.create(CreateRequest(type="worker"))).placed[0].vm
    with pytest.raises(WaitTimeout, match="is BUILDING on uniform, not ACTIVE, after 10 s"):
        await balancer.wait(vm.id, VmState.ACTIVE, timeout=10)


async def test_near_a_vm_means_its_cloud_and_is_kept_with_the_vm(world: World) -> None:
    balancer = await world.balancer(TWO)
    first = (await balancer.create(CreateRequest(type="worker"))).placed[0].vm
    second = (await balancer.create(CreateRequest(type="worker", near=first.id))).placed[0].vm
    assert (await balancer.get(second.id)).near == first.id


async def test_the_deadline_of_a_request_ends_its_failover(world: World) -> None:
    balancer = await world.balancer(TWO, deadline=0.5)
    world.cloud("uniform").inject("hang", call="create", seconds=3)
    with pytest.raises(PlacementFailed, match="deadline of the request has passed"):
        await balancer.create(CreateRequest(type="worker"))


@pytest.mark.parametrize(
    ("request_", "error", "says"),
    [
        (CreateRequest(type="wroker"), UnknownType, "it has: worker"),
        (CreateRequest(type="worker", cloud="x"), UnknownCloud, "it uses: uniform, quebec"),
        (CreateRequest(type="worker", count=0), BadRequest, "count must be from 1 to 1000"),
        (CreateRequest(type="worker", min_count=2), BadRequest, "min_count must be from 1"),
        (CreateRequest(type="worker", key=""), BadRequest, "1 to 255 characters"),
        (CreateRequest(type="worker", tags={"isoneph-id": "x"}), BadRequest, "does not begin"),
        (CreateRequest(type="worker", tags={"a": "\n"}), BadRequest, "printable"),
        (
            CreateRequest(type="worker", tags={str(n): "" for n in range(17)}),
            BadRequest,
            "at most 16 tags, not 17",
        ),
    ],
)
async def test_a_wrong_request_is_told_what_is_wrong(
    world: World, request_: CreateRequest, error: type[Exception], says: str
) -> None:
    balancer = await world.balancer(TWO)
    with pytest.raises(error, match=says):
        await balancer.create(request_)


async def test_once_a_quota_is_known_no_create_is_refused_however_old_its_reading(
    world: World,
) -> None:
    clouds = {"uniform": {"quotas": {"instances": 3}}, "quebec": {"quotas": {"instances": 100}}}
    balancer = await world.balancer(clouds, placement=("quota", "count-balance"))
    for _ in range(6):
        await balancer.create(CreateRequest(type="worker"))
        world.clock.advance(3)  # a new listing each time, the limits as they were
    creations = await asyncio.gather(
        *(balancer.create(CreateRequest(type="worker")) for _ in range(6))
    )
    assert [one.refusals for creation in creations for one in creation.placed] == [()] * 6
    vms, _errors = await balancer.list()
    assert clouds_of(list(vms)) == {"uniform": 3, "quebec": 9}
    assert world.cloud("uniform").calls()["create"] == 3
    (uniform, _quebec) = (await balancer.explain(CreateRequest(type="worker"))).verdicts[::-1]
    assert uniform.reasons[0].text == "instances: 0 of 3 used, 3 placed since"


async def test_what_another_process_placed_counts_against_a_quota_read_before(
    world: World,
) -> None:
    clouds = {"uniform": {"quotas": {"instances": 3}}, "quebec": {}}
    ours = await world.balancer(clouds, placement=("quota",))
    other = await world.balancer(clouds)
    world.clock.advance(1)
    for _ in range(3):
        await other.create(CreateRequest(type="worker", cloud="uniform"))
    world.clock.advance(3)
    await ours.list()
    placed = (await ours.create(CreateRequest(type="worker"))).placed[0]
    assert (placed.vm.cloud, placed.refusals) == ("quebec", ())


async def test_what_a_type_takes_of_each_cloud_is_its_own(world: World) -> None:
    clouds = {name: {"quotas": {"cores": 4}} for name in TWO}
    settings = world.settings(clouds, placement=("quota", "count-balance"))
    mme = settings.applications["mme"]
    sizes = {"uniform": 4, "quebec": 1}
    types = {
        cloud: VmType(name="worker", resources={"instances": 1, "cores": cores})
        for cloud, cores in sizes.items()
    }
    mme = replace(mme, types={"worker": types})
    deployment = await world.start(replace(settings, applications={"mme": mme}))
    balancer = deployment.applications["mme"].balancer
    creation = await balancer.create(CreateRequest(type="worker", count=5))
    assert clouds_of([one.vm for one in creation.placed]) == {"uniform": 1, "quebec": 4}
    assert [one.refusals for one in creation.placed] == [()] * 5


async def test_a_cloud_that_lets_a_create_wait_is_taken_only_when_no_other_can(
    world: World,
) -> None:
    balancer = await world.balancer(TWO)
    waiting = balancer.gateways["uniform"]
    with patch.object(waiting, "slow", return_value="a create has been waiting for 20 s"):
        clouds = [
            (await balancer.create(CreateRequest(type="worker"))).placed[0].vm.cloud
            for _ in range(3)
        ]
        assert clouds == ["quebec"] * 3
        pinned = await balancer.create(CreateRequest(type="worker", cloud="uniform"))
        assert pinned.placed[0].vm.cloud == "uniform"
        world.cloud("quebec").begin_outage()
        other = await balancer.create(CreateRequest(type="worker"))
        assert other.placed[0].vm.cloud == "uniform"
