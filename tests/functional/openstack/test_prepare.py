"""``isoneph cloud prepare`` on two real clouds, with the sample that is installed."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from openstack_testbed.rest import Rest
from testbed import Testbed

ISONEPH = str(Path(sys.executable).parent / "isoneph")
SAMPLES = Path(__file__).parents[3] / "etc" / "isoneph"
#: The file of the sample's image, which is nowhere.
IMAGE_FILE = "/var/lib/isoneph/images/mme.qcow2"
#: What an image of that format begins with: version 3, 64 KiB clusters, 1 MiB in all.
QCOW2 = struct.pack(
    ">4sIQIIQIIQQIIQQQQII",
    *(b"QFI\xfb", 3, 0, 0, 16, 1 << 20, 0, 1, 3 << 16, 1 << 16, 1, 0, 0, 0, 0, 0, 4, 104),
).ljust(4 << 16, b"\0")
CLOUDS = ("uniform", "quebec")
GROUPS = {"default": 2, "ssh_gw": 1, "mme_fe": 2, "mme_worker": 2, "redis": 2, "spgw": 2}
NETWORKS = {"openstack": None, "ltemgmt": 3285, "lteuser": 3286}
POOLS = {
    "uniform": {
        "10.1.0.0/24": ("10.1.0.2", "10.1.0.100"),
        "10.2.0.0/24": ("10.2.0.3", "10.2.0.50"),
        "10.3.0.0/24": ("10.3.0.3", "10.3.0.50"),
    },
    "quebec": {
        "10.1.0.0/24": ("10.1.0.102", "10.1.0.200"),
        "10.2.0.0/24": ("10.2.0.52", "10.2.0.100"),
        "10.3.0.0/24": ("10.3.0.52", "10.3.0.100"),
    },
}
#: Groups, their rules, networks and subnets, a router and its interface, a keypair, an image.
DESCRIBED = 5 + sum(GROUPS.values()) + 2 * len(NETWORKS) + 2 + 2


class Site:
    """The sample's configuration, for the testbed's clouds."""

    def __init__(self, testbed: Testbed, directory: Path) -> None:
        self.testbed = testbed
        self.directory = directory
        self._file = directory / "applications" / "mme.yaml"
        self._file.parent.mkdir(parents=True)
        shutil.copy(testbed.clouds_file, directory / "clouds.yaml")
        image = directory / "mme.qcow2"
        image.write_bytes(QCOW2 + os.urandom(3_000_000))
        text = (SAMPLES / "applications" / "mme.yaml").read_text()
        assert IMAGE_FILE in text
        self.sample = text.replace(IMAGE_FILE, str(image))
        self.write(self.sample)

    def write(self, text: str) -> None:
        """Another description."""
        self._file.write_text(text)

    def describe_nothing(self) -> None:
        """The types without what they need."""
        application = yaml.safe_load(self.sample)
        del application["prepare"]
        application["types"] = {"ssh_gw": {"options": {"flavor": "tiny", "image": "tiny"}}}
        self.write(yaml.safe_dump(application))

    def command(self, *arguments: str, admin: bool = True) -> list[str]:
        """``isoneph cloud prepare mme`` for a machine to read."""
        administrator = ["--admin", str(self.testbed.admin_clouds_file)] if admin else []
        return [
            *(ISONEPH, "cloud", "prepare", "mme", "--config-dir", str(self.directory)),
            *("-f", "json", *administrator, *arguments),
        ]

    def run(self, *arguments: str, expect: int = 0, admin: bool = True) -> list[dict[str, str]]:
        """The rows that it prints."""
        command = self.command(*arguments, admin=admin)
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == expect, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        rows: list[dict[str, str]] = json.loads(done.stdout or "[]")
        return rows

    def told(self, *arguments: str, expect: int = 0) -> set[str]:
        """The rows as lines."""
        return {
            f"{row['cloud']}: {row['outcome']} {row['kind']} {row['name']}"
            + (f": {row['text']}" if row["text"] else "")
            for row in self.run(*arguments, expect=expect)
        }

    def rest(self, cloud: str) -> Rest:
        """The APIs of a cloud, by hand."""
        return self.testbed.rest(cloud)

    def listed(self, cloud: str, kind: str) -> dict[str, dict[str, Any]]:
        """What the project has in Neutron, by name."""
        rest = Rest.admin(self.testbed.settings, cloud)
        member = self.rest(cloud)
        member.login()
        path = f"/v2.0/{kind.replace('_', '-')}?project_id={member.project_id}"
        return {each["name"]: each for each in rest.call("network", "GET", path)[kind]}


@pytest.fixture
def site(testbed: Testbed, tmp_path: Path) -> Iterator[Site]:
    """With nothing of the sample in either cloud, before and after."""
    site = Site(testbed, tmp_path / "etc")
    kept = {cloud: testbed.census(cloud) for cloud in CLOUDS}
    site.describe_nothing()
    site.run("--prune")
    site.write(site.sample)
    yield site
    site.describe_nothing()
    site.run("--prune")
    for cloud in CLOUDS:
        testbed.sweep(cloud, kept[cloud])


def outcomes(rows: Sequence[dict[str, str]]) -> set[tuple[str, str]]:
    return {(row["cloud"], row["outcome"]) for row in rows}


def in_order(value: Any) -> Any:
    """A census that equals another of the same things: Neutron lists rules in any order."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return in_order(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {key: in_order(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return sorted((in_order(item) for item in value), key=repr)
    return value


