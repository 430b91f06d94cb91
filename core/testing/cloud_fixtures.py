"""What the conformance suite of cloud drivers is made of."""
# ruff: noqa: S101 (asserts speak)

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest

from isoneph.core.model import Vm, VmRequest, VmState, VmType
from isoneph.core.plugin import Cloud
from isoneph.core.testing.environment import make_request

T = TypeVar("T")

FIRST_POLL, LONGEST_POLL = 0.02, 2.0


class CloudFixtures(ABC):
    """A driver and its VMs: how to make them, and how to wait for them."""

    #: What the VMs of the suite take, and the driver's options for their type.
    resources: ClassVar[Mapping[str, float]] = {"instances": 1}
    type_options: ClassVar[Mapping[str, Any]] = {}
    #: Type options that a create answers with InvalidRequest, where the driver can tell.
    bad_type_options: ClassVar[Mapping[str, Any] | None] = None
    #: Seconds after which a VM must be ACTIVE, or gone.
    boot_timeout: ClassVar[float] = 300.0
    delete_timeout: ClassVar[float] = 120.0
    #: How many VMs the cloud has room for at once.
    parallel: ClassVar[int] = 20
    #: Whether another driver with the same options, in another process, finds the same VMs.
    persistent: ClassVar[bool] = True
    #: Whether the cloud may give an id out again, so that the driver must look what is there.
    reuses_cloud_ids: ClassVar[bool] = True
    #: Whether VMs are called what the request says, however long that is.
    keeps_names: ClassVar[bool] = True
    #: Whether an ACTIVE VM has an address.
    has_addresses: ClassVar[bool] = True

    @abstractmethod
    def make_cloud(self, tmp_path: Path) -> Cloud:
        """A driver that is not started."""

    def make_request(
        self,
        application: str,
        *,
        type_name: str = "conformance",
        tags: Mapping[str, str] | None = None,
    ) -> VmRequest:
        """A request such as the core makes, for a new VM."""
        vm_type = VmType(name=type_name, resources=self.resources, options=self.type_options)
        return make_request(application, vm_type, tags)

    def wait(self, cloud: Cloud, seconds: float) -> None:
        """Let ``seconds`` pass for the cloud."""
        cloud.environment.clock.pause(seconds)

    def unknown_cloud_id(self) -> str:
        """A cloud id in the cloud's own form that no VM has."""
        return str(uuid.uuid4())

    def add_foreign_vm(self, cloud: Cloud) -> str | None:
        """Add a VM that isoneph has nothing to do with, past the driver, and return its cloud
        id; None when that cannot be done. Its removal is up to the test class."""
        return None

    def has_foreign_vm(self, cloud: Cloud, cloud_id: str) -> bool:
        """Whether the VM that :meth:`add_foreign_vm` added is still there, untouched; to be
        given along with it."""
        return False

    def provoke_leftover(self, cloud: Cloud, vm: Vm) -> bool:
        """Arrange that ``vm``, which is deleted next, leaves something behind; False when that
        cannot be done."""
        return False

    @pytest.fixture
    def application(self) -> str:
        """The application of the test, known to no other test."""
        return f"conformance-{uuid.uuid4().hex[:8]}"

    @pytest.fixture
    def neighbour(self) -> str:
        """Another application, with as long a name as there can be."""
        return f"neighbour-{uuid.uuid4().hex[:8]}".ljust(63, "x")

    @pytest.fixture
    def cloud(self, tmp_path: Path, application: str, neighbour: str) -> Iterator[Cloud]:
        """The driver under test, started."""
        cloud = self.make_cloud(tmp_path)
        cloud.start()
        yield cloud
        cloud.start()  # a test may have closed it
        for owner in (application, neighbour):
            for vm in cloud.list_vms(owner):
                cloud.delete_vm(vm)
        cloud.close()

    def check_identity(self, vm: Vm, request: VmRequest) -> None:
        """``vm`` says of itself what ``request`` said."""
        expected = Vm.from_tags(
            request.tags,
            request.application,
            cloud=vm.cloud,
            cloud_id=vm.cloud_id,
            name=request.name if self.keeps_names else vm.name,
            state=vm.state,
            addresses=vm.addresses,
            fault=vm.fault,
            fault_code=vm.fault_code,
        )
        assert vm == expected
        assert vm.name

    def wait_for(self, cloud: Cloud, seconds: float, look: Callable[[], T | None], what: str) -> T:
        """What ``look`` finds at last; fails when it found None all the time."""
        clock = cloud.environment.clock
        end, pause = clock.monotonic() + seconds, FIRST_POLL
        while (found := look()) is None:
            assert clock.monotonic() < end, f"not in {seconds:g} s: {what}"
            self.wait(cloud, pause)
            pause = min(pause * 1.5, LONGEST_POLL)
        return found

    def wait_until_active(self, cloud: Cloud, vm: Vm) -> Vm:
        """The VM when it is ACTIVE; fails when it is gone, failed or too slow."""

        def look() -> Vm | None:
            now = cloud.get_vm(vm)
            assert now is not None, "the VM is gone while it boots"
            assert now.state in (VmState.BUILDING, VmState.ACTIVE), now.fault
            return now if now.state is VmState.ACTIVE else None

        return self.wait_for(cloud, self.boot_timeout, look, "the VM is ACTIVE")

    def wait_until_gone(self, cloud: Cloud, vm: Vm) -> None:
        """The VM is found neither by its id nor in the list."""

        def look() -> bool | None:
            listed = {found.id for found in cloud.list_vms(vm.application)}
            return True if cloud.get_vm(vm) is None and vm.id not in listed else None

        self.wait_for(cloud, self.delete_timeout, look, "the VM is gone")
