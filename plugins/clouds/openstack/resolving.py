"""A VM type's names turned into ids, and what a refusal means in the configuration's words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from isoneph.core.errors import CloudError, InvalidRequest, OutcomeUnknown, Unreachable
from isoneph.core.model import VmRequest
from isoneph.core.plugin import Environment
from isoneph.plugins.clouds.openstack import names
from isoneph.plugins.clouds.openstack.api import Api
from isoneph.plugins.clouds.openstack.bodies import Ids, Network, check_version
from isoneph.plugins.clouds.openstack.deadline import Deadline
from isoneph.plugins.clouds.openstack.groups import Groups
from isoneph.plugins.clouds.openstack.marks import group_name
from isoneph.plugins.clouds.openstack.names import Kind, Names
from isoneph.plugins.clouds.openstack.type_options import AUTO

#: What a refusal speaks of without telling the name: the option that has it, and what of.
_SUSPECTS: Sequence[tuple[re.Pattern[str], str, Kind]] = (
    (re.compile("security.?group", re.IGNORECASE), "security_groups", names.SECURITY_GROUP),
    (re.compile("key.?(name|pair)", re.IGNORECASE), "key_name", names.KEYPAIR),
    (re.compile("availability.?zone", re.IGNORECASE), "availability_zone", names.ZONE),
    (re.compile("volume.?type", re.IGNORECASE), "boot_volume.volume_type", names.VOLUME_TYPE),
)
_SEVERAL_NETWORKS = "multiple possible networks"


class Resolver:
    """Looks up what VM types name. Safe for threads."""

    def __init__(self, api: Api, environment: Environment) -> None:
        self._api = api
        self._cloud = environment.name
        self._names = Names(api, environment.name, environment.clock)
        self._groups = Groups(api, environment.clock)

    def resolve(self, request: VmRequest, deadline: Deadline) -> Ids:
        """The ids of all that the VM's type names; a server group is made if need be.

        Raises InvalidRequest, which tells the place in the configuration, for what the cloud
        does not have.
        """
        try:
            return self._resolve(request, deadline)
        except OutcomeUnknown as error:  # of making the group: no server was made
            raise Unreachable(error.message) from error

    def forget(self) -> None:
        """Look everything up anew from now on."""
        self._names.forget()
        self._groups.forget()

    def explain(
        self, request: VmRequest, error: InvalidRequest, deadline: Deadline
    ) -> InvalidRequest:
        """The cloud's refusal in the words of the configuration, as far as that is possible."""
        if _SEVERAL_NETWORKS in error.message.lower():
            known = ", ".join(sorted(self._names.known(names.NETWORK, deadline)))
            return InvalidRequest(
                f"{place(request, 'networks')}: cloud '{self._cloud}' has several networks; say "
                f"which (it has: {known})"
            )
        for pattern, option, kind in _SUSPECTS:
            if pattern.search(error.message):
                try:
                    for word in _words(request.type.options, option):
                        self._names.id_of(kind, word, place(request, option), deadline)
                except InvalidRequest as found:
                    return found
                except CloudError:
                    continue  # what cannot be looked up is told as the cloud told it
        return placed(request, error)

    def _resolve(self, request: VmRequest, deadline: Deadline) -> Ids:
        options = request.type.options
        try:
            check_version(options, self._api.compute_version(deadline))
            self._check_volumes(options, deadline)
            group = self._group(request, deadline)
        except InvalidRequest as error:
            raise placed(request, error) from error
        external, security_groups = self._for_floating_ip(request, deadline)
        return Ids(
            flavor=self._id(request, names.FLAVOR, "flavor", options["flavor"], deadline),
            image=self._id(request, names.IMAGE, "image", options["image"], deadline),
            networks=self._networks(request, deadline),
            group=group,
            external_network=external,
            security_groups=security_groups,
        )

    def _id(
        self, request: VmRequest, kind: Kind, option: str, word: str, deadline: Deadline
    ) -> str:
        return self._names.id_of(kind, word, place(request, option), deadline)

    def _check_volumes(self, options: Mapping[str, Any], deadline: Deadline) -> None:
        """Nova itself fails in a way that leaves it open whether a server was made."""
        if "boot_volume" in options and not self._api.has_service("volume", deadline):
            raise InvalidRequest(f"boot_volume: cloud '{self._cloud}' has no volumes (Cinder)")

    def _networks(self, request: VmRequest, deadline: Deadline) -> Sequence[Network] | None:
        wanted = request.type.options.get("networks", AUTO)
        if isinstance(wanted, str):
            return None
        entries = [entry if isinstance(entry, dict) else {"network": entry} for entry in wanted]
        return [
            Network(
                id=self._id(request, names.NETWORK, "networks", entry["network"], deadline),
                fixed_ip=entry.get("fixed_ip"),
            )
            for entry in entries
        ]

    def _for_floating_ip(
        self, request: VmRequest, deadline: Deadline
    ) -> tuple[str | None, Sequence[str] | None]:
        """The external network, and the security groups of the port that is made; Neutron takes
        these by id only."""
        options = request.type.options
        option = "floating_network"
        if option not in options:
            return None, None
        if isinstance(options.get("networks", AUTO), str):
            raise InvalidRequest(
                f"{place(request, option)}: a floating IP is for an address on the first of "
                "`networks`; name that one"
            )
        external = self._id(request, names.EXTERNAL_NETWORK, option, options[option], deadline)
        option = "security_groups"
        groups = options.get(option)
        return external, groups and [
            self._id(request, names.SECURITY_GROUP, option, word, deadline) for word in groups
        ]

    def _group(self, request: VmRequest, deadline: Deadline) -> str | None:
        group: Mapping[str, str] = request.type.options.get("server_group", {})
        if "name" in group:
            option = "server_group.name"
            return self._id(request, names.SERVER_GROUP, option, group["name"], deadline)
        if "policy" not in group:
            return None
        name = group_name(request.application, request.type.name, group["policy"])
        return self._groups.ensure(name, group["policy"], deadline)


def place(request: VmRequest, option: str) -> str:
    """Where an option of the VM's type stands in the configuration."""
    return f"{_place_of_type(request)}.options.{option}"


def placed(request: VmRequest, error: InvalidRequest) -> InvalidRequest:
    """An error with the place of the VM's type, unless it tells a place itself."""
    if error.message.startswith("application "):
        return error
    return InvalidRequest(f"{_place_of_type(request)}: {error.message}")


def _place_of_type(request: VmRequest) -> str:
    return f"application {request.application}: types.{request.type.name}"


def _words(options: Mapping[str, Any], path: str) -> Sequence[str]:
    """The names in an option, as a list; empty when it is not there."""
    value: Any = options
    for key in path.split("."):
        value = value.get(key, {})
    if isinstance(value, str):
        # A zone may be followed by a host, which is no name that can be looked up.
        return [value.partition(":")[0] if path == "availability_zone" else value]
    return list(value)
