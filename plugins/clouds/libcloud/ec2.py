"""How EC2 is spoken to."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from libcloud.compute.base import NodeImage, NodeSize
from requests import RequestException

from isoneph.core import identity
from isoneph.core.errors import CloudError, InvalidRequest, OutcomeUnknown
from isoneph.core.model import Leftover, Vm, VmRequest, VmState
from isoneph.core.plugin import Environment
from isoneph.plugins.clouds.libcloud import ec2_refusals, refusals
from isoneph.plugins.clouds.libcloud.ec2_api import (
    NAME,
    PUBLIC,
    Ec2Api,
    at,
    instance_of,
    tags_of,
    text_of,
)
from isoneph.plugins.clouds.libcloud.ec2_refusals import GONE, TOKEN_USED, Ec2Refusal
from isoneph.plugins.clouds.libcloud.instances import Call, Dialect, Instance, Order, Told
from isoneph.plugins.clouds.libcloud.lookups import Catalogue, Entry
from isoneph.plugins.clouds.libcloud.providers import nearest
from isoneph.plugins.clouds.libcloud.transport import Line
from isoneph.plugins.clouds.libcloud.values import WrongOption

#: What is tagged when an instance is made: what it may leave behind carries whose it was.
TAGGED = ("instance", "volume", "network-interface")
#: Seconds for which an instance that made its client token used up is looked for.
TOKEN_PATIENCE = 5.0
_PAUSE = 0.5
#: What EC2 takes in one filter.
FILTER_VALUES = 200
_COUNTED = ("pending", "running", "stopping", "stopped", "shutting-down")
_IDS = {"image": "ami-", "subnet": "subnet-", "security group": "sg-"}
#: By kind of leftover: its listing, where its items are, and what its id is called.
_LEFT = {
    "volume": ("DescribeVolumes", "volumeSet/item", "volumeId", "DeleteVolume", "VolumeId"),
    "network interface": (
        *("DescribeNetworkInterfaces", "networkInterfaceSet/item", "networkInterfaceId"),
        *("DeleteNetworkInterface", "NetworkInterfaceId"),
    ),
}


class Ec2(Dialect):
    """EC2, with a client token for each create and the tags in the same call."""

    idempotent = True
    settling = 60.0

    def __init__(self, environment: Environment, *, account_limits: bool) -> None:
        clock = environment.clock
        self._environment = environment
        self._account_limits = account_limits
        self._images = Catalogue("image of this account", "image", clock)
        self._subnets = Catalogue("subnet", "networks", clock)
        self._groups = Catalogue("security group", "security_groups", clock)

    def forget(self) -> None:
        """Look images, subnets and groups up anew."""
        for catalogue in (self._images, self._subnets, self._groups):
            catalogue.forget()

    # Create.

    def order(self, line: Line, request: VmRequest, user_data: str | None) -> Order:
        """The arguments of ``create_node``, and under ``more`` the parameters beyond them."""
        api: Ec2Api = line.driver
        options = request.type.options
        _check_arguments(api, options["arguments"])
        image = self._id("image", options["image"], self._images, _own_images(api))
        networks = [
            self._id("subnet", name, self._subnets, _subnets(api)) for name in options["networks"]
        ]
        groups = [
            self._id("security group", name, self._groups, _groups(api))
            for name in options["security_groups"]
        ]
        more = {
            **_tag_specifications({NAME: request.name, **request.tags}),
            **_interfaces(networks, groups, options["arguments"].get("ex_assign_public_ip")),
        }
        if "availability_zone" in options:
            more["Placement.AvailabilityZone"] = options["availability_zone"]
        return {
            **options["arguments"],
            "name": request.name,
            "size": NodeSize(options["size"], "", 0, 0, 0, 0, api),
            "image": NodeImage(image, "", api),
            "ex_keyname": options.get("key_name"),
            "ex_userdata": user_data,
            "more": more,
        }

    def create(self, line: Line, request: VmRequest, order: Order) -> Instance:
        """One ``RunInstances``. When its client token was used before, what that made is
        returned, if it is there; if it is gone, there is a second with a new token."""
        attempt = request.tags.get(identity.TAG_ATTEMPT, "1")
        token = f"{request.id}-{attempt}"
        try:
            return self._run(line, request, order, token)
        except Ec2Refusal as refusal:
            if refusal.code not in TOKEN_USED:
                raise
            existing = self._made_before(line, request, attempt, refusal)
        if existing is not None:
            return existing
        placed_at = request.tags.get(identity.TAG_PLACED_AT, "")
        again = hashlib.sha256(placed_at.encode()).hexdigest()[:16]
        return self._run(line, request, order, f"{token}-{again}")

    def _run(self, line: Line, request: VmRequest, order: Order, token: str) -> Instance:
        instance = line.driver.run(**order, ex_clienttoken=token)
        if instance is None:
            raise OutcomeUnknown("EC2 answered without saying what it made")
        if not identity.is_ours(instance.tags, request.application):
            line.driver.call("TerminateInstances", **{"InstanceId.1": instance.cloud_id})
            raise InvalidRequest(
                "the cloud made the VM without the tags that came with the request, so it was "
                "removed again: this API is not compatible with EC2 in what isoneph needs"
            )
        if instance.state is None:
            raise OutcomeUnknown(f"{instance.cloud_id} was terminated while it was created")
        return self._shown(line, instance)

    def _made_before(
        self, line: Line, request: VmRequest, attempt: str, refusal: Ec2Refusal
    ) -> Instance | None:
        """What was made with the request's token: EC2 may take a moment to show it."""
        clock = self._environment.clock
        until = clock.monotonic() + TOKEN_PATIENCE
        while True:
            made = [
                instance
                for instance in _described(line, {f"tag:{identity.TAG_ID}": request.id})
                if instance.tags.get(identity.TAG_ATTEMPT) == attempt
                and identity.is_ours(instance.tags, request.application)
            ]
            for instance in made:
                if instance.state is not None:
                    return self._shown(line, instance)
            if made or clock.monotonic() >= until or "Terminated" in refusal.code:
                return None
            clock.pause(_PAUSE)

    def _id(self, kind: str, wanted: str, known: Catalogue, read: partial[Iterator[Entry]]) -> str:
        """An id as it is, EC2 tells if there is no such thing; a name is looked up."""
        return wanted if wanted.startswith(_IDS[kind]) else known.find(wanted, read).id

    # Look.

    def instances(self, line: Line, application: str) -> Iterable[Instance]:
        """Those with the application's tag."""
        found = _described(line, {f"tag:{identity.TAG_APPLICATION}": application})
        return [self._shown(line, instance) for instance in found]

    def by_id(self, line: Line, cloud_ids: Collection[str]) -> Iterable[Instance]:
        """Asked for by a filter: it takes ids that are not known, or none at all."""
        found = _described(line, {"instance-id": list(cloud_ids)[:FILTER_VALUES]})
        return [self._shown(line, instance) for instance in found]

    def count(self, line: Line) -> int:
        """All that is not terminated."""
        path = "reservationSet/item/instancesSet/item"
        filters = {"instance-state-name": list(_COUNTED)}
        return sum(1 for _ in line.driver.pages("DescribeInstances", path, filters))

    def most(self, line: Line) -> int | None:
        """The account's ``max-instances``, where the options say that it is to be believed."""
        if not self._account_limits:
            return None
        name = "max-instances"
        answer = line.driver.call("DescribeAccountAttributes", **{"AttributeName.1": name})
        for item in answer.findall(at("accountAttributeSet/item")):
            if text_of(item, "attributeName") == name:
                value = text_of(item, "attributeValueSet/item/attributeValue")
                return int(value) if value.isdecimal() else None
        return None

    def _shown(self, line: Line, instance: Instance) -> Instance:
        """With its addresses by the names of subnets, and without the name that we gave it
        among its tags."""
        tags = dict(instance.tags)
        name = identity.name_of(
            tags.get(identity.TAG_APPLICATION, ""),
            tags.get(identity.TAG_TYPE, ""),
            tags.get(identity.TAG_ID, ""),
        )
        if tags.get(NAME) == name:
            del tags[NAME]
        addresses: dict[str, Sequence[str]] = {}
        for network, ones in instance.addresses.items():
            called = network if network == PUBLIC else self._subnet_name(line, network)
            addresses[called] = (*addresses.get(called, ()), *ones)
        return dataclasses.replace(instance, name=name, tags=tags, addresses=addresses)

    def _subnet_name(self, line: Line, subnet: str) -> str:
        try:
            return self._subnets.name_of(subnet, _subnets(line.driver))
        except (Ec2Refusal, CloudError, RequestException):  # their ids will do
            return self._subnets.name_of(subnet, partial(iter, ()))

    # Remove.

    def delete(self, line: Line, vm: Vm) -> bool:
        """Terminate it: EC2 never gives its id out again. What failed to launch is terminated
        already; it loses our tags, so that nobody takes it for a VM that is wanted."""
        ended = vm.state is VmState.ERROR
        try:
            if not ended:
                answer = line.driver.call("TerminateInstances", **{"InstanceId.1": vm.cloud_id})
                before = text_of(answer, "instancesSet/item/previousState/name")
                ended = before == "terminated"
            if ended:
                keys = (identity.TAG_APPLICATION, identity.TAG_ID)
                tags = {f"Tag.{n}.Key": key for n, key in enumerate(keys, 1)}
                line.driver.call("DeleteTags", **{"ResourceId.1": vm.cloud_id, **tags})
        except Ec2Refusal as refusal:
            if refusal.code not in GONE["instance"]:
                raise
            return False
        return True

    def leftovers(self, line: Line, application: str) -> Iterator[Leftover]:
        """Volumes and interfaces with our tags that nothing holds."""
        filters = {f"tag:{identity.TAG_APPLICATION}": application, "status": "available"}
        for kind, (listing, path, cloud_id, *_) in _LEFT.items():
            for item in line.driver.pages(listing, path, filters):
                tags = tags_of(item)
                if identity.is_ours(tags, application):
                    yield Leftover(
                        cloud=self._environment.name,
                        kind=kind,
                        cloud_id=text_of(item, cloud_id),
                        vm_id=tags[identity.TAG_ID],
                    )

    def delete_leftover(self, line: Line, leftover: Leftover) -> None:
        """EC2 itself refuses what is in use after all."""
        *_, action, parameter = _LEFT[leftover.kind]
        try:
            line.driver.call(action, **{parameter: leftover.cloud_id})
        except Ec2Refusal as refusal:
            if refusal.code not in GONE[leftover.kind]:
                raise

    def told(self, error: Exception, call: Call, line: Line | None) -> Told | None:
        """By EC2's code, where there is one."""
        if isinstance(error, Ec2Refusal):
            return ec2_refusals.told(error, call, line)
        return refusals.told(error, call, line)


