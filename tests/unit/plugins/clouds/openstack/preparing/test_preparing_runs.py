"""What holds for all kinds of things: other runs at the same time, failures, what types name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fake_project import FakeProject
from isoneph.core.errors import QuotaExceeded, Unreachable
from isoneph.core.model import VmType
from isoneph.plugins.clouds.openstack.errors import Conflict
from preparations import prepared, told

NETWORK = "networks: {n: {subnets: {10.1.0.0/24: {}}}}"


@pytest.fixture
def project() -> FakeProject:
    return FakeProject()


def test_who_made_the_same_at_the_same_time_takes_it_away(project: FakeProject) -> None:
    theirs: list[Any] = []
    project.before["POST /networks"] = [lambda: theirs.append(project.add("networks", name="n"))]
    assert told(prepared(project, NETWORK)) == ["made subnet n 10.1.0.0/24"]
    assert project.items["networks"] == theirs


def test_who_is_told_that_it_is_there_looks_again(project: FakeProject) -> None:
    def other() -> None:
        network = project.the("networks", "n")
        project.add("subnets", network_id=network["id"], cidr="10.1.0.0/24", gateway_ip=None)

    project.before["POST /subnets"] = [other]
    assert told(prepared(project, NETWORK)) == ["made network n"]


def test_a_conflict_with_something_that_went_away_is_tried_again(project: FakeProject) -> None:
    project.before["POST /networks"] = [_raising(Conflict("busy")), _raising(Conflict("busy"))]
    assert told(prepared(project, NETWORK))[0] == "made network n"
    assert 0 < project.clock.paused < 5


def test_two_that_another_run_is_about_to_sort_out_are_waited_for(project: FakeProject) -> None:
    networks = project.items["networks"]
    project.add("networks", name="n")
    project.add("networks", name="n")
    project.before["GET /networks"] = [lambda: None, networks.pop]
    assert told(prepared(project, NETWORK)) == ["made subnet n 10.1.0.0/24"]


def test_one_refusal_does_not_keep_the_rest_from_being_done(project: FakeProject) -> None:
    project.before["POST /networks"] = [_raising(QuotaExceeded("no more networks"))]
    text = f"{NETWORK}\nsecurity_groups: {{g: []}}"
    assert told(prepared(project, text)) == [
        "made security group g",
        "failed network n: no more networks",
    ]


def test_a_cloud_that_is_down_is_not_a_finding(project: FakeProject) -> None:
    project.before["POST /subnets"] = [_raising(Unreachable("nobody there"))]
    with pytest.raises(Unreachable):
        prepared(project, NETWORK)
    assert told(prepared(project, NETWORK)) == ["made subnet n 10.1.0.0/24"]


def _raising(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


TYPES = {
    "worker": VmType(
        name="worker",
        resources={"instances": 1, "cores": 2, "ram": 2048},
        options={
            "flavor": "small",
            "image": "debian",
            "key_name": "ops",
            "networks": ["n", {"network": "provider", "fixed_ip": "10.9.0.4"}],
            "security_groups": ["default", "web"],
        },
    ),
    "gate": VmType(
        name="gate",
        resources={"instances": 1, "ram": 2048},
        options={"flavor": "small", "image": "debian", "networks": "auto"},
    ),
}


def test_what_the_types_name_must_be_there_or_described(project: FakeProject) -> None:
    project.flavors.append({"id": "f", "name": "small", "vcpus": 1, "ram": 2048})
    text = f"{NETWORK}\nsecurity_groups: {{web: []}}"
    prepared(project, text)
    checked = told(prepared(project, text, types=TYPES, change=False), right=True)[3:]
    assert checked == [
        "differs flavor small: vcpus is 1, resources say cores: 2 (types worker)",
        (
            "missing image debian: types.worker.image, types.gate.image: cloud 'uniform' has no "
            "image 'debian' (it has: none)"
        ),
        (
            "missing keypair ops: types.worker.key_name: cloud 'uniform' has no keypair 'ops' (it "
            "has: none)"
        ),
        "right security group default",
        (
            "missing network provider: types.worker.networks: cloud 'uniform' has no network "
            "'provider' (it has: n)"
        ),
    ]
    outcomes = [line.split()[0] for line in told(prepared(project, text, types=TYPES))]
    assert outcomes == ["failed"] * 4


def test_types_that_are_right(project: FakeProject) -> None:
    project.flavors.append({"id": "f", "name": "small", "vcpus": 2, "ram": 2048})
    project.add_image("debian", b"data")
    project.add("networks", name="n")
    project.add("networks", name="provider", shared=True)
    project.add("security-groups", name="web")
    project.keypairs["ops"] = {"name": "ops"}
    assert told(prepared(project, "{}", types=TYPES)) == []