@pytest.mark.timeout(600)
def test_both_clouds_are_prepared_from_nothing_kept_right_and_emptied(site: Site) -> None:
    missing = site.run("--check", expect=1)
    assert outcomes(missing) == {("uniform", "missing"), ("quebec", "missing")}
    assert len(missing) == 2 * DESCRIBED

    made = site.run()
    assert outcomes(made) == {("uniform", "made"), ("quebec", "made")}
    assert len(made) == 2 * DESCRIBED
    for cloud in CLOUDS:
        check_neutron(site, cloud)

    before = {cloud: in_order(site.testbed.census(cloud)) for cloud in CLOUDS}
    assert site.run() == site.run("--check") == []
    assert {cloud: in_order(site.testbed.census(cloud)) for cloud in CLOUDS} == before

    change_by_hand(site)
    pool = "allocation_pools {} 10.2.0.3-10.2.0.40, {} 10.2.0.3-10.2.0.50"
    subnet = "subnet ltemgmt 10.2.0.0/24: "
    sctp = "security group rule mme_fe: ingress sctp from 10.1.0.0/24"
    telnet = "security group rule mme_fe: ingress tcp 23 from anywhere"
    extra = f"quebec: extra {telnet}: not described"
    assert site.told("--check", expect=1) == {
        f"uniform: differs {subnet}{pool.format('is', 'should be')}",
        f"quebec: missing {sctp}",
        extra,
    }
    assert site.told() == {
        f"uniform: changed {subnet}{pool.format('was', 'now')}",
        f"quebec: made {sctp}",
        extra,
    }
    assert site.told("--check") == {extra}
    assert site.told("--prune") == {f"quebec: removed {telnet}"}
    assert site.told("--check") == set()

    site.describe_nothing()
    removed = site.run("--prune")
    assert outcomes(removed) == {("uniform", "removed"), ("quebec", "removed")}
    for cloud in CLOUDS:
        assert not set(NETWORKS) & set(site.listed(cloud, "networks"))
        assert set(site.listed(cloud, "security_groups")) == {"default"}
        assert site.listed(cloud, "routers") == {}


def check_neutron(site: Site, cloud: str) -> None:
    """That Neutron has what the sample describes."""
    networks = site.listed(cloud, "networks")
    for name, vlan in NETWORKS.items():
        if vlan is not None:
            assert networks[name]["provider:segmentation_id"] == vlan
            assert networks[name]["provider:physical_network"] == "physnet2"
    subnets = {each["cidr"]: each for each in site.listed(cloud, "subnets").values()}
    for cidr, (start, end) in POOLS[cloud].items():
        assert subnets[cidr]["allocation_pools"] == [{"start": start, "end": end}]
    assert subnets["10.1.0.0/24"]["gateway_ip"] == "10.1.0.1"
    assert subnets["10.2.0.0/24"]["gateway_ip"] is subnets["10.3.0.0/24"]["gateway_ip"] is None
    groups = site.listed(cloud, "security_groups")
    own = {
        name: sum(
            "isoneph" in (rule["description"] or "") for rule in group["security_group_rules"]
        )
        for name, group in groups.items()
    }
    assert own == GROUPS
    assert site.listed(cloud, "routers")["gateway"]["external_gateway_info"] is not None


