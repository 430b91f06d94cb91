"""The cloud suite has teeth: each of these drivers breaks one rule, and one test tells."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from voluptuous import Optional

from isoneph.core.model import Leftover, Limits, Vm, VmRequest
from isoneph.core.plugin import Cloud, Environment, OptionSchema
from isoneph.core.testing import CloudConformance, FakeClock, make_environment
from isoneph.plugins.clouds.mock import MockCloud


class Silent(MockCloud):
    """Options without a word."""

    schema: ClassVar[OptionSchema] = {**MockCloud.schema, Optional("secret"): str}


class BadDefault(MockCloud):
    """A default that its own validator refuses."""

    type_schema: ClassVar[OptionSchema] = {Optional("size", default="xl", description="s"): int}


class Eager(MockCloud):
    """I/O in the constructor."""

    def __init__(self, options: Mapping[str, Any], environment: Environment) -> None:
        super().__init__(options, environment)
        Path(__file__).read_bytes()


class OneWay(MockCloud):
    """Close without start fails."""

    started = False

    def start(self) -> None:
        super().start()
        self.started = True

    def close(self) -> None:
        assert self.started
        super().close()


class Nameless(MockCloud):
    """Another's name in the answer."""

    def create_vm(self, request: VmRequest) -> Vm:
        return replace(super().create_vm(request), cloud="")


class Forgetful(MockCloud):
    """Tags are lost."""

    def create_vm(self, request: VmRequest) -> Vm:
        tags = {k: v[:200] for k, v in request.tags.items()}
        return super().create_vm(replace(request, tags=tags))


class Lagging(MockCloud):
    """A list that does not know the newest."""

    def list_vms(self, application: str) -> Sequence[Vm]:
        return super().list_vms(application)[:-1]


class Blind(MockCloud):
    """Get finds nothing."""

    def get_vm(self, vm: Vm) -> Vm | None:
        return None


class Sure(MockCloud):
    """Get finds everything."""

    def get_vm(self, vm: Vm) -> Vm | None:
        return vm


class Sluggish(MockCloud):
    """Boots take for ever."""

    def create_vm(self, request: VmRequest) -> Vm:
        slow = replace(request.type, options={"boot_seconds": 1e9})
        return super().create_vm(replace(request, type=slow))


class Homeless(MockCloud):
    """ACTIVE without an address."""

    def get_vm(self, vm: Vm) -> Vm | None:
        found = super().get_vm(vm)
        return found and replace(found, addresses={})


class Shared(MockCloud):
    """All see the VMs of all."""

    seen: ClassVar[list[str]] = []

    def list_vms(self, application: str) -> Sequence[Vm]:
        self.seen.append(application)
        return [
            vm for name in dict.fromkeys(self.seen) for vm in super(Shared, self).list_vms(name)
        ]


class Lenient(MockCloud):
    """Takes any type."""

    def create_vm(self, request: VmRequest) -> Vm:
        return super().create_vm(replace(request, type=replace(request.type, options={})))


class Colliding(MockCloud):
    """One cloud id for all."""

    def create_vm(self, request: VmRequest) -> Vm:
        return replace(super().create_vm(request), cloud_id="here-1")


class Idle(MockCloud):
    """Deletes nothing."""

    def delete_vm(self, vm: Vm) -> None:
        pass


class Strict(MockCloud):
    """Deletes only what is there."""

    def delete_vm(self, vm: Vm) -> None:
        assert self.get_vm(vm) is not None
        super().delete_vm(vm)


class Sweeping(MockCloud):
    """Deletes the application's VMs with the one."""

    def delete_vm(self, vm: Vm) -> None:
        for other in self.list_vms(vm.application):
            super().delete_vm(other)


class Careless(MockCloud):
    """Goes by the cloud id alone."""

    def delete_vm(self, vm: Vm) -> None:
        self.simulation.remove_vm(vm.cloud_id)


class Generous(MockCloud):
    """Nothing counts against the limits."""

    def get_limits(self) -> Limits:
        return {name: replace(quota, used=0) for name, quota in super().get_limits().items()}


