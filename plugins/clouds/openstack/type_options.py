"""What a VM type can say to this driver: what ``POST /servers`` is told of each of its VMs.

https://docs.openstack.org/api-ref/compute/#create-server
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from voluptuous import All, Exclusive, In, Invalid, Length, Optional, Required
from voluptuous import Any as OneOf

from isoneph.core.identity import PREFIX
from isoneph.core.plugin import OptionSchema
from isoneph.plugins.clouds.openstack.marks import LONGEST_WORDS
from isoneph.plugins.clouds.openstack.user_data import PLACEHOLDERS, template, template_file
from isoneph.plugins.clouds.openstack.values import address, flag, line, name, unique, whole

#: Networks that Nova chooses, and no network at all.
AUTO, NONE = "auto", "none"
POLICIES = ("anti-affinity", "soft-anti-affinity", "affinity", "soft-affinity")
#: Nova takes 128 items; isoneph needs some of them for its own tags and those of users.
MOST_METADATA = 96

_MOST_SERVER_TAGS = 50
_SERVER_TAG = re.compile(r"[^,/]{1,60}")
_METADATA_KEY = re.compile(r"[A-Za-z0-9_:. -]{1,255}")
_MOST_VOLUME_GB = 1_000_000


def _server_tag(value: object) -> str:
    if not isinstance(value, str) or not _SERVER_TAG.fullmatch(value):
        raise Invalid("expected a text of 1 to 60 characters without comma and slash")
    return value


def _metadata_key(value: object) -> str:
    if not isinstance(value, str) or not _METADATA_KEY.fullmatch(value):
        raise Invalid("expected a name of letters, digits, '_', '-', ':', '.' and spaces")
    if value.startswith(PREFIX):
        raise Invalid(f"names that begin with {PREFIX} are isoneph's own")
    return value


def _hint(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise Invalid("expected the name of a hint")
    if value == "group":
        raise Invalid("say in option `server_group` which one")
    return value


_NETWORK = OneOf(
    name,
    {
        Required("network", description="Its name or id."): name,
        Optional(
            "fixed_ip", description="The address to have there; then one VM can have the type."
        ): address,
    },
)

TYPE_OPTIONS: OptionSchema = {
    Required("flavor", description="The flavor's name or id."): name,
    Required("image", description="The image's name or id."): name,
    Optional(
        "boot_volume",
        description="Boot from a new volume with a copy of the image, not from a local disk.",
    ): {
        Required("size_gb", description="Its size in GiB."): whole(1, _MOST_VOLUME_GB),
        Optional("volume_type", description="Its type; the cloud's own choice by default."): name,
        Optional(
            "delete_on_termination",
            default=True,
            description="Whether it goes when its VM is deleted.",
        ): flag,
    },
    Optional(
        "networks",
        default=AUTO,
        description="The networks in the order of the VM's interfaces: a list of names or ids, "
        "or of mappings that also ask for an address. `auto` is the project's only network, or "
        "whatever the cloud provides; `none` leaves the VM without any.",
    ): OneOf(
        In((AUTO, NONE)),
        All([_NETWORK], Length(min=1, msg="expected at least one network, auto or none")),
    ),
    Optional(
        "floating_network",
        description="The external network from which the VM gets a floating IP, for its address "
        "on the first of `networks`.",
    ): name,
    Optional(
        "security_groups",
        description="The security groups of all its interfaces; `default` by default.",
    ): All([name], unique),
    Optional("key_name", description="The keypair whose public key the VM gets."): name,
    Exclusive(
        "user_data",
        "user data",
        msg="expected one of user_data, user_data_file",
        description="What cloud-init or the like does in the VM, as text. "
        + ", ".join(f"`{{{{isoneph.{word}}}}}`" for word in PLACEHOLDERS)
        + " stand for what they say; all else is left as it is.",
    ): template,
    Exclusive(
        "user_data_file",
        "user data",
        msg="expected one of user_data, user_data_file",
        description="A file with such a text.",
    ): template_file,
    Optional(
        "relay", description="What `{{isoneph.relay}}` stands for: where the VM finds its relay."
    ): line(255),
    Optional("availability_zone", description="The availability zone to be in."): name,
    Optional(
        "server_group",
        description="How the VMs of this type are to be spread over hosts.",
    ): All(
        {
            Exclusive(
                "policy",
                "server group",
                description="A group with this policy is made when the first VM needs it, and "
                "removed when the last one is gone.",
            ): In(POLICIES),
            Exclusive(
                "name", "server group", description="A group that is there, by name or id."
            ): name,
        },
        Length(min=1, msg="expected one of policy, name"),
    ),
    Optional(
        "scheduler_hints", description="What Nova's scheduler is told, as the cloud defines it."
    ): {_hint: object},
    Optional(
        "config_drive", description="Whether the VM also finds its user data on a drive."
    ): flag,
    Optional(
        "description",
        description=f"What Nova shows of the VM, in up to {LONGEST_WORDS} characters; isoneph "
        "adds whose VM it is.",
    ): line(LONGEST_WORDS),
    Optional("tags", description="Nova's tags of the VM, for other tools; not isoneph's own."): All(
        [_server_tag], unique, Length(max=_MOST_SERVER_TAGS)
    ),
    Optional(
        "metadata",
        description="Further metadata of the VM; isoneph shows it among the VM's tags.",
    ): All({_metadata_key: line(255)}, Length(max=MOST_METADATA)),
}


def takes(options: Mapping[str, Any]) -> Mapping[str, float]:
    """What a VM takes of the project's limits, as far as its options tell; what it takes of
    ``cores`` and ``ram`` only its flavor knows."""
    networks = options.get("networks", AUTO)
    ports = {AUTO: 1, NONE: 0}[networks] if isinstance(networks, str) else len(networks)
    taken: dict[str, float] = {"ports": ports} if ports else {}
    if "floating_network" in options:
        taken["floating_ips"] = 1
    if "boot_volume" in options:
        taken |= {"volumes": 1, "gigabytes": options["boot_volume"]["size_gb"]}
    return taken
