from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isoneph.core.errors import (
    InvalidRequest,
    NoCapacity,
    OutcomeUnknown,
    QuotaExceeded,
    Throttled,
    Unauthorized,
    Unreachable,
)
from isoneph.core.model import Leftover, VmRequest, VmType
from isoneph.core.testing import FakeClock, make_environment, make_request
from isoneph.plugins.clouds.mock import MockCloud
from isoneph.plugins.clouds.mock.faults import FAULTS
from isoneph.plugins.clouds.mock.values import CALLS


def make_cloud(*faults: dict[str, Any], clock: FakeClock | None = None, **more: Any) -> MockCloud:
    cloud = MockCloud({"faults": list(faults), **more}, make_environment("here", clock=clock))
    cloud.start()
    return cloud


def request_of(type_name: str = "small") -> VmRequest:
    return make_request("app", VmType(name=type_name))


def every_call(cloud: MockCloud) -> dict[str, Callable[[], object]]:
    """Each call of the driver by name, on a VM that is there."""
    vm = cloud.create_vm(request_of())
    leftover = Leftover(cloud="here", kind="port", cloud_id="x", vm_id=vm.id)
    return {
        "create": lambda: cloud.create_vm(request_of()),
        "get": lambda: cloud.get_vm(vm),
        "list": lambda: cloud.list_vms("app"),
        "delete": lambda: cloud.delete_vm(vm),
        "limits": cloud.get_limits,
        "list_leftovers": lambda: cloud.list_leftovers("app"),
        "delete_leftover": lambda: cloud.delete_leftover(leftover),
    }