def change_by_hand(site: Site) -> None:
    """A smaller pool on uniform; on quebec one rule fewer and another one more."""
    subnet = next(
        each for each in site.listed("uniform", "subnets").values() if each["cidr"] == "10.2.0.0/24"
    )
    pools = [{"start": "10.2.0.3", "end": "10.2.0.40"}]
    body: dict[str, Any] = {"subnet": {"allocation_pools": pools}}
    site.rest("uniform").call("network", "PUT", f"/v2.0/subnets/{subnet['id']}", body)
    group = site.listed("quebec", "security_groups")["mme_fe"]
    (sctp,) = [
        rule for rule in group["security_group_rules"] if rule["protocol"] in {"132", "sctp"}
    ]
    rest = site.rest("quebec")
    rest.call("network", "DELETE", f"/v2.0/security-group-rules/{sctp['id']}")
    rule = {
        "security_group_id": group["id"],
        "direction": "ingress",
        "protocol": "tcp",
        "port_range_min": 23,
        "port_range_max": 23,
    }
    body = {"security_group_rule": rule}
    rest.call("network", "POST", "/v2.0/security-group-rules", body)


@pytest.mark.timeout(300)
def test_without_an_administrator_all_but_the_vlans_are_made(site: Site) -> None:
    rows = site.run("--cloud", "uniform", admin=False, expect=1)
    failed = {row["name"]: row["text"] for row in rows if row["outcome"] == "failed"}
    assert set(failed) == {"ltemgmt", "lteuser"}
    for text in failed.values():
        assert "needs an administrator's rights: give them with --admin FILE" in text
    assert len(rows) == DESCRIBED - 2
    assert {row["name"] for row in site.run("--cloud", "uniform")} == {
        *("ltemgmt", "ltemgmt 10.2.0.0/24", "lteuser", "lteuser 10.3.0.0/24"),
    }


@pytest.mark.timeout(300)
def test_another_vlan_made_by_hand_is_named_and_left_alone(site: Site) -> None:
    member, admin = site.rest("quebec"), Rest.admin(site.testbed.settings, "quebec")
    member.login()
    network = {
        "name": "ltemgmt",
        "project_id": member.project_id,
        "provider:network_type": "vlan",
        "provider:physical_network": "physnet2",
        "provider:segmentation_id": 3288,
    }
    admin.call("network", "POST", "/v2.0/networks", {"network": network})
    difference = "segmentation_id is 3288, should be 3285"
    told = site.told("--check", "--cloud", "quebec", expect=1)
    assert f"quebec: differs network ltemgmt: {difference}" in told
    failed = (
        f"quebec: failed network ltemgmt: {difference}; that cannot be changed: remove it by hand"
    )
    assert failed in site.told("--cloud", "quebec", expect=1)
    site.describe_nothing()
    site.run("--prune")
    assert site.listed("quebec", "networks")["ltemgmt"]["provider:segmentation_id"] == 3288


@pytest.mark.timeout(300)
def test_a_run_that_is_killed_is_gone_on_with(site: Site) -> None:
    process = subprocess.Popen(site.command("--cloud", "uniform"), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while "ltemgmt" not in site.listed("uniform", "networks"):
        assert process.poll() is None, "it was quicker than we are"
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert outcomes(site.run("--cloud", "uniform")) == {("uniform", "made")}
    assert site.run("--check", "--cloud", "uniform") == []
    assert len(site.listed("uniform", "networks").keys() & NETWORKS.keys()) == len(NETWORKS)


@pytest.mark.timeout(300)
def test_runs_at_the_same_time_make_everything_once(site: Site) -> None:
    """What one sees of another in the middle may be a failure; never is anything doubled."""
    command = site.command("--cloud", "uniform")
    with ThreadPoolExecutor(3) as pool:
        runs = [
            pool.submit(subprocess.run, command, capture_output=True, check=False) for _ in range(3)
        ]
        assert {run.result().returncode for run in runs} <= {0, 1}
    site.run("--cloud", "uniform")
    assert site.run("--check", "--cloud", "uniform") == []


@pytest.mark.timeout(300)
def test_one_cloud_that_is_down_does_not_hold_up_the_other(site: Site) -> None:
    with site.testbed.stopped("quebec", "neutron"):
        rows = site.run(expect=1)
    down = [row for row in rows if row["cloud"] == "quebec"]
    assert [(row["kind"], row["outcome"]) for row in down] == [("cloud", "failed")]
    assert down[0]["text"].startswith("unreachable: ")
    assert len(rows) - len(down) == DESCRIBED
    assert site.run("--check", "--cloud", "uniform") == []
