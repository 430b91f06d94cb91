from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from voluptuous import MultipleInvalid, Schema

from isoneph.core.config.masking import is_secret
from isoneph.plugins.clouds.libcloud import LibcloudCloud
from isoneph.plugins.clouds.libcloud.user_data import render
from isoneph.plugins.clouds.libcloud.values import WrongOption

OPTIONS = Schema(LibcloudCloud.schema)
TYPE = Schema(LibcloudCloud.type_schema)
EC2: Mapping[str, Any] = {
    "provider": "ec2",
    "access_key": "AKIA",
    "secret_key": "s",
    "region": "us-east-1",
}
WORKER: Mapping[str, Any] = {"size": "t3.micro", "image": "ami-1"}


def problem(schema: Schema, options: Mapping[str, Any]) -> str:
    with pytest.raises(MultipleInvalid) as caught:
        schema(options)
    return str(caught.value)


def test_defaults() -> None:
    assert OPTIONS(EC2) == {
        **EC2,
        "secure": True,
        "arguments": {},
        "calls_per_second": 20.0,
        "burst": 40,
        "account_limits": False,
    }
    assert TYPE(WORKER) == {**WORKER, "networks": [], "security_groups": [], "arguments": {}}


@pytest.mark.parametrize(
    ("provider", "words"),
    [
        ("ec3", "expected the id of a provider of libcloud; did you mean ec2?"),
        ("EC2", "did you mean"),
        (2, "expected the id of a provider of libcloud"),
        ("gce", "gce cannot be used: its labels take neither capitals nor dots"),
        ("digitalocean", "digitalocean cannot be used: libcloud makes its VMs without tags"),
        ("scaleway", "its tags are words without values"),
    ],
)
def test_providers_that_cannot_be_used(provider: Any, words: str) -> None:
    assert words in problem(OPTIONS, {**EC2, "provider": provider})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"access_key": ""}, "expected a text in one line that is not empty"),
        ({"access_key": 7}, "expected a text in one line that is not empty"),
        ({"port": 0}, "expected a whole number from 1 to 65535"),
        ({"port": True}, "expected a whole number from 1 to 65535"),
        ({"secure": "no"}, "expected true or false"),
        ({"calls_per_second": 0}, "expected a positive number"),
        ({"calls_per_second": float("inf")}, "expected a positive number"),
        ({"burst": 0}, "expected a whole number of 1 or more"),
        ({"max_vms": -1}, "expected a whole number of 0 or more"),
        ({"ca_file": "ca.pem"}, "expected the absolute path of a file"),
        ({"regoin": "x"}, "extra keys not allowed"),
    ],
)
def test_wrong_options(options: Mapping[str, Any], words: str) -> None:
    assert words in problem(OPTIONS, {**EC2, **options})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": ""}, "expected a text in one line that is not empty"),
        ({"networks": "subnet-1"}, "expected a list"),
        ({"networks": ["a", "a"]}, "expected each one once"),
        ({"user_data": ""}, "expected a text that is not empty"),
        ({"user_data": "a\n{{isoneph.ip}}"}, "unknown placeholder in line 2; expected one of {{is"),
        ({"user_data": "x" * 65536}, "expected at most 65535 characters"),
        ({"arguments": ["x"]}, "expected a mapping of names"),
        (
            {"arguments": {"ex_clienttoken": "x"}},
            "has an option of its own, or is up to the driver",
        ),
        ({"flavor": "m1"}, "extra keys not allowed"),
    ],
)
def test_wrong_type_options(options: Mapping[str, Any], words: str) -> None:
    assert words in problem(TYPE, {**WORKER, **options})


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, []),
        ({"region": "us-easy-1"}, ["region: libcloud knows no us-easy-1; did you mean us-east-1?"]),
        ({"region": None}, ["region: missing; expected one such as eu-central-1"]),
        ({"secret_key": None}, ["secret_key: missing; expected the secret that belongs to "]),
        ({"project": "p"}, ["project: ec2 takes no such thing; remove it"]),
        ({"arguments": {"region": "x"}}, ["arguments.region: has an option of its own"]),
        ({"arguments": {"timeout": 1}}, ["arguments.timeout: has an option of its own"]),
        (
            {"provider": "openstack", "api_version": "9"},
            ["region: openstack takes", "api_version: libcloud has no class of that version"],
        ),
    ],
)
def test_options_that_do_not_go_together(options: Mapping[str, Any], told: list[str]) -> None:
    given = {key: value for key, value in {**EC2, **options}.items() if value is not None}
    problems = LibcloudCloud.problems(OPTIONS(given))
    assert all(any(each.startswith(words) for words in told) for each in problems), problems
    assert bool(problems) == bool(told)


@pytest.mark.parametrize("key", ["access_key", "secret_key", "token"])
def test_credentials_have_names_that_the_core_masks(key: str) -> None:
    assert is_secret(key)


def test_user_data_is_filled_in() -> None:
    values = {"id": "1", "name": "n", "application": "a", "type": "t", "cloud": "c", "relay": None}
    assert render("{{isoneph.id}}-{{ isoneph.name }} {{ds}} $HOME", values) == "1-n {{ds}} $HOME"
    with pytest.raises(WrongOption, match="say in option `relay` what that is"):
        render("{{isoneph.relay}}", values)


def test_without_libcloud_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    package = "isoneph.plugins.clouds.libcloud"
    monkeypatch.setitem(sys.modules, "libcloud", None)
    monkeypatch.delitem(sys.modules, package)
    with pytest.raises(ImportError, match=r"needs: pip install 'isoneph\[libcloud\]'"):
        importlib.import_module(package)
