"""Libcloud's EC2 node driver, with what isoneph needs beyond it.

- Requests are POSTs: user data may be longer than a URL.
- One ``RunInstances`` carries the tags of the instance, its volumes and its interfaces.
- Listings are read page by page, and an error keeps its code.

https://docs.aws.amazon.com/AWSEC2/latest/APIReference/
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from libcloud.compute.base import Node
from libcloud.compute.drivers.ec2 import (
    API_VERSION,
    NAMESPACE,
    EC2Connection,
    EC2NodeDriver,
    EC2Response,
)
from libcloud.compute.types import NodeState

from isoneph.core.model import VmState
from isoneph.plugins.clouds.libcloud import ec2_refusals
from isoneph.plugins.clouds.libcloud.ec2_refusals import Ec2Refusal
from isoneph.plugins.clouds.libcloud.instances import Instance

#: What a page of a listing may hold at most: EC2 takes no more.
PAGE = 1000
#: What EC2 calls instances whose launch failed: they are terminated, and nobody did it.
FAILED_LAUNCHES = frozenset(
    {
        *("Server.InternalError", "Server.InsufficientInstanceCapacity"),
        *("Client.InternalError", "Client.InvalidSnapshot.NotFound"),
        "Client.VolumeLimitExceeded",
    }
)
NAME = "Name"
PUBLIC, PRIVATE = "public", "private"

_STATES: Mapping[str, VmState] = {
    "pending": VmState.BUILDING,
    "running": VmState.ACTIVE,
    "stopping": VmState.STOPPED,
    "stopped": VmState.STOPPED,
    "shutting-down": VmState.DELETING,
}
_FORM = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
_XMLNS = re.compile(r' xmlns="[^"]*"')


class Ec2Response(EC2Response):
    """An answer of EC2, or of what is compatible with it but for the namespace."""

    def parse_body(self) -> Any:
        """The answer as an element of libcloud's namespace."""
        self.body = _XMLNS.sub(f' xmlns="{NAMESPACE}"', str(self.body), count=1)
        return super().parse_body()  # type: ignore[no-untyped-call]  # libcloud has few types

    def parse_error(self) -> Any:
        """Raises Ec2Refusal."""
        code = text = ""
        try:
            for element in ET.XML(str(self.body)).iter():
                name = element.tag.rpartition("}")[2]
                code = code or (name == "Code" and element.text) or ""
                text = text or (name == "Message" and element.text) or ""
        except ET.ParseError:
            text = "the answer is not one of EC2"
        raise Ec2Refusal(code, text, int(self.status))


class Ec2Connection(EC2Connection):
    """Libcloud's connection, with POST for GET. ``more`` is added to each request."""

    responseCls = Ec2Response  # noqa: N815 (libcloud's name)
    more: Mapping[str, str] = {}

    def request(self, action: str, params: Any = None, *_: Any, **__: Any) -> Any:
        """Send one request."""
        form = {"Version": API_VERSION, **(params or {}), **self.more}
        send: Any = super().request
        return send(action, data=urlencode(form), headers=_FORM, method="POST")


class Ec2Api(EC2NodeDriver):
    """Libcloud's node driver for EC2."""

    connectionCls = Ec2Connection  # noqa: N815 (libcloud's name)

    def run(self, more: Mapping[str, str], **arguments: Any) -> Instance | None:
        """One ``RunInstances``: that of ``create_node``, with ``more``; None when the answer
        holds no instance."""
        connection: Any = self.connection
        create: Any = self.create_node
        connection.more = more
        try:
            node = create(**arguments)
        finally:
            connection.more = {}
        return node.extra["instance"] if isinstance(node, Node) else None

    def call(self, action: str, **parameters: str) -> Any:
        """One request by the name of its action; the answer as an element."""
        send: Any = self.connection.request
        return send(self.path, {"Action": action, **parameters}).object

    def pages(self, action: str, path: str, filters: Mapping[str, Any]) -> Iterator[Any]:
        """The elements at ``path`` of all pages of a listing."""
        build: Any = self._build_filters
        parameters = {"MaxResults": str(PAGE), **build(filters)}
        while True:
            answer = self.call(action, **parameters)
            yield from answer.findall(at(path))
            token = text_of(answer, "nextToken")
            if not token:
                return
            parameters["NextToken"] = token

    def _to_node(self, element: Any) -> Node:
        """What ``create_node`` makes of an answer: ours, in libcloud's wrapping."""
        instance = instance_of(element)
        extra = {"instance": instance}
        return Node(instance.cloud_id, "", NodeState.UNKNOWN, [], [], self, extra=extra)


def at(path: str) -> str:
    """A path with EC2's namespace at each step."""
    return "/".join(f"{{{NAMESPACE}}}{step}" for step in path.split("/"))


def text_of(element: Any, path: str) -> str:
    """The text at ``path``, or an empty one."""
    return str(element.findtext(at(path)) or "")


def tags_of(element: Any) -> dict[str, str]:
    """The tags of a resource."""
    return {
        text_of(item, "key"): text_of(item, "value") for item in element.findall(at("tagSet/item"))
    }


def instance_of(element: Any) -> Instance:
    """An instance as ``DescribeInstances`` and ``RunInstances`` show it; addresses are by the
    id of their subnet."""
    state = _STATES.get(text_of(element, "instanceState/name"))
    reason = text_of(element, "stateReason/code")
    fault = text_of(element, "stateReason/message") or reason
    failed = state is None and reason in FAILED_LAUNCHES
    tags = tags_of(element)
    return Instance(
        cloud_id=text_of(element, "instanceId"),
        name=tags.get(NAME, ""),
        state=VmState.ERROR if failed else state,
        tags=tags,
        addresses=_addresses(element),
        fault=fault if failed else None,
        fault_code=ec2_refusals.fault_code(reason) if failed else None,
    )


def _addresses(element: Any) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for interface in element.findall(at("networkInterfaceSet/item")):
        subnet = text_of(interface, "subnetId") or PRIVATE
        addresses = found.setdefault(subnet, [])
        for item in interface.findall(at("privateIpAddressesSet/item")):
            addresses.append(text_of(item, "privateIpAddress"))
        for item in interface.findall(at("ipv6AddressesSet/item")):
            addresses.append(text_of(item, "ipv6Address"))
    private, public = text_of(element, "privateIpAddress"), text_of(element, "ipAddress")
    if private and not found:
        found[text_of(element, "subnetId") or PRIVATE] = [private]
    if public:
        found[PUBLIC] = [public]
    return {network: tuple(filter(None, ones)) for network, ones in found.items() if any(ones)}
