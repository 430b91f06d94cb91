"""How a provider is spoken to in libcloud's own terms, whichever it is."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from libcloud.compute.types import NodeState

from isoneph.core import identity
from isoneph.core.errors import InvalidRequest, NoCapacity, QuotaExceeded
from isoneph.core.model import Vm, VmRequest, VmState
from isoneph.core.plugin import Environment
from isoneph.plugins.clouds.libcloud import refusals
from isoneph.plugins.clouds.libcloud.instances import Call, Dialect, Instance, Order, Told
from isoneph.plugins.clouds.libcloud.lookups import Catalogue, Entry
from isoneph.plugins.clouds.libcloud.providers import nearest
from isoneph.plugins.clouds.libcloud.transport import Line
from isoneph.plugins.clouds.libcloud.values import WrongOption

#: States by libcloud's; what it does not know itself is UNKNOWN, and TERMINATED is gone.
STATES: Mapping[NodeState, VmState | None] = {
    NodeState.PENDING: VmState.BUILDING,
    NodeState.RUNNING: VmState.ACTIVE,
    NodeState.REBOOTING: VmState.ACTIVE,
    NodeState.STARTING: VmState.BUILDING,
    NodeState.RECONFIGURING: VmState.ACTIVE,
    NodeState.UPDATING: VmState.ACTIVE,
    NodeState.MIGRATING: VmState.ACTIVE,
    NodeState.STOPPED: VmState.STOPPED,
    NodeState.STOPPING: VmState.STOPPED,
    NodeState.SUSPENDED: VmState.STOPPED,
    NodeState.PAUSED: VmState.STOPPED,
    NodeState.ERROR: VmState.ERROR,
    NodeState.TERMINATED: None,
}
#: Where the tags of a node are in its ``extra``, by the argument that took them.
_TAGS_IN = {"ex_metadata": "metadata", "ex_labels": "labels", "ex_tags": "tags"}
#: Options by the arguments of ``create_node`` that they may go to, the first that it has.
_KEY_NAME = ("ex_keyname", "ex_key_name", "ex_keypair_name")
_USER_DATA = ("ex_userdata", "ex_user_data")
_ZONE = ("ex_availability_zone",)
_CAPACITY = ("No valid host", "nsufficient", "apacity")


class Plain(Dialect):
    """A provider that takes tags in ``create_node``, and says nothing of repeated creates."""

    def __init__(self, environment: Environment, tag_argument: str) -> None:
        clock = environment.clock
        self._tag_argument = tag_argument
        self._sizes = Catalogue("size", "size", clock)
        self._images = Catalogue("image", "image", clock)
        self._networks = Catalogue("network", "networks", clock)
        self._groups = Catalogue("security group", "security_groups", clock)
        self._locations = Catalogue("location", "availability_zone", clock)

    def forget(self) -> None:
        """Look everything up anew."""
        machine = (self._sizes, self._images, self._locations)
        for catalogue in (*machine, self._networks, self._groups):
            catalogue.forget()

    # Create.

    def order(self, line: Line, request: VmRequest, user_data: str | None) -> Order:
        """The arguments of ``create_node``."""
        options = request.type.options
        driver = line.driver
        takes = inspect.signature(driver.create_node).parameters
        for name in options["arguments"]:
            if name not in takes:
                text = f"libcloud's create_node takes no '{name}'; {nearest(name, list(takes))}"
                raise WrongOption("arguments", text)
        order = {
            **options["arguments"],
            "name": request.name,
            "size": self._sizes.find(options["size"], _listed(driver.list_sizes)).thing,
            "image": self._images.find(options["image"], _listed(driver.list_images)).thing,
            self._tag_argument: dict(request.tags),
        }
        texts = (
            ("key_name", options.get("key_name"), _KEY_NAME),
            ("user_data", user_data, _USER_DATA),
        )
        for option, given, arguments in texts:
            if given is not None:
                order[_first(takes, arguments, option)] = given
        for option, argument, catalogue, listing in (
            ("networks", "networks", self._networks, "ex_list_networks"),
            ("security_groups", "ex_security_groups", self._groups, "ex_list_security_groups"),
        ):
            if options[option]:
                named = _first(takes, (argument,), option)
                read = _listed(getattr(driver, listing))
                order[named] = [catalogue.find(name, read).thing for name in options[option]]
        return {**order, **self._zone(driver, options, takes)}

    def _zone(
        self, driver: Any, options: Mapping[str, Any], takes: Collection[str]
    ) -> dict[str, Any]:
        zone = options.get("availability_zone")
        if zone is None:
            return {}
        argument = _first(takes, (*_ZONE, "location"), "availability_zone")
        if argument != "location":
            return {argument: zone}
        return {argument: self._locations.find(zone, _listed(driver.list_locations)).thing}

    def create(self, line: Line, request: VmRequest, order: Order) -> Instance:
        """``create_node``. A VM that came without its tags is removed again."""
        node = line.driver.create_node(**order)
        instance = self._instance(node)
        if not identity.is_ours(instance.tags, request.application):
            line.driver.destroy_node(node)
            raise InvalidRequest(
                "the provider made the VM without the tags that came with the request, so it was "
                "removed again: it cannot be used"
            )
        return instance

    # Look.

    def instances(self, line: Line, application: str) -> Iterable[Instance]:
        """All of the account: libcloud has no filter that all providers share."""
        return [self._instance(node) for node in line.driver.list_nodes()]

    def by_id(self, line: Line, cloud_ids: Collection[str]) -> Iterator[Instance]:
        """One by one where libcloud can, else out of all."""
        for node in _nodes(line.driver, cloud_ids):
            yield self._instance(node)

    def count(self, line: Line) -> int:
        """All nodes."""
        return len(line.driver.list_nodes())

    def delete(self, line: Line, vm: Vm) -> bool:
        """``destroy_node``, of a node that carries the VM's tags."""
        for node in _nodes(line.driver, (vm.cloud_id,)):
            tags = self._instance(node).tags
            if identity.is_ours(tags, vm.application) and tags[identity.TAG_ID] == vm.id:
                line.driver.destroy_node(node)
                return True
        return False

    def told(self, error: Exception, call: Call, line: Line | None) -> Told | None:
        """What libcloud tells of all providers alike."""
        return refusals.told(error, call, line)

    def _instance(self, node: Any) -> Instance:
        extra = node.extra or {}
        tags = extra.get(_TAGS_IN[self._tag_argument])
        state = STATES.get(node.state, VmState.UNKNOWN)
        fault = _fault(extra) if state is VmState.ERROR else None
        return Instance(
            cloud_id=str(node.id),
            name=str(node.name),
            state=state,
            tags={str(k): str(v) for k, v in tags.items()} if isinstance(tags, Mapping) else {},
            addresses=_addresses(node),
            fault=fault,
            fault_code=_fault_code(fault),
        )


