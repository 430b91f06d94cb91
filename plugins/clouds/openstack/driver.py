"""The ``openstack`` cloud driver."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from isoneph.core.model import Finding, Leftover, Limits, Preparation, Vm, VmRequest
from isoneph.core.plugin import Cloud, Environment, OptionSchema
from isoneph.plugins.clouds.openstack import options as cloud_options
from isoneph.plugins.clouds.openstack import preparing, type_options
from isoneph.plugins.clouds.openstack.api import Api
from isoneph.plugins.clouds.openstack.creating import Creator
from isoneph.plugins.clouds.openstack.extensions import Extensions
from isoneph.plugins.clouds.openstack.floating import Opening, Openings
from isoneph.plugins.clouds.openstack.leftovers import Leftovers
from isoneph.plugins.clouds.openstack.limits import LimitsReader
from isoneph.plugins.clouds.openstack.marks import Owner
from isoneph.plugins.clouds.openstack.servers import Servers


class OpenstackCloud(Cloud):
    """OpenStack: VMs are Nova's servers, in the project that the credentials are for.

    Works with every Nova that has version 2.1 of its API, and uses the newest microversion that
    both know. The project may be shared with others: what isoneph did not make is not touched.

    A VM is made by one request and deleted by one; only a floating IP takes more. What is shared
    by many calls, such as the listing of all servers, is read once for all who wait for it.
    """

    schema: ClassVar[OptionSchema] = cloud_options.OPTIONS
    type_schema: ClassVar[OptionSchema] = type_options.TYPE_OPTIONS
    prepare_schema: ClassVar[OptionSchema] = preparing.PREPARE_SCHEMA

    def __init__(self, options: Mapping[str, Any], environment: Environment) -> None:
        super().__init__(options, environment)
        #: All calls to the cloud.
        self.api = Api(options, environment)
        extensions = Extensions(self.api, environment.clock)
        self._servers = Servers(self.api, environment.name, environment.clock)
        self._openings = Openings(self.api, environment.logger)
        self._creator = Creator(self.api, self._servers, self._openings, environment)
        self._limits = LimitsReader(self.api, self._servers, extensions)
        self._leftovers = Leftovers(self.api, self._servers, extensions, environment)

    @classmethod
    def problems(cls, options: Mapping[str, Any]) -> Sequence[str]:
        """As :meth:`Plugin.problems`: whether the options make a connection."""
        return cloud_options.problems(options)

    @classmethod
    def takes(cls, options: Mapping[str, Any]) -> Mapping[str, float]:
        """As :meth:`Cloud.takes`: ports, floating IPs and volumes."""
        return type_options.takes(options)

    @classmethod
    def preparation_problems(
        cls, options: Mapping[str, Any], clouds: Sequence[str]
    ) -> Sequence[str]:
        """As :meth:`Cloud.preparation_problems`."""
        return preparing.preparation_problems(options, clouds)

    def start(self) -> None:
        """Open nothing: a cloud that is down now may be up when it is needed."""

    def close(self) -> None:
        """Close idle connections."""
        self.api.close()

    def create_vm(self, request: VmRequest) -> Vm:
        """As :meth:`Cloud.create_vm`; the answer always says BUILDING."""
        return self._creator.create(request, self.api.deadline())

    def get_vm(self, vm: Vm) -> Vm | None:
        """As :meth:`Cloud.get_vm`."""
        return self._servers.get_vm(vm, self.api.deadline())

    def list_vms(self, application: str) -> Sequence[Vm]:
        """As :meth:`Cloud.list_vms`, from a listing of the whole project."""
        return self._servers.list_vms(application, self.api.deadline())

    def delete_vm(self, vm: Vm) -> None:
        """As :meth:`Cloud.delete_vm`; the floating IP and its port, if it has, go with it."""
        deadline = self.api.deadline()
        self._servers.delete(vm.cloud_id, deadline)
        opening = Opening.of(self._servers.metadata_of(vm.cloud_id))
        if opening is not None:
            self._openings.remove_of(Owner(vm.application, vm.id), opening, deadline)

    def get_limits(self) -> Limits:
        """As :meth:`Cloud.get_limits`, as far as the role of the user lets us see them."""
        return self._limits.read(self.api.deadline())

    def list_leftovers(self, application: str) -> Sequence[Leftover]:
        """As :meth:`Cloud.list_leftovers`: ports, floating IPs, volumes and server groups."""
        return self._leftovers.list_of(application, self.api.deadline())

    def delete_leftover(self, leftover: Leftover) -> None:
        """As :meth:`Cloud.delete_leftover`, if it still is one."""
        self._leftovers.remove(leftover, self.api.deadline())

    def prepare(self, preparation: Preparation, admin: Cloud | None = None) -> Iterator[Finding]:
        """As :meth:`Cloud.prepare`: networks, routers, security groups, keypairs and images."""
        admin_api = admin.api if isinstance(admin, OpenstackCloud) else None
        return preparing.prepare(self.api, admin_api, preparation, self.environment)
