"""The conformance suite of cloud drivers."""
# ruff: noqa: D102, S101 (as in any test: names tell, asserts speak)

from __future__ import annotations

import ipaddress
import math
import string
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from voluptuous import Schema

from isoneph.core import identity
from isoneph.core.errors import InvalidRequest
from isoneph.core.model import LIVE_STATES, VmState
from isoneph.core.plugin import Cloud
from isoneph.core.testing.cloud_fixtures import CloudFixtures
from isoneph.core.testing.schemas import undescribed_options, unfit_defaults

PRINTABLE = string.ascii_letters + string.digits + string.punctuation
#: As many tags, as long, as a user may set.
FULL_TAGS = {
    f"{number:02}.{'k' * 58}_z": (PRINTABLE[number:] * 4)[: identity.MAX_TAG_VALUE]
    for number in range(identity.MAX_TAGS)
}


class CloudConformance(CloudFixtures):
    """What every cloud driver keeps to.

    Inherit it in a class whose name begins with ``Test`` and say how to make the driver::

        class TestMyCloud(CloudConformance):
            def make_cloud(self, tmp_path):
                return MyCloud({"option": 1}, make_environment("here"))

    Time passes on the clock of the driver's environment: at once on a ``FakeClock``, really on
    a ``SystemClock``. One test makes all its drivers with the same ``tmp_path`` and removes the
    VMs that it made, so that the suite can also run against a cloud that others use. What else a
    test class may say of its cloud is in
    :class:`~isoneph.core.testing.cloud_fixtures.CloudFixtures`.
    """

    # Options and life.

    def test_has_a_summary(self, tmp_path: Path) -> None:
        summary = (type(self.make_cloud(tmp_path)).__doc__ or "").strip().partition("\n")[0]
        assert summary, "the first line of the class's docstring is its summary in lists"

    def test_options_are_described_and_their_defaults_valid(self, tmp_path: Path) -> None:
        cloud = self.make_cloud(tmp_path)
        for schema in (cloud.schema, cloud.type_schema, cloud.prepare_schema):
            assert isinstance(schema, Mapping), "a schema is a mapping of markers to validators"
            assert not undescribed_options(schema), "these markers have no description"
            assert not unfit_defaults(schema)

    def test_type_options_are_valid(self, tmp_path: Path) -> None:
        Schema(self.make_cloud(tmp_path).type_schema)(dict(self.type_options))

    def test_what_a_type_takes_is_counted(self, tmp_path: Path) -> None:
        cloud = self.make_cloud(tmp_path)
        for name, amount in cloud.takes(Schema(cloud.type_schema)(dict(self.type_options))).items():
            assert name
            assert math.isfinite(amount)
            assert amount >= 0

    def test_constructor_does_no_io(self, tmp_path: Path) -> None:
        self.make_cloud(tmp_path)  # modules that it imports are read now
        with _watched_io() as seen:
            self.make_cloud(tmp_path)
        assert not seen, f"the constructor did {', '.join(seen)}"

    def test_starts_and_closes_in_any_order(self, tmp_path: Path, application: str) -> None:
        cloud = self.make_cloud(tmp_path)
        cloud.close()
        cloud.start()
        cloud.start()
        assert list(cloud.list_vms(application)) == []
        cloud.close()
        cloud.close()
        cloud.start()
        assert list(cloud.list_vms(application)) == []
        cloud.close()

    # Create, get, list.

    def test_create_answers_with_the_identity(self, cloud: Cloud, application: str) -> None:
        request = self.make_request(application, tags={"role": "front-end"})
        vm = cloud.create_vm(request)
        assert vm.state in (VmState.BUILDING, VmState.ACTIVE)
        assert vm.cloud == cloud.environment.name
        assert vm.cloud_id
        self.check_identity(vm, request)

    def test_a_list_sees_what_was_just_created(self, cloud: Cloud, application: str) -> None:
        requests = [self.make_request(application, tags={"n": str(n)}) for n in range(3)]
        made = {request.id: cloud.create_vm(request) for request in requests}
        listed = {vm.id: vm for vm in cloud.list_vms(application)}
        assert listed.keys() == made.keys()
        for request in requests:
            vm = listed[request.id]
            assert vm.cloud_id == made[request.id].cloud_id
            assert vm.cloud == cloud.environment.name
            assert vm.state in LIVE_STATES
            self.check_identity(vm, request)

    def test_get_finds_what_was_just_created(self, cloud: Cloud, application: str) -> None:
        request = self.make_request(application)
        made = cloud.create_vm(request)
        vm = cloud.get_vm(made)
        assert vm is not None
        assert vm.cloud_id == made.cloud_id
        self.check_identity(vm, request)

    def test_tags_come_back_as_they_were(self, cloud: Cloud, neighbour: str) -> None:
        tags = {**FULL_TAGS, next(iter(FULL_TAGS)): "two words, 'quotes' and \"quotes\""}
        request = self.make_request(neighbour, type_name="t" * 63, tags=tags)
        made = cloud.create_vm(request)
        listed, got = cloud.list_vms(neighbour), cloud.get_vm(made)
        assert got is not None
        for vm in (made, *listed, got):
            self.check_identity(vm, request)
        assert len(listed) == 1

    def test_a_vm_becomes_active(self, cloud: Cloud, application: str) -> None:
        made = cloud.create_vm(self.make_request(application))
        vm = self.wait_until_active(cloud, made)
        assert vm.fault is None
        addresses = [address for network in vm.addresses.values() for address in network]
        for address in addresses:
            ipaddress.ip_address(address)
        assert addresses or not self.has_addresses
        assert [(vm.id, vm.state) for vm in cloud.list_vms(application)] == [
            (made.id, VmState.ACTIVE)
        ]

    def test_a_list_is_empty_without_vms(self, cloud: Cloud, application: str) -> None:
        assert list(cloud.list_vms(application)) == []

    def test_applications_do_not_see_each_other(
        self, cloud: Cloud, application: str, neighbour: str
    ) -> None:
        mine = cloud.create_vm(self.make_request(application))
        theirs = cloud.create_vm(self.make_request(neighbour))
        assert [vm.id for vm in cloud.list_vms(application)] == [mine.id]
        assert [vm.id for vm in cloud.list_vms(neighbour)] == [theirs.id]
        assert list(cloud.list_vms(application[:-1])) == []

    def test_get_of_the_unknown_is_none(self, cloud: Cloud, application: str) -> None:
        made = cloud.create_vm(self.make_request(application))
        unknown = replace(made, id=identity.new_id(), cloud_id=self.unknown_cloud_id())
        assert cloud.get_vm(unknown) is None

    def test_a_bad_type_is_an_invalid_request(self, cloud: Cloud, application: str) -> None:
        if self.bad_type_options is None:
            pytest.skip("bad_type_options is None: this driver cannot tell bad options from good")
        request = self.make_request(application)
        bad = replace(request, type=replace(request.type, options=self.bad_type_options))
        with pytest.raises(InvalidRequest):
            cloud.create_vm(bad)
        assert list(cloud.list_vms(application)) == []

    def test_parallel_creates_make_distinct_vms(self, cloud: Cloud, application: str) -> None:
        requests = [self.make_request(application) for _ in range(self.parallel)]
        with ThreadPoolExecutor(self.parallel) as threads:
            made = list(threads.map(cloud.create_vm, requests))
        assert [vm.id for vm in made] == [request.id for request in requests]
        listed = cloud.list_vms(application)
        for vms in (made, listed):
            assert len(vms) == self.parallel
            assert len({vm.id for vm in vms}) == self.parallel
            assert len({vm.cloud_id for vm in vms}) == self.parallel
            assert len({vm.name for vm in vms}) == self.parallel

    # Delete.

    def test_a_deleted_vm_goes(self, cloud: Cloud, application: str) -> None:
        vm = cloud.create_vm(self.make_request(application))
        self.wait_until_active(cloud, vm)
        cloud.delete_vm(vm)
        self.wait_until_gone(cloud, vm)

    def test_a_building_vm_can_be_deleted(self, cloud: Cloud, application: str) -> None:
        vm = cloud.create_vm(self.make_request(application))
        cloud.delete_vm(vm)
        self.wait_until_gone(cloud, vm)

    def test_deleting_again_succeeds(self, cloud: Cloud, application: str) -> None:
        vm = cloud.create_vm(self.make_request(application))
        cloud.delete_vm(vm)
        cloud.delete_vm(vm)
        self.wait_until_gone(cloud, vm)
        cloud.delete_vm(vm)

    def test_deleting_the_unknown_succeeds(self, cloud: Cloud, application: str) -> None:
        made = cloud.create_vm(self.make_request(application))
        unknown = replace(made, id=identity.new_id(), cloud_id=self.unknown_cloud_id())
        cloud.delete_vm(unknown)
        self.wait_until_active(cloud, made)

    def test_deleting_in_parallel_succeeds(self, cloud: Cloud, application: str) -> None:
        vm = cloud.create_vm(self.make_request(application))
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(cloud.delete_vm, [vm] * 4))
        self.wait_until_gone(cloud, vm)

    def test_deleting_leaves_the_other_vms(
        self, cloud: Cloud, application: str, neighbour: str
    ) -> None:
        going = cloud.create_vm(self.make_request(application))
        staying = cloud.create_vm(self.make_request(application))
        theirs = cloud.create_vm(self.make_request(neighbour))
        cloud.delete_vm(going)
        self.wait_until_gone(cloud, going)
        for vm in (staying, theirs):
            assert [found.id for found in cloud.list_vms(vm.application)] == [vm.id]
            self.wait_until_active(cloud, vm)

    def test_a_cloud_id_alone_opens_no_other_vm(
        self, cloud: Cloud, application: str, neighbour: str
    ) -> None:
        """Clouds may give an id out again: what stands under it must carry our tags."""
        if not self.reuses_cloud_ids:
            pytest.skip("reuses_cloud_ids is False: under an id there is never another VM")
        theirs = cloud.create_vm(self.make_request(neighbour))
        stale = replace(theirs, id=identity.new_id(), application=application)
        assert cloud.get_vm(stale) is None
        cloud.delete_vm(stale)
        assert self.wait_until_active(cloud, theirs).id == theirs.id

    def test_foreign_vms_are_left_alone(self, cloud: Cloud, application: str) -> None:
        cloud_id = self.add_foreign_vm(cloud)
        if cloud_id is None:
            pytest.skip("add_foreign_vm gives None: all VMs there are isoneph's")
        made = cloud.create_vm(self.make_request(application))
        assert [vm.id for vm in cloud.list_vms(application)] == [made.id]
        if not self.reuses_cloud_ids:
            return
        stale = replace(made, cloud_id=cloud_id)
        assert cloud.get_vm(stale) is None
        cloud.delete_vm(stale)
        assert self.has_foreign_vm(cloud, cloud_id)

    # Restart, limits, leftovers.

    def test_another_driver_finds_the_vms(
        self, cloud: Cloud, tmp_path: Path, application: str
    ) -> None:
        if not self.persistent:
            pytest.skip("persistent is False: the VMs end with their driver")
        request = self.make_request(application, tags={"role": "front-end"})
        made = cloud.create_vm(request)
        cloud.close()
        again = self.make_cloud(tmp_path)
        again.start()
        try:
            (vm,) = again.list_vms(application)
            assert vm.cloud_id == made.cloud_id
            self.check_identity(vm, request)
            self.wait_until_active(again, made)
            again.delete_vm(made)
            self.wait_until_gone(again, made)
        finally:
            again.close()

    def test_limits_are_well_formed(self, cloud: Cloud, application: str) -> None:
        cloud.create_vm(self.make_request(application))
        limits = cloud.get_limits()
        for name, quota in limits.items():
            assert isinstance(name, str)
            assert name
            assert math.isfinite(quota.used)
            assert quota.used >= self.resources.get(name, 0), f"the VM counts in used {name}"
            assert quota.limit is None or (math.isfinite(quota.limit) and quota.limit >= 0)

    def test_a_live_vm_has_no_leftovers(self, cloud: Cloud, application: str) -> None:
        vm = cloud.create_vm(self.make_request(application))
        assert list(cloud.list_leftovers(application)) == []
        self.wait_until_active(cloud, vm)
        assert list(cloud.list_leftovers(application)) == []

    def test_leftovers_are_well_formed_and_can_be_removed(
        self, cloud: Cloud, application: str, neighbour: str
    ) -> None:
        vm = cloud.create_vm(self.make_request(application))
        provoked = self.provoke_leftover(cloud, vm)
        cloud.delete_vm(vm)
        self.wait_until_gone(cloud, vm)
        leftovers = cloud.list_leftovers(application)
        assert leftovers or not provoked
        for leftover in leftovers:
            assert leftover.cloud == cloud.environment.name
            assert leftover.kind
            assert leftover.cloud_id
            assert leftover.vm_id == vm.id
        assert list(cloud.list_leftovers(neighbour)) == []
        for leftover in leftovers:
            cloud.delete_leftover(leftover)
            cloud.delete_leftover(leftover)
        self.wait_for(
            cloud,
            self.delete_timeout,
            lambda: True if not cloud.list_leftovers(application) else None,
            "the leftovers are removed",
        )


class _Watch(threading.local):
    """The I/O of the thread that is being watched; None while it is not."""

    seen: list[str] | None = None


_watch = _Watch()
_IO_EVENTS = (
    *("open", "os.mkdir", "os.listdir", "os.scandir", "os.remove", "os.rename", "os.fork"),
    *("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "sqlite3.connect"),
    *("subprocess.Popen", "os.system", "os.posix_spawn"),
)


@contextmanager
def _watched_io() -> Iterator[list[str]]:
    """The I/O that this thread does in the block, as the names of Python's audit events."""
    _install_audit_hook()
    seen = _watch.seen = []
    try:
        yield seen
    finally:
        _watch.seen = None


@cache
def _install_audit_hook() -> None:
    # A hook cannot be taken away again: it is installed once, and idle outside the block.
    def hook(event: str, _arguments: tuple[Any, ...]) -> None:
        if _watch.seen is not None and event in _IO_EVENTS:
            _watch.seen.append(event)

    sys.addaudithook(hook)