def _described(line: Line, filters: Mapping[str, Any]) -> Iterator[Instance]:
    path = "reservationSet/item/instancesSet/item"
    for element in line.driver.pages("DescribeInstances", path, filters):
        yield instance_of(element)


def _own_images(api: Ec2Api) -> partial[Iterator[Entry]]:
    return partial(_entries, api, "DescribeImages", "imagesSet/item", "imageId", "name")


def _subnets(api: Ec2Api) -> partial[Iterator[Entry]]:
    return partial(_entries, api, "DescribeSubnets", "subnetSet/item", "subnetId")


def _groups(api: Ec2Api) -> partial[Iterator[Entry]]:
    path = "securityGroupInfo/item"
    return partial(_entries, api, "DescribeSecurityGroups", path, "groupId", "groupName")


def _entries(
    api: Ec2Api, action: str, path: str, cloud_id: str, name: str | None = None
) -> Iterator[Entry]:
    """What can be named: by the name that it has, or the one that a tag gives it."""
    owner = {"Owner.1": "self"} if action == "DescribeImages" else {}
    for item in api.call(action, **owner).findall(at(path)):
        called = text_of(item, name) if name else tags_of(item).get(NAME, "")
        yield Entry(text_of(item, cloud_id), called)


def _tag_specifications(tags: Mapping[str, str]) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for n, kind in enumerate(TAGGED, 1):
        parameters[f"TagSpecification.{n}.ResourceType"] = kind
        for m, (key, value) in enumerate(tags.items(), 1):
            parameters[f"TagSpecification.{n}.Tag.{m}.Key"] = key
            parameters[f"TagSpecification.{n}.Tag.{m}.Value"] = value
    return parameters


def _interfaces(networks: Sequence[str], groups: Sequence[str], public: object) -> dict[str, str]:
    """Groups are those of the instance, or of each interface once there is one in the request."""
    if not networks and not public:
        return {f"SecurityGroupId.{n}": group for n, group in enumerate(groups, 1)}
    parameters: dict[str, str] = {}
    for n, subnet in enumerate(networks or [""], 1):
        interface = f"NetworkInterface.{n}"
        parameters[f"{interface}.DeviceIndex"] = str(n - 1)
        parameters[f"{interface}.DeleteOnTermination"] = "true"
        if subnet:
            parameters[f"{interface}.SubnetId"] = subnet
        for m, group in enumerate(groups, 1):
            parameters[f"{interface}.SecurityGroupId.{m}"] = group
    return parameters


def _check_arguments(api: Ec2Api, arguments: Mapping[str, Any]) -> None:
    known = inspect.signature(api.create_node).parameters
    for name in arguments:
        if name not in known:
            hint = nearest(name, [each for each in known if each.startswith("ex_")])
            raise WrongOption("arguments", f"libcloud's create_node takes no '{name}'; {hint}")
