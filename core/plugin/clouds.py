"""The interface of cloud drivers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from isoneph.core.model import Finding, Leftover, Limits, Preparation, Vm, VmRequest
from isoneph.core.plugin.base import BlockingPlugin, OptionSchema


class Cloud(BlockingPlugin):
    """A driver for one cloud (``isoneph.clouds``), shared by all applications that use it.

    The methods are called from several threads at once. They raise the subclasses of
    :class:`~isoneph.core.errors.CloudError` and nothing else; anything else counts as a fault
    of the driver, and of a create as an outcome unknown. They raise ``Unreachable`` only when
    nothing can have been done, ``OutcomeUnknown`` when a create or delete may have been.

    Each VM carries ``VmRequest.tags`` in the cloud's own metadata. The driver never returns,
    changes or removes anything that does not carry them (:meth:`Vm.from_tags` tells). Where a
    cloud may give the same ``cloud_id`` out again, that includes what now stands under the
    ``cloud_id`` of a VM that is gone.
    """

    #: What a VM type must say to be created here; also validates each application's types.
    type_schema: ClassVar[OptionSchema] = {}
    #: How an application describes what is to be there first; empty when nothing can be prepared.
    prepare_schema: ClassVar[OptionSchema] = {}

    @classmethod
    def takes(cls, options: Mapping[str, Any]) -> Mapping[str, float]:
        """What a VM with these type options takes of the limits that :meth:`get_limits` tells,
        as far as the options alone tell it; what the configuration says goes before."""
        return {}

    @classmethod
    def preparation_problems(
        cls, options: Mapping[str, Any], clouds: Sequence[str]
    ) -> Sequence[str]:
        """What is wrong with a description that passed ``prepare_schema`` part by part, for the
        application's ``clouds`` of this driver; a sentence each."""
        return ()

    @abstractmethod
    def create_vm(self, request: VmRequest) -> Vm:
        """Ask for a VM and return it as soon as the cloud has accepted, while it builds.

        Called once for each VM and attempt: the driver does not repeat the call on its own
        unless the cloud offers idempotency for it (``request.id`` with ``attempt`` in the tags).
        """

    @abstractmethod
    def get_vm(self, vm: Vm) -> Vm | None:
        """The VM as it is now, or None when the cloud is sure that it is gone."""

    @abstractmethod
    def list_vms(self, application: str) -> Sequence[Vm]:
        """All VMs of ``application`` on this cloud, building and failed ones too, in one bulk
        call. VMs of others are left out."""

    @abstractmethod
    def delete_vm(self, vm: Vm) -> None:
        """Have the VM removed; return when the cloud has accepted. Deleting the gone succeeds."""

    @abstractmethod
    def get_limits(self) -> Limits:
        """The project's limits and what everybody uses of them; empty when it has none."""

    def prepare(self, preparation: Preparation, admin: Cloud | None = None) -> Iterator[Finding]:
        """Compare the cloud with a description, and with ``change`` make it so; a finding for
        each thing, as soon as it is known.

        ``admin`` is the same cloud with an administrator's credentials, where there are any.
        Safe to repeat and to break off: what was done stays done. Raises the CloudError that
        keeps it from going on; what concerns one thing alone is a finding.
        """
        return iter(())

    def list_leftovers(self, application: str) -> Sequence[Leftover]:
        """What finished or failed VMs of ``application`` left behind: provably ours, and held by
        no VM that is there, not even by one of the same id. The core removes what it sees twice,
        a grace apart."""
        return ()

    def delete_leftover(self, leftover: Leftover) -> None:
        """Remove one leftover. Removing the gone succeeds."""