class Hasty(MockCloud):
    """What is in use counts as left over."""

    def list_leftovers(self, application: str) -> Sequence[Leftover]:
        return [
            Leftover(cloud="here", kind="port", cloud_id=vm.cloud_id, vm_id=vm.id)
            for vm in self.list_vms(application)
        ]


class Clinging(MockCloud):
    """Leftovers stay."""

    def delete_leftover(self, leftover: Leftover) -> None:
        pass


class Suite(CloudConformance):
    resources: ClassVar[Mapping[str, float]] = {"instances": 1}
    bad_type_options: ClassVar[Mapping[str, Any] | None] = {"boot_seconds": -1}

    def __init__(self, driver: type[MockCloud]) -> None:
        self.driver = driver
        self.clock = FakeClock()

    def make_cloud(self, tmp_path: Path) -> Cloud:
        options = {"boot_seconds": 5, "delete_seconds": 5, "quotas": {"instances": 50}}
        return self.driver(options, make_environment("here", clock=self.clock))

    def add_foreign_vm(self, cloud: Cloud) -> str | None:
        assert isinstance(cloud, MockCloud)
        return cloud.simulation.add_vm()

    def has_foreign_vm(self, cloud: Cloud, cloud_id: str) -> bool:
        assert isinstance(cloud, MockCloud)
        return cloud_id in [vm.cloud_id for vm in cloud.simulation.vms()]

    def provoke_leftover(self, cloud: Cloud, vm: Vm) -> bool:
        assert isinstance(cloud, MockCloud)
        cloud.simulation.inject("leave_port")
        return True

    def run(self, test: Callable[..., None], tmp_path: Path) -> None:
        cloud = self.make_cloud(tmp_path)
        cloud.start()
        known = {"cloud": cloud, "tmp_path": tmp_path, "application": "a1", "neighbour": "b" * 63}
        test(self, **{k: v for k, v in known.items() if k in inspect.signature(test).parameters})


@pytest.mark.parametrize(
    ("driver", "test"),
    [
        (Silent, Suite.test_options_are_described_and_their_defaults_valid),
        (BadDefault, Suite.test_options_are_described_and_their_defaults_valid),
        (Eager, Suite.test_constructor_does_no_io),
        (OneWay, Suite.test_starts_and_closes_in_any_order),
        (Nameless, Suite.test_create_answers_with_the_identity),
        (Forgetful, Suite.test_tags_come_back_as_they_were),
        (Lagging, Suite.test_a_list_sees_what_was_just_created),
        (Blind, Suite.test_get_finds_what_was_just_created),
        (Sure, Suite.test_get_of_the_unknown_is_none),
        (Sure, Suite.test_a_deleted_vm_goes),
        (Sluggish, Suite.test_a_vm_becomes_active),
        (Homeless, Suite.test_a_vm_becomes_active),
        (Shared, Suite.test_applications_do_not_see_each_other),
        (Colliding, Suite.test_parallel_creates_make_distinct_vms),
        (Idle, Suite.test_a_deleted_vm_goes),
        (Idle, Suite.test_a_building_vm_can_be_deleted),
        (Strict, Suite.test_deleting_again_succeeds),
        (Strict, Suite.test_deleting_the_unknown_succeeds),
        (Sweeping, Suite.test_deleting_leaves_the_other_vms),
        (Sweeping, Suite.test_deleting_the_unknown_succeeds),
        (Careless, Suite.test_a_cloud_id_alone_opens_no_other_vm),
        (Careless, Suite.test_foreign_vms_are_left_alone),
        (MockCloud, Suite.test_another_driver_finds_the_vms),
        (Generous, Suite.test_limits_are_well_formed),
        (Hasty, Suite.test_a_live_vm_has_no_leftovers),
        (Clinging, Suite.test_leftovers_are_well_formed_and_can_be_removed),
    ],
)
def test_a_broken_rule_is_told(
    driver: type[MockCloud], test: Callable[..., None], tmp_path: Path
) -> None:
    with pytest.raises((AssertionError, ValueError)):
        Suite(driver).run(test, tmp_path)


def test_a_driver_that_takes_any_type_is_told(tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        Suite(Lenient).run(Suite.test_a_bad_type_is_an_invalid_request, tmp_path)