ERRORS = {
    "quota": QuotaExceeded,
    "no_capacity": NoCapacity,
    "invalid": InvalidRequest,
    "timeout_before": OutcomeUnknown,
    "timeout_after": OutcomeUnknown,
    "throttle": Throttled,
    "unauthorized": Unauthorized,
    "hang": Unreachable,
    "outage": Unreachable,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_raises_its_error_on_its_calls_only(fault: str) -> None:
    cloud = make_cloud()
    calls = every_call(cloud)
    assert calls.keys() == set(CALLS)
    cloud.simulation.inject(fault, seconds=1)
    for name, call in calls.items():
        if fault in ERRORS and name in FAULTS[fault]:
            with pytest.raises(ERRORS[fault]):
                call()
        else:
            call()


@pytest.mark.parametrize("call", CALLS)
def test_a_fault_befalls_the_call_that_it_names(call: str) -> None:
    cloud = make_cloud()
    calls = every_call(cloud)
    cloud.simulation.inject("throttle", call)
    with pytest.raises(Throttled):
        calls.pop(call)()
    for other in calls.values():
        other()


@pytest.mark.parametrize("fault", ["quota", "no_capacity", "invalid", "timeout_before", "outage"])
def test_a_create_that_fails_first_makes_nothing(fault: str) -> None:
    cloud = make_cloud({"fault": fault})
    with pytest.raises(ERRORS[fault]):
        cloud.create_vm(request_of())
    assert cloud.simulation.vms() == []


def test_timeout_after_create_leaves_the_vm() -> None:
    cloud = make_cloud({"fault": "timeout_after", "call": "create", "count": 1})
    request = request_of()
    with pytest.raises(OutcomeUnknown):
        cloud.create_vm(request)
    assert [vm.id for vm in cloud.list_vms("app")] == [request.id]


def test_timeout_after_create_can_show_the_vm_late() -> None:
    clock = FakeClock()
    cloud = make_cloud(
        {"fault": "timeout_after", "visible_after": 20, "count": 1},
        clock=clock,
        quotas={"instances": 5},
    )
    request = request_of()
    with pytest.raises(OutcomeUnknown):
        cloud.create_vm(request)
    clock.advance(19)
    assert cloud.list_vms("app") == []
    assert [vm.visible for vm in cloud.simulation.vms()] == [False]
    assert cloud.get_limits()["instances"].used == 1
    clock.advance(2)
    (vm,) = cloud.list_vms("app")
    assert vm.id == request.id
    assert cloud.get_vm(vm) is not None


def test_timeouts_of_delete() -> None:
    cloud = make_cloud()
    vm = cloud.create_vm(request_of())
    cloud.simulation.inject("timeout_before", "delete", count=1)
    cloud.simulation.inject("timeout_after", "delete", count=1)
    with pytest.raises(OutcomeUnknown):
        cloud.delete_vm(vm)
    assert cloud.get_vm(vm) is not None
    with pytest.raises(OutcomeUnknown):
        cloud.delete_vm(vm)
    assert cloud.get_vm(vm) is None


@pytest.mark.parametrize("message", [None, "kernel panic"])
def test_error_after_accept(message: str | None) -> None:
    clock = FakeClock()
    fault = {"fault": "error_after_accept", "count": 1}
    cloud = make_cloud(
        {**fault, "message": message} if message else fault, clock=clock, boot_seconds=10
    )
    made = cloud.create_vm(request_of())
    cloud.create_vm(request_of())
    building = cloud.get_vm(made)
    assert building is not None
    assert (building.state, building.fault) == ("BUILDING", None)
    clock.advance(11)
    failed, whole = cloud.list_vms("app")
    assert (failed.state, failed.fault) == ("ERROR", message or "No valid host was found.")
    assert (whole.state, whole.fault) == ("ACTIVE", None)
    cloud.delete_vm(failed)
    assert len(cloud.list_vms("app")) == 1


def test_hang_takes_its_time_and_does_nothing() -> None:
    clock = FakeClock()
    cloud = make_cloud({"fault": "hang", "seconds": 90, "call": "create"}, clock=clock)
    with pytest.raises(Unreachable):
        cloud.create_vm(request_of())
    assert clock.paused == 90
    assert cloud.simulation.vms() == []


def test_throttle_tells_when_to_come_back() -> None:
    cloud = make_cloud({"fault": "throttle", "retry_after": 7, "message": "slow down"})
    with pytest.raises(Throttled, match="slow down") as caught:
        cloud.list_vms("app")
    assert caught.value.retry_after == 7


def test_leave_port() -> None:
    clock = FakeClock()
    cloud = make_cloud({"fault": "leave_port", "count": 1}, clock=clock, delete_seconds=5)
    leaving, clean = (cloud.create_vm(request_of()) for _ in range(2))
    cloud.delete_vm(leaving)
    cloud.delete_vm(clean)
    assert cloud.list_leftovers("app") == []
    clock.advance(6)
    (leftover,) = cloud.list_leftovers("app")
    assert leftover == Leftover(
        cloud="here", kind="port", cloud_id=f"{leaving.cloud_id}-port", vm_id=leaving.id
    )
    assert cloud.list_leftovers("other") == []
    (port,) = cloud.simulation.ports()
    assert (port.vm_id, port.application) == (leaving.id, "app")
    cloud.delete_leftover(leftover)
    assert cloud.simulation.ports() == []


def test_a_fault_is_used_up() -> None:
    cloud = make_cloud({"fault": "quota", "count": 2})
    for _ in range(2):
        with pytest.raises(QuotaExceeded):
            cloud.create_vm(request_of())
    cloud.create_vm(request_of())
    (record,) = cloud.simulation.faults()
    assert (record.hits, record.remaining, record.configured) == (2, 0, True)


def test_a_fault_befalls_the_types_that_it_names() -> None:
    cloud = make_cloud({"fault": "no_capacity", "types": ["large", "huge"]})
    cloud.create_vm(request_of("small"))
    with pytest.raises(NoCapacity):
        cloud.create_vm(request_of("huge"))


def test_a_fault_has_a_beginning_and_an_end() -> None:
    clock = FakeClock()
    cloud = make_cloud({"fault": "outage", "after": 10, "lasts": 5}, clock=clock)
    cloud.list_vms("app")
    clock.advance(10)
    with pytest.raises(Unreachable):
        cloud.list_vms("app")
    clock.advance(5)
    cloud.list_vms("app")


def test_the_first_fault_wins_but_an_outage_before_all() -> None:
    cloud = make_cloud({"fault": "throttle"}, {"fault": "unauthorized"})
    with pytest.raises(Throttled):
        cloud.list_vms("app")
    cloud.simulation.begin_outage()
    with pytest.raises(Unreachable):
        cloud.list_vms("app")


def lots(seed: int, probability: float, calls: int = 200) -> list[bool]:
    """Which of many calls met a fault of that probability."""
    cloud = make_cloud({"fault": "throttle", "call": "list", "probability": probability}, seed=seed)
    met = []
    for _ in range(calls):
        try:
            cloud.list_vms("app")
        except Throttled:
            met.append(True)
        else:
            met.append(False)
    return met


def test_probability_is_kept() -> None:
    assert 40 <= sum(lots(1, 0.25)) <= 60
    assert not any(lots(1, 0.0))
    assert all(lots(1, 1.0))


@settings(max_examples=10)
@given(seed=st.integers(0, 2**40))
def test_chance_follows_the_seed(seed: int) -> None:
    met = lots(seed, 0.5, calls=40)
    assert met == lots(seed, 0.5, calls=40)
    assert met != lots(seed + 1, 0.5, calls=40)
