"""The options of a mock cloud and of the VM types on it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from voluptuous import Optional, Schema

from isoneph.core.plugin import OptionSchema
from isoneph.plugins.clouds.mock.faults import FAULT
from isoneph.plugins.clouds.mock.values import (
    count,
    duration,
    durations_by_call,
    limit,
    mapping_of,
    number,
    text,
    whole,
)

#: The state that is private to one instance of the driver.
PRIVATE = ":memory:"

SCHEMA: OptionSchema = {
    Optional(
        "state",
        default=PRIVATE,
        description="The file that holds the simulated cloud, shared by all processes that name "
        "it and kept over restarts; several clouds may share one. `:memory:` is private.",
    ): text,
    Optional(
        "seed",
        default=0,
        description="All chance follows from this number: what befalls the n-th create, the n-th "
        "delete and so on of a cloud.",
    ): whole,
    Optional(
        "boot_seconds",
        default=0.0,
        description="How long a VM builds: seconds, `{uniform: [low, high]}`, `{normal: [mean, "
        "deviation]}`, `{lognormal: [median, sigma]}` or `{exponential: [mean]}`.",
    ): duration,
    Optional(
        "delete_seconds", default=0.0, description="How long a VM is deleting, as `boot_seconds`."
    ): duration,
    Optional(
        "latency",
        default=0.0,
        description="How long a call takes, as `boot_seconds`, or such by call name (`create`, "
        "`get`, `list`, `delete`, `limits`, `any` for the rest).",
    ): durations_by_call,
    Optional(
        "quotas",
        default=dict,
        description="The project's limits by resource name (`instances`, `cores`, `ram`); null "
        "is shown as unlimited.",
    ): mapping_of(limit),
    Optional(
        "capacity",
        default=dict,
        description="How many VMs of a type the cloud has room for, by type name.",
    ): mapping_of(count),
    Optional(
        "prices",
        default=dict,
        description="What a VM costs an hour, by type name; for whoever reads it, no effect here.",
    ): mapping_of(number),
    Optional("faults", default=list, description="What goes wrong, tried in this order."): [FAULT],
}

TYPE_SCHEMA: OptionSchema = {
    Optional(
        "boot_seconds", description="How long a VM of this type builds, instead of the cloud's."
    ): duration,
}

_options = Schema(SCHEMA)
_type_options = Schema(TYPE_SCHEMA)


def check_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """``options`` with defaults; raises ``voluptuous.Invalid`` where they are wrong."""
    checked: dict[str, Any] = _options(dict(options))
    return checked


def check_type_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """A VM type's options; raises ``voluptuous.Invalid`` where they are wrong."""
    checked: dict[str, Any] = _type_options(dict(options))
    return checked


@lru_cache(maxsize=64)
def merge_options(options: str, overrides: str) -> Mapping[str, Any]:
    """The options in force, from those of the driver and those set at run time, both JSON."""
    return {**json.loads(options), **json.loads(overrides)}
