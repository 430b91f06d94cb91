from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isoneph.core.errors import InvalidRequest, NoCapacity, QuotaExceeded, Unreachable
from isoneph.core.model import Quota, VmRequest, VmState, VmType
from isoneph.core.testing import FakeClock, make_environment, make_request
from isoneph.plugins.clouds.mock import MockCloud


def make_cloud(clock: FakeClock | None = None, name: str = "here", **options: Any) -> MockCloud:
    cloud = MockCloud(options, make_environment(name, clock=clock))
    cloud.start()
    return cloud


def request_of(
    type_name: str = "small",
    *,
    resources: Mapping[str, float] | None = None,
    options: Mapping[str, Any] | None = None,
) -> VmRequest:
    vm_type = VmType(name=type_name, resources=resources or {}, options=options or {})
    return make_request("app", vm_type)


def states(cloud: MockCloud) -> list[str]:
    return [vm.state for vm in cloud.list_vms("app")]


def test_a_vm_builds_for_its_boot_time() -> None:
    clock = FakeClock()
    cloud = make_cloud(clock, boot_seconds=30)
    assert cloud.create_vm(request_of()).state is VmState.BUILDING
    clock.advance(29.9)
    assert states(cloud) == ["BUILDING"]
    clock.advance(0.2)
    assert states(cloud) == ["ACTIVE"]


def test_create_answers_building_even_without_boot_time() -> None:
    cloud = make_cloud()
    assert cloud.create_vm(request_of()).state is VmState.BUILDING
    assert states(cloud) == ["ACTIVE"]


def test_a_type_may_have_its_own_boot_time() -> None:
    clock = FakeClock()
    cloud = make_cloud(clock, boot_seconds=30)
    cloud.create_vm(request_of("quick", options={"boot_seconds": 1}))
    cloud.create_vm(request_of("slow"))
    clock.advance(2)
    assert states(cloud) == ["ACTIVE", "BUILDING"]


def boot_times(cloud: MockCloud, clock: FakeClock, lists: int = 0) -> list[float]:
    """After how many seconds each of five VMs is up, with ``lists`` calls between the creates."""
    begin = clock.time()
    for _ in range(5):
        cloud.create_vm(request_of())
        for _ in range(lists):
            cloud.list_vms("app")
    times: dict[str, float] = {}
    while len(times) < 5:
        clock.advance(0.5)
        for vm in cloud.simulation.vms():
            if vm.state is VmState.ACTIVE:
                times.setdefault(vm.cloud_id, clock.time() - begin)
    return [times[f"{cloud.environment.name}-{number}"] for number in range(1, 6)]


@settings(max_examples=10)
@given(seed=st.integers(0, 2**40))
def test_boot_times_follow_from_the_seed_alone(seed: int) -> None:
    options: dict[str, Any] = {"boot_seconds": {"uniform": [0, 20]}, "seed": seed}
    drawn = []
    for lists in (0, 3):
        clock = FakeClock()
        drawn.append(boot_times(make_cloud(clock, **options), clock, lists))
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) > 1


def test_seeds_and_clouds_differ_in_their_luck() -> None:
    clock = FakeClock()
    spec = {"uniform": [0, 20]}
    times = {
        tuple(boot_times(make_cloud(clock, name, boot_seconds=spec, seed=seed), clock))
        for name in ("a", "b")
        for seed in (1, 2)
    }
    assert len(times) == 4


def test_calls_take_their_time_on_the_clock() -> None:
    clock = FakeClock()
    cloud = make_cloud(clock, latency={"create": 2, "list": {"uniform": [3, 4]}, "any": 0.5})
    vm = cloud.create_vm(request_of())
    assert clock.paused == 2
    cloud.get_vm(vm)
    cloud.get_limits()
    cloud.delete_vm(vm)
    assert clock.paused == 3.5
    cloud.list_vms("app")
    assert 6.5 <= clock.paused <= 7.5


def test_calls_without_latency_never_pause() -> None:
    clock = FakeClock()
    cloud = make_cloud(clock, latency={"delete": 1})
    cloud.create_vm(request_of())
    cloud.list_vms("app")
    assert clock.paused == 0


