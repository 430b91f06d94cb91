"""The body of ``POST /servers``: all that a server is told, in one request.

https://docs.openstack.org/api-ref/compute/#create-server
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from isoneph.core.errors import InvalidRequest
from isoneph.core.model import VmRequest
from isoneph.plugins.clouds.openstack.floating import Opening
from isoneph.plugins.clouds.openstack.link import Version
from isoneph.plugins.clouds.openstack.marks import Owner, describe
from isoneph.plugins.clouds.openstack.type_options import AUTO, NONE

#: From which microversion on ``POST /servers`` takes what.
DESCRIPTION = (2, 19)
NETWORKS_ASKED = (2, 37)
TAGS = (2, 52)
VOLUME_TYPE = (2, 67)


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """One interface of a server: the network's id, and the address if it matters."""

    id: str
    fixed_ip: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ids:
    """What a VM type names, by the ids that it has now; ``networks`` is None where Nova is to
    choose, and ``external_network`` and ``security_groups`` are only looked up for a port that
    is made for the VM."""

    flavor: str
    image: str
    networks: Sequence[Network] | None
    group: str | None = None
    external_network: str | None = None
    security_groups: Sequence[str] | None = None


def server_body(
    request: VmRequest,
    ids: Ids,
    version: Version,
    *,
    user_data: str | None = None,
    opening: Opening | None = None,
) -> dict[str, Any]:
    """The body for the VM that is asked for; with ``opening``, which is then its first
    interface. Raises InvalidRequest for what the microversion cannot say."""
    options = request.type.options
    check_version(options, version)
    server: dict[str, Any] = {
        "name": request.name,
        "flavorRef": ids.flavor,
        "metadata": metadata_of(request, opening),
        **_boot_source(options, ids),
        **_networks(options, ids, version, opening),
    }
    if version >= DESCRIPTION:
        owner = Owner(request.application, request.id)
        server["description"] = describe(owner, options.get("description", ""))
    if "security_groups" in options:
        server["security_groups"] = [{"name": name} for name in options["security_groups"]]
    if user_data is not None:
        server["user_data"] = user_data
    for key in ("key_name", "availability_zone", "config_drive", "tags"):
        if key in options:
            server[key] = options[key]
    hints = dict(options.get("scheduler_hints", {}))
    if ids.group is not None:
        hints["group"] = ids.group
    return {"server": server, **({"os:scheduler_hints": hints} if hints else {})}


def metadata_of(request: VmRequest, opening: Opening | None = None) -> dict[str, str]:
    """All metadata of a server: the operator's, isoneph's tags, and which port was made for it."""
    return {
        **request.type.options.get("metadata", {}),
        **request.tags,
        **(opening.metadata if opening else {}),
    }


def check_version(options: Mapping[str, Any], version: Version) -> None:
    """Raise InvalidRequest for an option that an older compute API does not know."""
    boot_volume = options.get("boot_volume", {})
    for option, asked, needed in (
        ("description", bool(options.get("description")), DESCRIPTION),
        ("tags", bool(options.get("tags")), TAGS),
        ("networks: none", options.get("networks") == NONE, NETWORKS_ASKED),
        ("boot_volume.volume_type", "volume_type" in boot_volume, VOLUME_TYPE),
    ):
        if asked and version < needed:
            raise InvalidRequest(
                f"{option}: it needs version {_text(needed)} of the compute API; this cloud is "
                f"called with {_text(version)}"
            )


def _boot_source(options: Mapping[str, Any], ids: Ids) -> Mapping[str, Any]:
    if "boot_volume" not in options:
        return {"imageRef": ids.image}
    volume = options["boot_volume"]
    device = {
        "boot_index": 0,
        "uuid": ids.image,
        "source_type": "image",
        "destination_type": "volume",
        "volume_size": volume["size_gb"],
        "delete_on_termination": volume["delete_on_termination"],
    }
    if "volume_type" in volume:
        device["volume_type"] = volume["volume_type"]
    return {"block_device_mapping_v2": [device]}


def _networks(
    options: Mapping[str, Any], ids: Ids, version: Version, opening: Opening | None
) -> Mapping[str, Any]:
    if ids.networks is None:  # before that version, to say nothing is to leave it to Nova
        said = options.get("networks", AUTO)
        return {"networks": said} if version >= NETWORKS_ASKED else {}
    entries: list[dict[str, str]] = [
        {"uuid": network.id} | ({"fixed_ip": network.fixed_ip} if network.fixed_ip else {})
        for network in ids.networks
    ]
    if opening is not None:
        entries[0] = {"port": opening.port}
    return {"networks": entries}


def _text(version: Version) -> str:
    return f"{version[0]}.{version[1]}"
