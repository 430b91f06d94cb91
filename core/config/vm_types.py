"""The VM types of an application: common options and each cloud's own, put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import voluptuous as vol

from isoneph.core.config.clouds import Clouds
from isoneph.core.config.documents import Document, part
from isoneph.core.config.problems import KeyPath, unknown
from isoneph.core.config.rules import NAME, Each, number
from isoneph.core.config.validation import Report, check
from isoneph.core.model import VmType
from isoneph.core.plugin import Cloud, OptionSchema

RESOURCES: OptionSchema = {
    vol.Optional("instances", default=1, description="A VM is one instance of its cloud."): 1,
    NAME: number(least=0),
}

TYPE: OptionSchema = {
    vol.Optional(
        "resources",
        default=dict,
        description="What one VM takes of a cloud's limits, such as `cores` and `ram` in MiB.",
    ): RESOURCES,
    vol.Optional(
        "options", default=dict, description="Options for the drivers of all its clouds."
    ): dict,
    vol.Optional(
        "clouds",
        default=dict,
        description="Options for single clouds, by cloud: each stands in for the one of that name "
        "in `options`. `resources` in here does the same for the type's resources.",
    ): {NAME: dict},
    vol.Optional(
        "only", description="The clouds that can take this type; by default all that are used."
    ): Each(NAME, least=1, unique=True),
}

RESOURCES_KEY = vol.Optional("resources", description="Instead of the type's own, by name.")

#: A problem with the options on one cloud: where it stands in the file, and what it is.
_Finding = tuple[KeyPath, str]


def read_types(
    document: Document, used: Sequence[str] | None, clouds: Clouds
) -> Mapping[str, Mapping[str, VmType]]:
    """The types by name, each by cloud; ``used`` is None when the clouds cannot be known."""
    return {
        name: _read_type(document, name, entry, used, clouds)
        for name, entry in part(document.value, "types", dict).items()
        if isinstance(entry, dict) and used is not None
    }


def _read_type(
    document: Document, name: str, entry: Mapping[str, Any], used: Sequence[str], clouds: Clouds
) -> Mapping[str, VmType]:
    only = part(entry, "only", list)
    check_clouds(document, ("types", name, "only"), only, used)
    targets = [cloud for cloud in used if not only or cloud in only]
    for cloud in part(entry, "clouds", dict):
        if cloud not in targets:
            document.problem(("types", name, "clouds", cloud), unknown("cloud", cloud, targets))
    found: dict[_Finding, list[str]] = {}
    on_clouds = {}
    targets = [cloud for cloud in targets if cloud in clouds.drivers]
    for cloud in targets:
        findings: list[_Finding] = []
        on_clouds[cloud] = _on_cloud(name, entry, cloud, clouds.drivers[cloud], findings)
        for finding in findings:
            found.setdefault(finding, []).append(cloud)
    for (path, text), concerned in found.items():
        common = path[:3] == ("types", name, "options") and concerned != targets
        document.problem(path, f"{text} (on {', '.join(concerned)})" if common else text)
    return on_clouds


def _on_cloud(
    name: str, entry: Mapping[str, Any], cloud: str, driver: type[Cloud], findings: list[_Finding]
) -> VmType:
    """The type on one cloud; what is wrong with it goes to ``findings``."""
    common = part(entry, "options", dict)
    own = part(part(entry, "clouds", dict), cloud, dict)

    def report(path: KeyPath, text: str) -> None:
        is_common = path[:1] and path[0] not in own and (path[0] in common or not own)
        base: KeyPath = ("options",) if is_common else ("clouds", cloud)
        findings.append((("types", name, *base, *path), text))

    # Only an override has resources among its options: next to `options` they have their place.
    schema = {**driver.type_schema, **({RESOURCES_KEY: RESOURCES} if own else {})}
    options = check(schema, {**common, **own}, report) or {}
    resources = check(RESOURCES, part(entry, "resources", dict), lambda *_: None) or {}
    own_resources = options.pop("resources", {})
    taken = {**_taken(driver, options, report), **resources, **own_resources}
    return VmType(name=name, resources=taken, options=options)


def _taken(driver: type[Cloud], options: Mapping[str, Any], report: Report) -> Mapping[str, float]:
    """What the driver says that a VM takes; nothing after a problem, which is told before."""
    try:
        return dict(driver.takes(options)) if options else {}
    except Exception as error:  # noqa: BLE001 (a plugin may raise anything)
        report((), f"the plugin failed to count: {type(error).__name__}, a mistake in it")
        return {}


def check_clouds(
    document: Document, path: KeyPath, names: Sequence[Any], known: Sequence[str]
) -> None:
    """That every one of ``names``, a list at ``path``, is a cloud that is known there."""
    for index, name in enumerate(names):
        if isinstance(name, str) and name not in known:
            document.problem((*path, index), unknown(f"cloud '{name}'", name, known))
