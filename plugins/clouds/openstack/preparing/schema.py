"""How an application describes what is to be there on its OpenStack clouds: ``prepare``.

One description serves all clouds of the driver. What is different on single clouds is a mapping
by cloud; what only some clouds are to have says so under ``only``. What the description leaves
out is left to the cloud, and not compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from voluptuous import All, Exclusive, In, Inclusive, Invalid, Length, Optional, Required

from isoneph.core.plugin import OptionSchema
from isoneph.plugins.clouds.openstack.preparing.values import (
    ANY_PROTOCOL,
    PROTOCOL_NUMBERS,
    address_ranges,
    checksum,
    cloud_name,
    gateway,
    image_property,
    path,
    per_cloud,
    ports,
    prefix,
    protocol,
    public_key,
    remote,
)
from isoneph.plugins.clouds.openstack.values import address, flag, name, whole

#: Keys whose value may be a mapping by cloud.
PER_CLOUD = frozenset(
    {
        "checksum",
        "disk_format",
        "dns",
        "external",
        "file",
        "gateway",
        "mtu",
        "physical_network",
        "pools",
        "vlan",
    }
)

_PROTOCOLS_WITH_PORTS = {"tcp", "udp", "sctp", "dccp", "udplite"}
_NUMBERS_WITH_PORTS = {str(PROTOCOL_NUMBERS[name]) for name in _PROTOCOLS_WITH_PORTS}
_MAX_VLAN = 4094
_SMALLEST_MTU, _LARGEST_MTU = 68, 65535

_ONLY = Optional("only", description="The clouds that are to have it; by default all.")


def _rule(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """What must hold between the keys of a rule."""
    given = value.get("protocol", ANY_PROTOCOL)
    if "ports" in value and given not in _PROTOCOLS_WITH_PORTS | _NUMBERS_WITH_PORTS:
        known = ", ".join(sorted(_PROTOCOLS_WITH_PORTS))
        raise Invalid(f"expected no ports, or a protocol that has them: {known}")
    other = value.get("from", value.get("to", ""))
    version = "IPv6" if ":" in other else "IPv4"
    if "/" in other and value.get("ethertype", version) != version:
        raise Invalid(f"{other} is an {version} network, expected that as ethertype, or none")
    return value


def _keypair(value: Mapping[str, Any]) -> Mapping[str, Any]:
    if not value:
        raise Invalid("expected public_key or public_key_file")
    return value


SUBNET: OptionSchema = {
    Optional(
        "gateway",
        description="The address of its gateway, for all clouds or by cloud, or `none`; by "
        "default the subnet's first address.",
    ): per_cloud(gateway),
    Optional(
        "pools",
        description="The addresses that each cloud gives to VMs, by cloud: a range such as "
        "`10.1.0.2-10.1.0.100`, or a list of them. Required where several clouds share a VLAN; "
        "no two clouds may have an address in common.",
    ): {cloud_name: address_ranges},
    Optional(
        "dns", description="The DNS servers that VMs are told, for all clouds or by cloud."
    ): per_cloud([address]),
    Optional("dhcp", description="Whether the cloud answers DHCP here."): flag,
    Optional("routes", description="Further routes that VMs are told: network to next hop."): {
        prefix: address
    },
    Optional("ipv6_mode", description="How VMs come to an IPv6 address."): In(
        ["slaac", "dhcpv6-stateful", "dhcpv6-stateless"]
    ),
}

NETWORK: OptionSchema = {
    Required("subnets", description="Its subnets, by prefix."): All(
        {prefix: SUBNET}, Length(min=1, msg="there is no subnet; expected at least one")
    ),
    Inclusive(
        "vlan",
        "provider",
        description="Its VLAN, for all clouds or by cloud, which makes it a provider network: "
        "as a rule only an administrator can make one (`--admin`).",
    ): per_cloud(whole(1, _MAX_VLAN)),
    Inclusive(
        "physical_network",
        "provider",
        description="Where the VLAN is: the physical network's name in Neutron, for all clouds "
        "or by cloud.",
    ): per_cloud(name),
    Optional("mtu", description="Its MTU in bytes, for all clouds or by cloud."): per_cloud(
        whole(_SMALLEST_MTU, _LARGEST_MTU)
    ),
    Optional(
        "port_security",
        description="Whether its ports drop what does not come from their own addresses; without "
        "it security groups have no effect either.",
    ): flag,
    Optional(
        "router", description="The router, one of `routers`, that all of its subnets are on."
    ): name,
    _ONLY: [cloud_name],
}

ROUTER: OptionSchema = {
    Optional(
        "external",
        description="The external network that it leads to, for all clouds or by cloud.",
    ): per_cloud(name),
    _ONLY: [cloud_name],
}

RULE: OptionSchema = {
    Optional(
        "protocol",
        default=ANY_PROTOCOL,
        description="Its protocol's name or number; by default any.",
    ): protocol,
    Optional("ports", description="A port, or a range such as `7000-7002`."): ports,
    Exclusive(
        "from",
        "direction",
        description="Where traffic to the VM may come from: a network, or a security group; by "
        "default anywhere.",
    ): remote,
    Exclusive(
        "to",
        "direction",
        description="Where traffic of the VM may go: a network, or a security group. Once a group "
        "has such a rule, the leave to go anywhere that Neutron gives to every group is "
        "described no more.",
    ): remote,
    Optional(
        "ethertype",
        description="By default that of the network in `from` or `to`, else IPv4.",
    ): In(["IPv4", "IPv6"]),
}

KEYPAIR: OptionSchema = {
    Exclusive("public_key", "key", description="The public key, as OpenSSH writes it."): public_key,
    Exclusive(
        "public_key_file",
        "key",
        description="The file that has it, by an absolute path or one that begins with `~/`.",
    ): path,
    _ONLY: [cloud_name],
}

IMAGE: OptionSchema = {
    Required(
        "file",
        description="The file that is uploaded when the image is missing, for all clouds or by "
        "cloud, by an absolute path or one that begins with `~/`.",
    ): per_cloud(path),
    Required(
        "disk_format", description="The file's format, for all clouds or by cloud."
    ): per_cloud(In(["qcow2", "raw", "vmdk", "vdi", "vhd", "vhdx", "iso", "ploop"])),
    Optional("container_format", default="bare", description="What the disk is wrapped in."): In(
        ["bare", "ovf", "ova", "docker", "ami", "aki", "ari", "compressed"]
    ),
    Optional(
        "checksum",
        description="The file's SHA-512, SHA-256 or MD5 digest, for all clouds or by cloud. With "
        "one that the cloud keeps too (as a rule SHA-512), the file is not read when the image "
        "is there.",
    ): per_cloud(checksum),
    Optional(
        "visibility",
        description="Who sees it; as a rule only an administrator can make it public (`--admin`).",
    ): In(["private", "shared", "community", "public"]),
    Optional("properties", description="Further properties, such as `hw_vif_model`."): {
        name: image_property
    },
    Optional("min_disk", description="GiB of disk that it needs."): whole(0, 2**31 - 1),
    Optional("min_ram", description="MiB of memory that it needs."): whole(0, 2**31 - 1),
    _ONLY: [cloud_name],
}

PREPARE_SCHEMA: OptionSchema = {
    Optional(
        "networks",
        description="Networks by name: tenant networks, or with `vlan` provider networks.",
    ): {name: NETWORK},
    Optional("routers", description="Routers by name."): {name: ROUTER},
    Optional(
        "security_groups",
        description="Security groups by name, each a list of rules. `default` is the project's "
        "own. The leave to go anywhere that Neutron gives to every group, and in `default` the "
        "leave to reach each other, need not be described.",
    ): {name: [All(RULE, _rule)]},
    Optional(
        "keypairs", description="SSH keys by name; they belong to the user of the credentials."
    ): {name: All(KEYPAIR, _keypair)},
    Optional("images", description="Images by name."): {name: IMAGE},
}
