"""``applications/NAME.yaml``: one application's clouds, VM types, policies and tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import voluptuous as vol

from isoneph.core.config.clouds import Clouds
from isoneph.core.config.documents import Document, part
from isoneph.core.config.problems import KeyPath, unknown
from isoneph.core.config.rules import DIGEST, NAME, Each, number, one_of, whole
from isoneph.core.config.validation import check, load_plugin
from isoneph.core.identity import NAME_PATTERN
from isoneph.core.model import VmType
from isoneph.core.registry import Registry
from isoneph.core.settings import (
    ApplicationSettings,
    HealingSettings,
    PolicySettings,
    TokenSettings,
)

SCOPES = ("read", "write", "metrics")
#: What a VM takes of any cloud without being told.
INSTANCES = {"instances": 1}

_HEALING = HealingSettings()
_DEFAULTS = ApplicationSettings(name="", clouds=(), types={})

RESOURCES = {NAME: number(least=0)}

TYPE = {
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
        description="Options for single clouds, by cloud: each replaces the one of that name in "
        "`options`; `resources` likewise.",
    ): {NAME: dict},
    vol.Optional(
        "only", description="The clouds that can take this type; all of the application's if absent."
    ): Each(NAME, least=1, unique=True),
}

POLICY = {
    vol.Required("policy", description="The plugin's name."): str,
    vol.Optional(
        "weight",
        default=1.0,
        description="How much its opinion counts next to the others'; below 0 turns it round.",
    ): number(),
}

TOKEN = {
    vol.Required("name", description="Whose token it is, for the log."): NAME,
    vol.Required("sha256", description="The token's SHA-256 digest in hex."): DIGEST,
    vol.Required("scopes", description="What it allows."): Each(
        one_of(*SCOPES), least=1, unique=True
    ),
}

HEALING = {
    vol.Optional(
        "boot_timeout",
        default=_HEALING.boot_timeout,
        description="Seconds that a VM may build before it counts as failed.",
    ): number(above=0),
    vol.Optional(
        "attempts",
        default=_HEALING.attempts,
        description="How often one VM is placed before its failure is left to be seen.",
    ): whole(1),
    vol.Optional(
        "grace",
        default=_HEALING.grace,
        description="Seconds between the two sightings after which a leftover is removed.",
    ): number(least=0),
}

APPLICATION = {
    vol.Optional("application", description="Its name; the file's by default."): NAME,
    vol.Optional(
        "default", default=False, description="Whether requests that name none mean this one."
    ): bool,
    vol.Optional(
        "clouds",
        description="The clouds that it uses, in order of preference; all by default.",
    ): Each(NAME, least=1, unique=True),
    vol.Required("types", description="The kinds of VM that it asks for, by name."): vol.All(
        {NAME: TYPE}, vol.Length(min=1, msg="there is no type; expected at least one")
    ),
    vol.Optional("placement", description="The policies that choose a cloud."): list,
    vol.Optional("victims", description="The policies that choose the VM to go."): list,
    vol.Optional("tokens", default=list, description="Who may use its API."): Each(TOKEN),
    vol.Optional("healing", default=dict, description="How its VMs are kept whole."): HEALING,
    vol.Optional(
        "freshness",
        default=_DEFAULTS.freshness,
        description="Seconds for which a listing of VMs is good enough to decide by.",
    ): number(least=0),
    vol.Optional(
        "deadline",
        default=_DEFAULTS.deadline,
        description="Seconds that one create or delete may take in all, failover included.",
    ): number(above=0),
}


@dataclass(frozen=True, slots=True)
class Application:
    """One file: its document, the application's name, and the rest as far as it is usable."""

    document: Document
    name: str
    default: bool
    settings: ApplicationSettings | None


def read_application(document: Document, clouds: Clouds, registry: Registry) -> Application:
    """The application of a file; problems are noted in the document's collection."""
    before = len(document.problems)
    fields = check(APPLICATION, document.value, document.problem)
    name = _name_of(document)
    used = _clouds_of(document, clouds)
    types = _types_of(document, used, clouds)
    _check_tokens(document)
    policies = {
        "placement": _policies_of(document, "placement", registry),
        "victims": _policies_of(document, "victims", registry),
    }
    settings = None
    if fields is not None and len(document.problems) == before:
        settings = ApplicationSettings(
            name=name,
            clouds=tuple(used or ()),
            types=types,
            tokens=tuple(
                TokenSettings(**{**token, "scopes": frozenset(token["scopes"])})
                for token in fields["tokens"]
            ),
            healing=HealingSettings(**fields["healing"]),
            freshness=fields["freshness"],
            deadline=fields["deadline"],
            **{kind: policies[kind] for kind in policies if kind in fields},
        )
    default = part(document.value, "default", bool)
    return Application(document, name, default, settings)


def _name_of(document: Document) -> str:
    given = part(document.value, "application", str)
    if given:
        return given
    stem = Path(document.file).stem
    if not NAME_PATTERN.fullmatch(stem):
        document.problem(
            ("application",), f"missing, and the file's name does not do: expected {NAME.expects}"
        )
    return stem


def _clouds_of(document: Document, clouds: Clouds) -> Sequence[str] | None:
    """The clouds that the application uses, or None when that cannot be known."""
    if clouds.names is None:
        return None
    if "clouds" not in document.value if isinstance(document.value, dict) else True:
        return clouds.names
    used = part(document.value, "clouds", list)
    _check_names(document, ("clouds",), used, clouds.names)
    return [name for name in used if name in clouds.names]
