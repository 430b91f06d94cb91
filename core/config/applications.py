"""``applications/NAME.yaml``: one application's clouds, VM types, policies and tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import voluptuous as vol

from isoneph.core.config.clouds import Clouds
from isoneph.core.config.documents import Document, part
from isoneph.core.config.preparing import read_prepare
from isoneph.core.config.problems import unknown
from isoneph.core.config.relaying import read_relay
from isoneph.core.config.rules import DIGEST, NAME, Each, number, one_of, whole
from isoneph.core.config.validation import Report, check, check_plugin, load_plugin
from isoneph.core.config.vm_types import TYPE, check_clouds, read_types
from isoneph.core.identity import NAME_PATTERN
from isoneph.core.plugin import OptionSchema, Policy
from isoneph.core.registry import Registry
from isoneph.core.settings import (
    SCOPES,
    ApplicationSettings,
    HealingSettings,
    PolicySettings,
    TokenSettings,
)

#: What a file says beyond the settings of its application.
_NO_SETTINGS = {"application", "default"}

#: The policies of an application that names none: those of the 2015 prototype.
DEFAULT_POLICIES = {"placement": ["count-balance"], "victims": ["largest-cloud"]}
_HEALING = HealingSettings()
_DEFAULTS = ApplicationSettings(name="", clouds=(), types={})

POLICY: OptionSchema = {
    vol.Required("policy", description="The plugin's name."): str,
    vol.Optional(
        "weight",
        default=1.0,
        description="How much its opinion counts next to the others'; below 0 turns it round.",
    ): number(),
}

TOKEN: OptionSchema = {
    vol.Required("name", description="Whose token it is, for the log."): NAME,
    vol.Required("sha256", description="The token's SHA-256 digest in hex."): DIGEST,
    vol.Required("scopes", description="What it allows."): Each(
        one_of(*SCOPES), least=1, unique=True
    ),
}

HEALING: OptionSchema = {
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

APPLICATION: OptionSchema = {
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
    vol.Optional(
        "placement",
        default=lambda: DEFAULT_POLICIES["placement"],
        description="The policies that choose a cloud.",
    ): list,
    vol.Optional(
        "victims",
        default=lambda: DEFAULT_POLICIES["victims"],
        description="The policies that choose the VM to go.",
    ): list,
    vol.Optional(
        "prepare",
        default=dict,
        description="What `isoneph cloud prepare` makes on its clouds, by the clouds' driver.",
    ): {NAME: dict},
    vol.Optional(
        "relay",
        description="What carries its traffic to its VMs: a relay plugin's name, or a mapping.",
    ): object,
    vol.Optional("tokens", default=list, description="Who may use its API."): Each(TOKEN),
    vol.Optional("healing", default=dict, description="How its VMs are kept whole."): HEALING,
    vol.Optional(
        "freshness",
        default=_DEFAULTS.freshness,
        description="Seconds for which a listing of VMs is good enough to decide by.",
    ): number(least=0),
    vol.Optional(
        "patience",
        default=_DEFAULTS.patience,
        description="Seconds that a request waits for a cloud's listing before it goes on "
        "without that cloud.",
    ): number(least=0),
    vol.Optional(
        "deadline",
        default=_DEFAULTS.deadline,
        description="Seconds that one create or delete may take in all, failover included.",
    ): number(above=0),
}


@dataclass(frozen=True, slots=True)
class Application:
    """One file: the application's name, and the rest when nothing is wrong with it."""

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
    parts = {
        "types": read_types(document, used, clouds),
        "prepare": read_prepare(document, used, clouds, registry),
        "relay": read_relay(document, registry),
        "placement": _policies_of(document, "placement", registry, used),
        "victims": _policies_of(document, "victims", registry, used),
    }
    _check_tokens(document)
    settings = None
    if fields is not None and len(document.problems) == before:
        settings = _settings(name, tuple(used or ()), fields, parts)
    return Application(document, name, _get(document, "default") is True, settings)


def _settings(
    name: str, clouds: Sequence[str], fields: Mapping[str, Any], parts: Mapping[str, Any]
) -> ApplicationSettings:
    values = {key: parts.get(key, value) for key, value in fields.items()}
    values |= {
        "name": name,
        "clouds": clouds,
        "tokens": tuple(
            TokenSettings(**{**token, "scopes": frozenset(token["scopes"])})
            for token in fields["tokens"]
        ),
        "healing": HealingSettings(**fields["healing"]),
    }
    return ApplicationSettings(
        **{key: value for key, value in values.items() if key not in _NO_SETTINGS}
    )


def _get(document: Document, key: str) -> Any:
    return document.value.get(key) if isinstance(document.value, dict) else None


def _name_of(document: Document) -> str:
    given = _get(document, "application")
    if given is not None:
        return str(given)
    stem = Path(document.file).stem
    if not NAME_PATTERN.fullmatch(stem):
        document.problem(
            ("application",),
            f"missing, and the file's own name does not do; expected {NAME.expects}",
        )
    return stem


def _clouds_of(document: Document, clouds: Clouds) -> Sequence[str] | None:
    """The clouds that the application uses, or None when that cannot be known."""
    if clouds.names is None or _get(document, "clouds") is None:
        return clouds.names
    used = part(document.value, "clouds", list)
    check_clouds(document, ("clouds",), used, clouds.names)
    return [name for name in used if name in clouds.names]


def _policies_of(
    document: Document, kind: str, registry: Registry, clouds: Sequence[str] | None
) -> Sequence[PolicySettings]:
    """The policies of one list, each with the options that its plugin takes."""
    policies = []
    given = part(document.value, kind, list)
    named = isinstance(document.value, dict) and kind in document.value
    for index, item in enumerate(given if named else DEFAULT_POLICIES[kind]):
        report = document.at(kind, index)
        entry = {"policy": item} if isinstance(item, str) else item
        if not isinstance(entry, dict):
            report((), "expected a policy's name, or a mapping that has it under 'policy'")
            continue
        plugin = None
        if isinstance(entry.get("policy"), str):
            plugin = load_plugin(registry, kind, entry["policy"], report, "policy")
        checked = check_plugin(plugin, POLICY, entry, report)
        if checked is not None:
            _check_named_clouds(cast("type[Policy] | None", plugin), checked, clouds, report)
            policies.append(
                PolicySettings(
                    policy=checked.pop("policy"), weight=checked.pop("weight"), options=checked
                )
            )
    return tuple(policies)


def _check_named_clouds(
    policy: type[Policy] | None,
    options: Mapping[str, Any],
    clouds: Sequence[str] | None,
    report: Report,
) -> None:
    """That the clouds which a policy's options name are those of the application."""
    if policy is None or clouds is None:
        return
    for name in policy.named_clouds(options):
        if name not in clouds:
            report((), f"'{name}': {unknown('cloud', name, clouds)}")


def _check_tokens(document: Document) -> None:
    """That no two tokens share their name, or are the same one."""
    seen: set[tuple[str, str]] = set()
    for index, token in enumerate(part(document.value, "tokens", list)):
        for key in ("name", "sha256"):
            value = token.get(key) if isinstance(token, dict) else None
            if isinstance(value, str):
                if (key, value) in seen:
                    document.problem(("tokens", index, key), "another token has the same")
                seen.add((key, value))
