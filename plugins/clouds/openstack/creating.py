"""Creating a VM: names looked up, then one ``POST /servers`` with all in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isoneph.core.errors import CloudError, InvalidRequest, OutcomeUnknown, Unreachable
from isoneph.core.model import Vm, VmRequest
from isoneph.core.plugin import Environment
from isoneph.plugins.clouds.openstack.api import Api
from isoneph.plugins.clouds.openstack.bodies import Ids, metadata_of, server_body
from isoneph.plugins.clouds.openstack.deadline import Deadline
from isoneph.plugins.clouds.openstack.floating import Opening, Openings, Wanted
from isoneph.plugins.clouds.openstack.marks import Owner
from isoneph.plugins.clouds.openstack.records import vm_of
from isoneph.plugins.clouds.openstack.resolving import Resolver, placed
from isoneph.plugins.clouds.openstack.servers import Servers
from isoneph.plugins.clouds.openstack.user_data import read_template, render


class Creator:
    """Creates VMs. Safe for threads."""

    def __init__(
        self, api: Api, servers: Servers, openings: Openings, environment: Environment
    ) -> None:
        self._api = api
        self._servers = servers
        self._openings = openings
        self._cloud = environment.name
        self._resolver = Resolver(api, environment)

    def create(self, request: VmRequest, deadline: Deadline) -> Vm:
        """Have a VM created; it is building when this returns.

        A second ``POST /servers`` is sent only after the first was refused, and only when
        something that it named has another id by now.
        """
        user_data = self._user_data(request)
        ids = self._resolver.resolve(request, deadline)
        try:
            return self._send(request, ids, user_data, deadline)
        except InvalidRequest as error:
            again = self._resolved_anew(request, error, deadline)
            if again == ids:
                raise self._resolver.explain(request, error, deadline) from error
        return self._send(request, again, user_data, deadline)

    def _resolved_anew(self, request: VmRequest, error: InvalidRequest, deadline: Deadline) -> Ids:
        self._resolver.forget()
        try:
            return self._resolver.resolve(request, deadline)
        except InvalidRequest:
            raise  # it tells better what is wrong
        except CloudError:
            raise placed(request, error) from error

    def _user_data(self, request: VmRequest) -> str | None:
        options = request.type.options
        values = {
            "id": request.id,
            "name": request.name,
            "application": request.application,
            "type": request.type.name,
            "cloud": self._cloud,
            "relay": options.get("relay"),
        }
        try:
            if "user_data_file" in options:
                return render(read_template(options["user_data_file"]), values)
            return render(options["user_data"], values) if "user_data" in options else None
        except InvalidRequest as error:
            raise placed(request, error) from error

    def _send(self, request: VmRequest, ids: Ids, user_data: str | None, deadline: Deadline) -> Vm:
        opening = self._opening(request, ids, deadline)
        version = self._api.compute_version(deadline)
        body = server_body(request, ids, version, user_data=user_data, opening=opening)
        try:
            answer = self._api.call("POST", "compute", "/servers", body=body, deadline=deadline)
        except OutcomeUnknown:
            raise  # a server may be there, and use what was made for it
        except CloudError:
            if opening is not None:
                self._openings.remove(opening, deadline)
            raise
        return self._made(request, answer.body["server"], opening)

    def _opening(self, request: VmRequest, ids: Ids, deadline: Deadline) -> Opening | None:
        if ids.external_network is None or not ids.networks:
            return None
        first = ids.networks[0]
        wanted = Wanted(
            network=first.id,
            external_network=ids.external_network,
            fixed_ip=first.fixed_ip,
            security_groups=ids.security_groups,
        )
        owner = Owner(request.application, request.id)
        try:
            return self._openings.make(wanted, owner, request.name, deadline)
        except OutcomeUnknown as error:  # no server was made yet
            raise Unreachable(error.message) from error

    def _made(self, request: VmRequest, answered: Mapping[str, Any], opening: Opening | None) -> Vm:
        server = {
            "id": answered["id"],
            "name": request.name,
            "status": "BUILD",
            "metadata": metadata_of(request, opening),
        }
        self._servers.remember(server)
        vm = vm_of(server, request.application, self._cloud)
        if vm is None:
            raise OutcomeUnknown("the tags asked for are not those of an isoneph VM")
        return vm
