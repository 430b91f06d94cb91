"""``clouds.yaml``: OpenStack's own form, with the driver and the core's settings of each cloud."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import voluptuous as vol

from isoneph.core.config.documents import Document, part
from isoneph.core.config.problems import unknown
from isoneph.core.config.rules import NAME, number, whole
from isoneph.core.config.validation import Report, check, check_plugin, load_plugin
from isoneph.core.plugin import Cloud, OptionSchema
from isoneph.core.registry import Registry
from isoneph.core.settings import CloudSettings

DEFAULT_DRIVER = "openstack"

_DEFAULTS = CloudSettings(name="", driver=DEFAULT_DRIVER)

#: What the core itself takes of a cloud, next to the options of its driver.
CLOUD: OptionSchema = {
    vol.Optional(
        "driver", default=DEFAULT_DRIVER, description="The plugin that drives this cloud."
    ): str,
    vol.Optional("isoneph", default=dict, description="How isoneph treats this cloud."): {
        vol.Optional(
            "calls", default=_DEFAULTS.calls, description="Creates and deletes under way at once."
        ): whole(1),
        vol.Optional(
            "timeout", default=_DEFAULTS.timeout, description="Seconds that one call may take."
        ): number(above=0),
        vol.Optional(
            "breaker_failures",
            default=_DEFAULTS.breaker_failures,
            description="Failures in a row after which the cloud is left alone for a while.",
        ): whole(1),
        vol.Optional(
            "breaker_pause",
            default=_DEFAULTS.breaker_pause,
            description="Seconds for which it is left alone before it is probed.",
        ): number(least=0),
        vol.Optional(
            "limits_age",
            default=_DEFAULTS.limits_age,
            description="Seconds for which the cloud's limits are used before they are read anew.",
        ): number(least=0),
        vol.Optional(
            "slow_create",
            default=_DEFAULTS.slow_create,
            description="Seconds after which a create that still waits for its answer makes "
            "placement prefer other clouds.",
        ): number(above=0),
    },
}

#: The whole file; what else OpenStack's own tools read there is none of our business.
FILE: OptionSchema = {
    vol.Required("clouds", description="The clouds by name, in order of preference."): vol.All(
        {NAME: dict}, vol.Length(min=1, msg="there is no cloud; expected at least one")
    ),
    vol.Optional("public-clouds"): object,
    vol.Optional("cache"): object,
    vol.Optional("client"): object,
    vol.Optional("metrics"): object,
}


#: The file beside it that has secrets alone.
SECURE_FILE: OptionSchema = {
    vol.Required("clouds", description="Further options of clouds, by name."): {NAME: dict}
}


@dataclass(frozen=True, slots=True)
class Clouds:
    """What ``clouds.yaml`` holds, as far as it is usable.

    ``names`` has every cloud that the file names, those with problems too, so that nobody who
    uses one is blamed for it; None when the file cannot tell.
    """

    names: Sequence[str] | None = None
    settings: Mapping[str, CloudSettings] = field(default_factory=dict)
    drivers: Mapping[str, type[Cloud]] = field(default_factory=dict)


def read_clouds(document: Document, registry: Registry) -> Clouds:
    """The clouds of the file; problems are noted in the document's collection."""
    check(FILE, document.value, document.problem)
    entries = part(document.value, "clouds", dict)
    if not entries:
        return Clouds()
    settings: dict[str, CloudSettings] = {}
    drivers: dict[str, type[Cloud]] = {}
    for name, entry in entries.items():
        if not isinstance(entry, dict):
            continue
        report = document.at("clouds", name)
        driver = _driver_of(entry, registry, report)
        if driver is not None:
            drivers[name] = driver
        checked = check_plugin(driver, CLOUD, entry, report)
        if checked is not None:
            settings[name] = CloudSettings(
                name=name, driver=checked.pop("driver"), **checked.pop("isoneph"), options=checked
            )
    return Clouds(tuple(entries), settings, drivers)


def with_secrets(document: Document, secure: Document) -> Document:
    """``clouds.yaml`` with what a ``secure.yaml`` beside it adds to its clouds, as OpenStack's own
    tools read the two; problems are noted in the latter."""
    check(SECURE_FILE, secure.value, secure.problem)
    known = part(document.value, "clouds", dict)
    for name in part(secure.value, "clouds", dict):
        if name not in known:
            secure.problem(("clouds", name), unknown("cloud", name, tuple(known)))
    return replace(document, value=_merged(document.value, secure.value))


def _merged(value: Any, more: Any) -> Any:
    if not (isinstance(value, dict) and isinstance(more, dict)):
        return more
    return {**value, **{key: _merged(value.get(key), item) for key, item in more.items()}}


def _driver_of(entry: Mapping[str, Any], registry: Registry, report: Report) -> type[Cloud] | None:
    name = entry.get("driver", DEFAULT_DRIVER)
    if not isinstance(name, str):
        return None
    plugin = load_plugin(registry, "clouds", name, report, "driver")
    return cast("type[Cloud] | None", plugin)