def test_quotas_count_everybodys_vms() -> None:
    cloud = make_cloud(quotas={"instances": 3, "cores": 8, "ram": None})
    cloud.simulation.add_vm(resources={"cores": 2})
    big = request_of(resources={"cores": 4, "ram": 4096, "licences": 9})
    cloud.create_vm(big)
    assert cloud.get_limits() == {
        "instances": Quota(limit=3, used=2),
        "cores": Quota(limit=8, used=6),
        "ram": Quota(limit=None, used=4096),
    }
    with pytest.raises(QuotaExceeded, match="for cores: asked for 4, used 6 of 8"):
        cloud.create_vm(request_of(resources={"cores": 4}))
    cloud.create_vm(request_of(resources={"cores": 2}))
    with pytest.raises(QuotaExceeded, match="for instances: asked for 1, used 3 of 3"):
        cloud.create_vm(request_of())
    assert len(cloud.list_vms("app")) == 2


def test_without_quotas_there_are_no_limits() -> None:
    cloud = make_cloud()
    cloud.create_vm(request_of(resources={"cores": 1e9}))
    assert cloud.get_limits() == {}


def test_capacity_is_by_type_and_comes_back() -> None:
    cloud = make_cloud(capacity={"small": 1, "none": 0})
    vm = cloud.create_vm(request_of("small"))
    cloud.create_vm(request_of("large"))
    for full in ("small", "none"):
        with pytest.raises(NoCapacity, match=f"type '{full}'"):
            cloud.create_vm(request_of(full))
    cloud.delete_vm(vm)
    cloud.create_vm(request_of("small"))


def test_a_vm_is_deleting_for_a_while_and_counts_until_it_is_gone() -> None:
    clock = FakeClock()
    cloud = make_cloud(clock, delete_seconds=10, quotas={"instances": 1})
    vm = cloud.create_vm(request_of())
    cloud.delete_vm(vm)
    clock.advance(6)
    cloud.delete_vm(vm)
    assert states(cloud) == ["DELETING"]
    assert cloud.get_limits()["instances"].used == 1
    clock.advance(5)
    assert states(cloud) == []
    assert cloud.get_vm(vm) is None
    assert cloud.get_limits()["instances"].used == 0
    cloud.create_vm(request_of())
    assert len(cloud.simulation.vms()) == 1


def test_each_vm_has_its_own_address() -> None:
    def addresses(name: str) -> list[str]:
        cloud = make_cloud(name=name)
        for _ in range(10):
            vm = cloud.create_vm(request_of())
            assert vm.addresses.keys() == {"mock"}
            cloud.delete_vm(cloud.create_vm(request_of()))
        return [vm.addresses["mock"][0] for vm in cloud.list_vms("app")]

    first, same, other = addresses("a"), addresses("a"), addresses("b")
    assert first == same
    assert len({*first, *other}) == 20
    assert all(address.startswith("10.") for address in first)


def test_creating_twice_makes_two_vms() -> None:
    """As on a real cloud without idempotency: whoever asks twice is seen to have done so."""
    cloud = make_cloud()
    request = request_of()
    first, second = cloud.create_vm(request), cloud.create_vm(request)
    assert first.id == second.id
    assert first.cloud_id != second.cloud_id
    cloud.delete_vm(first)
    assert [vm.cloud_id for vm in cloud.list_vms("app")] == [second.cloud_id]


@pytest.mark.parametrize("options", [{"boot_seconds": "x"}, {"flavor": "m1"}])
def test_a_bad_type_is_named_and_makes_nothing(options: dict[str, Any]) -> None:
    cloud = make_cloud()
    with pytest.raises(InvalidRequest, match=f"type 'odd': .*'{next(iter(options))}'"):
        cloud.create_vm(request_of("odd", options=options))
    assert cloud.simulation.vms() == []


def test_tags_that_are_not_isonephs_make_nothing() -> None:
    cloud = make_cloud()
    with pytest.raises(InvalidRequest, match="tags"):
        cloud.create_vm(replace(request_of(), tags={}))
    assert cloud.simulation.vms() == []


def test_a_cloud_that_was_not_started_is_unreachable() -> None:
    cloud = MockCloud({}, make_environment("early"))
    with pytest.raises(Unreachable, match="'early' has not been started"):
        cloud.list_vms("app")


def test_prices_are_there_to_be_read() -> None:
    assert make_cloud(prices={"small": 0.02}).simulation.options["prices"] == {"small": 0.02}
