"""A private OpenStack cloud with overflow into a public one, EC2 as moto's server plays it."""

from __future__ import annotations

import re
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx
import pytest
import yaml

from moto_server import IMAGE, MotoServer
from services import Service, wait_for
from testbed import Testbed

PRIVATE, PUBLIC = "uniform", "public"
QUOTA = 2
PATIENCE = 120.0
POLICIES: Mapping[str, list[Any]] = {
    "overflow": ["quota", {"policy": "overflow", "order": [PRIVATE, PUBLIC]}],
    "cost-aware": [
        "quota",
        {
            "policy": "cost-aware",
            "currency": "USD",
            "prices": {PRIVATE: {"worker": 0.004}, PUBLIC: {"worker": 0.024}},
        },
    ],
}
DEAREST_FIRST = [{**POLICIES["cost-aware"][1], "policy": "most-expensive"}]


@pytest.fixture(scope="module")
def ec2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MotoServer]:
    server = MotoServer(tmp_path_factory.mktemp("moto") / "moto.log")
    yield server
    server.close()


@pytest.fixture
def start(
    make_service: Callable[..., Service], testbed: Testbed, network: str, ec2: MotoServer
) -> Callable[[str], Service]:
    """Starts a service over the two clouds, with a placement policy."""

    def begin(policy: str) -> Service:
        service = make_service()
        entry = yaml.safe_load(testbed.clouds_file.read_text())["clouds"][PRIVATE]
        clouds = {PRIVATE: {**entry, "driver": "openstack"}, PUBLIC: ec2.options()}
        (service.directory / "clouds.yaml").write_text(
            yaml.safe_dump({"clouds": clouds}, sort_keys=False)
        )
        on_clouds = {
            PRIVATE: {"flavor": "tiny", "image": "tiny", "networks": [network]},
            PUBLIC: {"size": "t3.micro", "image": IMAGE},
        }
        (service.directory / "applications" / "mme.yaml").unlink()
        service.write_application(
            f"overflow-{secrets.token_hex(3)}",
            types={"worker": {"clouds": on_clouds}},
            placement=POLICIES[policy],
            victims=DEAREST_FIRST,
        )
        return service.start()

    return begin


def create(client: httpx.Client) -> Mapping[str, Any]:
    answer = client.post("/vm", json={"type": "worker"}, timeout=PATIENCE)
    assert answer.status_code == 201, answer.text
    vm: Mapping[str, Any] = answer.json()
    return vm


def why(vm: Mapping[str, Any], policy: str) -> str:
    """What a policy said of the cloud that was chosen."""
    (chosen,) = (v for v in vm["placement"]["ranking"] if v["candidate"] == vm["cloud"])
    return next(str(r["text"]) for r in chosen["reasons"] if r["policy"] == policy)


def wait_until_active(client: httpx.Client, vms: list[Mapping[str, Any]]) -> None:
    for vm in vms:
        now = client.get(f"/vm/{vm['id']}", params={"wait": "ACTIVE"}, timeout=PATIENCE).json()
        assert now["state"] == "ACTIVE", now


def delete_all(client: httpx.Client) -> None:
    for vm in client.get("/vm").json()["vms"]:
        assert client.delete(f"/vm/{vm['id']}", timeout=PATIENCE).is_success


def in_ec2(ec2: MotoServer) -> list[str]:
    """isoneph's ids of the instances that run there."""
    answer = ec2.call(
        "DescribeInstances",
        Filter__1__Name="instance-state-name",
        Filter__1__Value__1="running",
    )
    return re.findall("<key>isoneph-id</key><value>(.*?)</value>", answer)


@pytest.mark.parametrize(
    ("policy", "reason"), [("overflow", "number 2 of 2 in order"), ("cost-aware", "0.0240 USD")]
)
def test_what_does_not_fit_into_the_private_cloud_flows_over(
    policy: str,
    reason: str,
    testbed: Testbed,
    ec2: MotoServer,
    start: Callable[[str], Service],
) -> None:
    with testbed.quota(PRIVATE, instances=QUOTA), start(policy).client() as client:
        vms = [create(client) for _ in range(QUOTA + 2)]
        assert Counter(vm["cloud"] for vm in vms) == {PRIVATE: QUOTA, PUBLIC: 2}
        assert [vm["cloud"] for vm in vms[:QUOTA]] == [PRIVATE] * QUOTA
        assert reason in why(vms[-1], policy)
        assert all(not vm["placement"]["refusals"] for vm in vms)
        assert sorted(in_ec2(ec2)) == sorted(vm["id"] for vm in vms[QUOTA:])
        wait_until_active(client, vms)

        gone = client.delete("/vm", timeout=PATIENCE).json()["vm"]
        assert gone["cloud"] == PUBLIC  # the dearest goes first
        assert client.delete(f"/vm/{vms[0]['id']}", timeout=PATIENCE).is_success
        back = wait_for(lambda: _once_more_private(client), "room in the private cloud", PATIENCE)
        assert back["cloud"] == PRIVATE
        delete_all(client)
        wait_for(lambda: not client.get("/vm").json()["vms"], "all VMs gone", PATIENCE)
        wait_for(lambda: not testbed.census(PRIVATE).servers, "the quota is free", PATIENCE)


def _once_more_private(client: httpx.Client) -> Mapping[str, Any] | None:
    """A VM on the private cloud, once its quota has room again; none is made before."""
    asked = client.post("/placement", json={"type": "worker"}).json()
    return create(client) if asked["ranking"][0]["candidate"] == PRIVATE else None
