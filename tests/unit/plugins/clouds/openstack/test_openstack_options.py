from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from voluptuous import Invalid, MultipleInvalid, Schema

from isoneph.core import identity
from isoneph.plugins.clouds.openstack import OpenstackCloud, marks
from isoneph.plugins.clouds.openstack.marks import LONGEST_DESCRIPTION, LONGEST_WORDS, Owner
from isoneph.plugins.clouds.openstack.values import whole
from openstack_drivers import worker_options

PASSWORD: Mapping[str, Any] = {
    "auth": {
        "auth_url": "https://cloud.example/v3",
        "username": "bot",
        "password": "very secret",
        "project_name": "p",
        "user_domain_name": "Default",
        "project_domain_name": "Default",
    }
}
CREDENTIAL: Mapping[str, Any] = {
    "auth_type": "v3applicationcredential",
    "auth": {
        "auth_url": "https://cloud.example/v3",
        "application_credential_id": "7",
        "application_credential_secret": "very secret",
    },
}

VM_ID = "6f1c54a2-58c1-4f0e-9a57-0d2f7b1c9e11"


def checked(options: Mapping[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = Schema(OpenstackCloud.schema)(dict(options))
    return result


@pytest.mark.parametrize(
    "options",
    [
        PASSWORD,
        CREDENTIAL,
        {
            **PASSWORD,
            "region_name": "One",
            "interface": "internal",
            "verify": True,
            "cacert": "/etc/ssl/ca.pem",
            "identity_api_version": 3,
            "compute_default_microversion": "2.53",
            "block_storage_api_version": "3",
            "volume_endpoint_override": "https://cinder.example",
            "api_timeout": 10,
            "networks": [{"name": "net", "nat_source": True}],
            "floating_ip_source": "neutron",
            "calls_per_second": 3,
            "burst": 5,
        },
        {**PASSWORD, "compute-api-version": "2.1", "load_balancer_api_version": "2"},
        {**PASSWORD["auth"], "auth": {}},
    ],
)
def test_what_openstacks_tools_read_is_taken(options: Mapping[str, Any]) -> None:
    assert OpenstackCloud.problems(checked(options)) == ()


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("region_nmae", "region_name"),
        ("comptue_api_version", "compute_api_version"),
        ("calls_per_secnd", "calls_per_second"),
        ("usrname", "username"),
        ("drivr", "driver"),
    ],
)
def test_a_misspelt_key_is_told(key: str, meant: str) -> None:
    with pytest.raises(Invalid, match=f"unknown key; did you mean '{meant}'"):
        checked({**PASSWORD, key: "x"})


def test_a_key_that_resembles_none_is_told() -> None:
    with pytest.raises(Invalid, match="neither isoneph nor OpenStack's tools know it"):
        checked({**PASSWORD, "zzz": 1})


def without(options: Mapping[str, Any], key: str) -> dict[str, Any]:
    auth = {name: value for name, value in options["auth"].items() if name != key}
    return {**options, "auth": auth}


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ({}, "auth_url"),
        (without(PASSWORD, "username"), "username or user_id"),
        (without(PASSWORD, "password"), "password is missing"),
        (without(CREDENTIAL, "application_credential_id"), "application credential ID"),
        (without(CREDENTIAL, "application_credential_secret"), "auth secret"),
        ({**PASSWORD, "auth_type": "no-such"}, "auth_type"),
    ],
)
def test_what_does_not_go_together_is_told_without_values(
    options: Mapping[str, Any], missing: str
) -> None:
    (problem,) = OpenstackCloud.problems(checked(options))
    assert missing in problem
    assert "secret" not in problem.replace("auth secret", "")
    assert not problem.startswith("clouds.yaml")


def test_vendors() -> None:
    assert OpenstackCloud.problems(checked({"profile": "ovh"})) == ()
    with pytest.raises(MultipleInvalid, match="expected a URL, or a vendor that openstacksdk"):
        checked({"profile": "no-such-vendor"})
    checked({"profile": "https://vendor.example"})
    checked({"profile": None})


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"networks": []}, "expected at least one network|auto"),
        ({"networks": "some"}, "networks"),
        ({"networks": [{"network": "a", "fixed_ip": "10.0.0"}]}, "expected an IP address"),
        ({"networks": [7]}, "networks"),
        ({"boot_volume": {}}, "size_gb"),
        ({"boot_volume": {"size_gb": 0}}, "from 1 to"),
        ({"boot_volume": {"size_gb": 1, "delete_on_termination": "no"}}, "true or false"),
        ({"security_groups": ["a", "a"]}, "expected each one once"),
        ({"server_group": {}}, "expected one of policy, name"),
        ({"server_group": {"policy": "affinity", "name": "g"}}, "group of exclusion"),
        ({"scheduler_hints": {"group": "g"}}, "say in option `server_group`"),
        ({"scheduler_hints": {"": "g"}}, "the name of a hint"),
        ({"user_data": "a", "user_data_file": "/b"}, "expected one of user_data, user_data_file"),
        ({"tags": ["a,b"]}, "without comma and slash"),
        ({"metadata": {"isoneph-id": "x"}}, "isoneph's own"),
        ({"metadata": {"a/b": "x"}}, "a name of letters"),
        ({"metadata": {"a": "two\nlines"}}, "in one line"),
        ({"description": "x" * (LONGEST_WORDS + 1)}, f"of 0 to {LONGEST_WORDS} characters"),
        ({"flavor": ""}, "of 1 to 255 characters"),
        ({"config_drive": 1}, "true or false"),
    ],
)
def test_bad_type_options_are_told(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(MultipleInvalid, match=complaint):
        worker_options(**options)


def test_numbers_of_options() -> None:
    for bad in (0, -1, "3", True, float("nan"), float("inf")):
        with pytest.raises(MultipleInvalid, match="expected a positive number"):
            checked({**PASSWORD, "calls_per_second": bad})
    for bad in (0, 1.5, True):
        with pytest.raises(Invalid, match="expected a whole number of 1 or more"):
            whole(1)(bad)


# Marks.


def test_marks_can_be_read_back() -> None:
    owner = Owner("m" * 63, identity.new_id())
    words = "of a friend; isoneph vm x of y".ljust(LONGEST_WORDS)[:LONGEST_WORDS]
    longest = marks.describe(owner, words)
    assert len(longest) == LONGEST_DESCRIPTION
    for description in (marks.describe(owner), longest):
        assert marks.owner_of(description) == owner


@pytest.mark.parametrize(
    "description",
    [
        None,
        "",
        "isoneph vm 1 of mme",
        f"isoneph vm {VM_ID} of m m e",
        f"isoneph vm {VM_ID} of mme.\n",
        f"copied from isoneph vm {VM_ID} of mme",
        f"isoneph vm {VM_ID} of mme and more",
    ],
)
def test_what_only_resembles_a_mark_is_none(description: str | None) -> None:
    assert marks.owner_of(description) is None


def test_names_of_groups_can_be_read_back() -> None:
    for policy in ("affinity", "anti-affinity", "soft-affinity", "soft-anti-affinity"):
        name = marks.group_name("mme-1.x", "worker_2", policy)
        assert marks.group_application(name) == "mme-1.x"
    for name in (
        "isoneph",
        "isoneph mme worker",
        "isoneph a b c affinity",
        "x isoneph a b affinity",
    ):
        assert marks.group_application(name) is None
