"""Preparing a :class:`FakeProject`, and telling what came of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, cast

import voluptuous as vol
import yaml

from fake_project import FakeProject
from isoneph.core.model import Finding, Outcome, Preparation, VmType
from isoneph.core.testing import make_environment
from isoneph.plugins.clouds.openstack.api import Api
from isoneph.plugins.clouds.openstack.preparing import PREPARE_SCHEMA, prepare

CLOUD = "uniform"


def described(text: str) -> Mapping[str, Any]:
    """A description as the configuration hands it to the driver."""
    options: Mapping[str, Any] = vol.Schema(PREPARE_SCHEMA)(yaml.safe_load(text) or {})
    return options


def prepared(
    project: FakeProject,
    text: str,
    *,
    application: str = "mme",
    admin: bool = False,
    change: bool = True,
    prune: bool = False,
    types: Mapping[str, VmType] | None = None,
) -> list[Finding]:
    """All findings of one run on the project."""
    preparation = Preparation(
        application=application,
        options=described(text),
        types=types or {},
        change=change,
        prune=prune,
    )
    member = cast("Api", project.member)
    administrator = cast("Api", project.admin) if admin else None
    environment = make_environment(CLOUD, clock=project.clock)
    logging.getLogger("isoneph.test").setLevel(logging.INFO)
    return list(prepare(member, administrator, preparation, environment))


def told(findings: list[Finding], *, right: bool = False) -> list[str]:
    """What is not right, or with ``right`` everything: one line each."""
    return [
        f"{each.outcome} {each.kind} {each.name}" + (f": {each.text}" if each.text else "")
        for each in findings
        if right or each.outcome != Outcome.RIGHT
    ]