def _listed(listing: Callable[[], Sequence[Any]]) -> Callable[[], Iterator[Entry]]:
    return partial(_entries, listing)


def _entries(listing: Callable[[], Sequence[Any]]) -> Iterator[Entry]:
    for thing in listing():
        yield Entry(str(thing.id), str(thing.name or ""), thing)


def _first(takes: Collection[str], arguments: Sequence[str], option: str) -> str:
    for argument in arguments:
        if argument in takes:
            return argument
    raise WrongOption(option, "libcloud has no such thing for this provider; remove it")


def _nodes(driver: Any, cloud_ids: Collection[str]) -> Iterator[Any]:
    """The nodes of these ids that there are."""
    details = getattr(driver, "ex_get_node_details", None)
    if details is None:
        yield from (node for node in driver.list_nodes() if str(node.id) in cloud_ids)
        return
    for cloud_id in cloud_ids:
        node = details(cloud_id)
        if node is not None:
            yield node


def _addresses(node: Any) -> Mapping[str, tuple[str, ...]]:
    """By network where the provider names them, as OpenStack does, else private and public."""
    named = (node.extra or {}).get("addresses")
    if isinstance(named, Mapping) and named:
        return {
            str(network): tuple(str(each["addr"]) for each in ones)
            for network, ones in named.items()
        }
    both = {"private": tuple(node.private_ips or ()), "public": tuple(node.public_ips or ())}
    return {network: ones for network, ones in both.items() if ones}


def _fault(extra: Mapping[str, Any]) -> str:
    fault = extra.get("fault")
    text = fault.get("message") if isinstance(fault, Mapping) else fault
    return str(text or "the provider says no more than that it failed")


def _fault_code(fault: str | None) -> str | None:
    if fault is None:
        return None
    if any(word in fault for word in _CAPACITY):
        return NoCapacity.code
    return QuotaExceeded.code if "uota" in fault else None
