"""What the application's VM types name, and whether it is there."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from isoneph.core.errors import InvalidRequest
from isoneph.core.model import Finding, Outcome, VmType
from isoneph.plugins.clouds.openstack import names
from isoneph.plugins.clouds.openstack.names import Kind, Names
from isoneph.plugins.clouds.openstack.preparing.run import COMPUTE, Run

#: The attributes of a flavor that are limited, by what isoneph calls them in ``resources``.
_LIMITED = {"cores": "vcpus", "ram": "ram"}
_KINDS = {kind.word: kind for kind in names.KINDS}
_SECTIONS = {
    names.NETWORK.word: "networks",
    names.IMAGE.word: "images",
    names.KEYPAIR.word: "keypairs",
}


def check_needs(run: Run) -> Iterator[Finding]:
    """A finding for each thing that is named and not described, and for each flavor that is not
    what the type's ``resources`` say. Nothing here can be made or changed."""
    known = Names(run.api, run.cloud, run.clock)
    wanting = Outcome.FAILED if run.change else Outcome.MISSING
    for (word, name), places in _needs(run.preparation.types).items():
        if name in _described(run, word):
            continue
        try:
            found = known.id_of(_KINDS[word], name, ", ".join(places), run.api.deadline())
        except InvalidRequest as error:
            yield run.finding(word, name, wanting, error.message)
            continue
        text = _flavor_difference(run, found, name) if word == names.FLAVOR.word else ""
        outcome = (Outcome.FAILED if run.change else Outcome.DIFFERS) if text else Outcome.RIGHT
        yield run.finding(word, name, outcome, text)


def _needs(types: Mapping[str, VmType]) -> Mapping[tuple[str, str], Sequence[str]]:
    """What is named, by kind and name, and at which places of the configuration."""
    needs: dict[tuple[str, str], list[str]] = {}
    for name, vm_type in types.items():
        for option, kind, named in _named(vm_type.options):
            needs.setdefault((kind.word, named), []).append(f"types.{name}.{option}")
    return needs


def _named(options: Mapping[str, Any]) -> Iterator[tuple[str, Kind, str]]:
    """The options that name something, what kind of thing it is, and its name."""
    single = {
        "flavor": names.FLAVOR,
        "image": names.IMAGE,
        "key_name": names.KEYPAIR,
        "floating_network": names.EXTERNAL_NETWORK,
        "availability_zone": names.ZONE,
    }
    for option, kind in single.items():
        if option in options:
            yield option, kind, options[option]
    for name in options.get("security_groups", ()):
        yield "security_groups", names.SECURITY_GROUP, name
    networks = options.get("networks", ())
    for each in () if isinstance(networks, str) else networks:
        yield "networks", names.NETWORK, each if isinstance(each, str) else each["network"]
    volume_type = options.get("boot_volume", {}).get("volume_type")
    if volume_type is not None:
        yield "boot_volume", names.VOLUME_TYPE, volume_type
    group = options.get("server_group", {}).get("name")
    if group is not None:
        yield "server_group", names.SERVER_GROUP, group


def _described(run: Run, word: str) -> Collection[str]:
    """What the description has of a kind: of that other findings tell."""
    if word == names.SECURITY_GROUP.word:
        return run.described_rules
    return run.described(_SECTIONS[word]) if word in _SECTIONS else ()


def _flavor_difference(run: Run, flavor_id: str, name: str) -> str:
    """Where the types that use a flavor say other ``resources`` than it has."""
    flavor = run.get(COMPUTE, f"/flavors/{flavor_id}", "flavor")
    wrong: dict[str, list[str]] = {}
    for vm_type in run.preparation.types.values():
        if vm_type.options.get("flavor") != name:
            continue
        for resource, attribute in _LIMITED.items():
            said = vm_type.resources.get(resource)
            if said is not None and said != flavor[attribute]:
                text = f"{attribute} is {flavor[attribute]}, resources say {resource}: {said:g}"
                wrong.setdefault(text, []).append(vm_type.name)
    return "; ".join(f"{text} (types {', '.join(who)})" for text, who in wrong.items())
