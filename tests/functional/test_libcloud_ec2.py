"""The service over EC2, as moto's server plays it: overflow, prices, faults and restarts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from moto_server import IMAGE, REGIONS, SECRET_KEY, MotoServer
from services import Service, wait_for

WORKER = {"type": "worker"}
HOME, AWAY = REGIONS


@pytest.fixture(scope="module")
def ec2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MotoServer]:
    server = MotoServer(tmp_path_factory.mktemp("moto") / "moto.log")
    yield server
    server.close()


@pytest.fixture(autouse=True)
def _as_new(ec2: MotoServer) -> Iterator[None]:
    yield
    ec2.mend()
    for region in REGIONS:
        for cloud_id in running(ec2, region):
            ec2.call("TerminateInstances", region, InstanceId__1=cloud_id)


def running(ec2: MotoServer, region: str = HOME) -> list[str]:
    answer = ec2.call(
        "DescribeInstances",
        region,
        **{"Filter__1__Name": "instance-state-name"} | {"Filter__1__Value__1": "running"},
    )
    return re.findall("<instanceId>(.*?)</instanceId>", answer)


def tag(ec2: MotoServer, key: str, region: str = HOME) -> list[str]:
    answer = ec2.call("DescribeInstances", region)
    return re.findall(f"<key>{key}</key><value>(.*?)</value>", answer)


@pytest.fixture
def start(make_service: Callable[..., Service]) -> Callable[..., Service]:
    """Starts a service on clouds and policies."""

    def begin(
        clouds: Mapping[str, Any], placement: list[Any], *, start: bool = True, **more: Any
    ) -> Service:
        service = make_service()
        (service.directory / "clouds.yaml").write_text(json.dumps({"clouds": clouds}))
        worker = {"clouds": {name: on_ec2() for name, c in clouds.items() if "region" in c}}
        service.write_application("mme", types={"worker": worker}, placement=placement, **more)
        return service.start() if start else service

    return begin


def on_ec2() -> Mapping[str, Any]:
    user_data = "#cloud-config\n# {{isoneph.id}} of {{isoneph.application}} on {{isoneph.cloud}}\n"
    return {"size": "t3.micro", "image": IMAGE, "user_data": user_data}


def create(client: httpx.Client, **more: Any) -> dict[str, Any]:
    answer = client.post("/vm", json=WORKER, **more)
    assert answer.status_code == 201, answer.text
    vm: dict[str, Any] = answer.json()
    return vm


def why(vm: Mapping[str, Any], policy: str) -> str:
    """What a policy said of the cloud that was chosen."""
    (chosen,) = (v for v in vm["placement"]["ranking"] if v["candidate"] == vm["cloud"])
    return next(str(r["text"]) for r in chosen["reasons"] if r["policy"] == policy)


def test_a_private_cloud_flows_over_into_a_public_one(
    ec2: MotoServer, start: Callable[..., Service], tmp_path: Path
) -> None:
    private = {"driver": "mock", "state": str(tmp_path / "private.db"), "quotas": {"instances": 2}}
    service = start(
        {"uniform": private, "public": ec2.options()},
        ["quota", {"policy": "overflow", "order": ["uniform", "public"]}],
    )
    with service.client() as client:
        vms = [create(client) for _ in range(4)]
        assert [vm["cloud"] for vm in vms] == ["uniform", "uniform", "public", "public"]
        assert why(vms[2], "overflow") == "number 2 of 2 in order"
        assert sorted(tag(ec2, "isoneph-id")) == sorted(vm["id"] for vm in vms[2:])
        assert sorted(running(ec2)) == sorted(vm["cloud_id"] for vm in vms[2:])
        active = client.get(f"/vm/{vms[2]['id']}", params={"wait": "ACTIVE"}).json()
        assert active["state"] == "ACTIVE"
        assert active["addresses"]["public"]
        assert client.delete(f"/vm/{vms[0]['id']}").status_code in (200, 204)
        assert wait_for(lambda: create(client)["cloud"] == "uniform", "room in the private cloud")
    assert SECRET_KEY not in service.said()


def test_a_vm_has_an_interface_on_each_of_its_subnets(
    ec2: MotoServer, start: Callable[..., Service]
) -> None:
    (vpc,) = set(re.findall("<vpcId>(.*?)<", ec2.call("CreateVpc", CidrBlock="10.3.0.0/16")))
    for n, name in enumerate(("ltemgmt", "lteuser"), 1):
        ec2.call(
            "CreateSubnet",
            VpcId=vpc,
            CidrBlock=f"10.3.{n}.0/24",
            TagSpecification__1__ResourceType="subnet",
            TagSpecification__1__Tag__1__Key="Name",
            TagSpecification__1__Tag__1__Value=name,
        )
    ec2.call("CreateSecurityGroup", VpcId=vpc, GroupName="mme_worker", GroupDescription="-")
    wired = {"networks": ["lteuser", "ltemgmt"], "security_groups": ["mme_worker"]}
    service = start({"public": ec2.options()}, ["count-balance"], start=False)
    service.write_application(
        "mme", types={"worker": {"options": {**on_ec2(), **wired}}}, placement=["count-balance"]
    )
    service.start()
    with service.client() as client:
        addresses = create(client)["addresses"]
    assert set(addresses) == {"lteuser", "ltemgmt"}
    assert addresses["lteuser"][0].startswith("10.3.2.")
    assert addresses["ltemgmt"][0].startswith("10.3.1.")


def test_the_cheaper_region_is_taken_until_it_is_full(
    ec2: MotoServer, start: Callable[..., Service]
) -> None:
    prices = {"frankfurt": {"worker": 0.0108}, "virginia": {"worker": 0.0094}}
    service = start(
        {"frankfurt": ec2.options(HOME), "virginia": ec2.options(AWAY, max_vms=2)},
        ["quota", {"policy": "cost-aware", "currency": "USD", "prices": prices}],
    )
    with service.client() as client:
        vms = [create(client) for _ in range(3)]
    assert [vm["cloud"] for vm in vms] == ["virginia", "virginia", "frankfurt"]
    assert why(vms[0], "cost-aware").startswith("0.0094 USD/h")
    rejected = {v["candidate"]: v for v in vms[2]["placement"]["ranking"]}["virginia"]
    assert rejected["score"] is None
    assert (len(running(ec2, HOME)), len(running(ec2, AWAY))) == (1, 2)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("InsufficientInstanceCapacity", "no_capacity"),
        ("VcpuLimitExceeded", "quota_exceeded"),
        ("RequestLimitExceeded", "throttled"),
        ("AuthFailure", "unauthorized"),
    ],
)
def test_what_one_region_refuses_the_other_takes(
    ec2: MotoServer, start: Callable[..., Service], code: str, expected: str
) -> None:
    service = start(
        {"frankfurt": ec2.options(HOME), "virginia": ec2.options(AWAY)},
        [{"policy": "overflow", "order": ["frankfurt", "virginia"]}],
    )
    ec2.fail("RunInstances", region=HOME, code=code)
    with service.client() as client:
        vm = create(client)
    assert vm["cloud"] == "virginia"
    (refusal,) = vm["placement"]["refusals"]
    assert (refusal["cloud"], refusal["code"]) == ("frankfurt", expected)
    assert code in refusal["text"]
    assert (len(running(ec2, HOME)), len(running(ec2, AWAY))) == (0, 1)


def test_a_lost_answer_makes_one_vm(ec2: MotoServer, start: Callable[..., Service]) -> None:
    service = start(
        {"public": ec2.options(isoneph={"timeout": 5})},
        [{"policy": "overflow", "order": ["public"]}],
    )
    before = ec2.calls()["RunInstances"]
    ec2.fail("RunInstances", late=4.2)
    with service.client() as client:
        vm = create(client)
        assert ec2.calls()["RunInstances"] == before + 2
        assert running(ec2) == [vm["cloud_id"]]
        assert [one["id"] for one in client.get("/vm").json()["vms"]] == [vm["id"]]
    assert "asking again" in service.said()


def test_a_key_that_was_used_and_deleted_makes_a_new_vm(
    ec2: MotoServer, start: Callable[..., Service]
) -> None:
    """The client token of the first is used up: EC2 would give the dead one back."""
    service = start({"public": ec2.options()}, [{"policy": "overflow", "order": ["public"]}])
    with service.client() as client:
        first = create(client, headers={"Idempotency-Key": "worker-1"})
        again = client.post("/vm", json=WORKER, headers={"Idempotency-Key": "worker-1"}).json()
        assert again["cloud_id"] == first["cloud_id"]
        client.delete(f"/vm/{first['id']}")
        wait_for(lambda: not running(ec2), "gone")
        second = create(client, headers={"Idempotency-Key": "worker-1"})
        assert second["id"] == first["id"]
        assert running(ec2) == [second["cloud_id"]] != [first["cloud_id"]]


def test_a_service_that_lost_everything_finds_its_vms(
    ec2: MotoServer, start: Callable[..., Service]
) -> None:
    clouds = {"frankfurt": ec2.options(HOME), "virginia": ec2.options(AWAY)}
    before = ec2.calls()
    service = start(clouds, ["count-balance"])
    with service.client() as client:
        vms = [create(client) for _ in range(4)]
    service.kill()
    service = start(clouds, ["count-balance"])
    with service.client() as client:
        found = client.get("/vm").json()["vms"]
        assert {vm["id"]: vm["cloud_id"] for vm in found} == {
            vm["id"]: vm["cloud_id"] for vm in vms
        }
        for vm in found:
            client.delete(f"/vm/{vm['id']}")
        wait_for(lambda: not running(ec2, HOME) + running(ec2, AWAY), "all are gone")
        assert client.get("/vm").json()["vms"] == []
    calls = ec2.calls() - before
    assert (calls["RunInstances"], calls["TerminateInstances"]) == (4, 4)


def test_a_cloud_that_is_down_keeps_nobody_from_starting_or_serving(
    ec2: MotoServer, start: Callable[..., Service], tmp_path: Path
) -> None:
    nobody_listens = ec2.options(port=1)
    private = {"driver": "mock", "state": str(tmp_path / "private.db")}
    service = start(
        {"public": nobody_listens, "uniform": private},
        [{"policy": "overflow", "order": ["public", "uniform"]}],
    )
    with service.client() as client:
        vm = create(client)
        assert vm["cloud"] == "uniform"
        clouds = {one["name"]: one for one in client.get("/cloud").json()["clouds"]}
    assert not clouds["public"]["healthy"]
    assert "no connection to the provider" in clouds["public"]["last_error"]
    assert "clouds.public: host, port" in clouds["public"]["last_error"]


def test_an_image_that_is_not_there_is_told_with_its_place(
    ec2: MotoServer, start: Callable[..., Service]
) -> None:
    service = start({"public": ec2.options()}, ["count-balance"], start=False)
    service.write_application(
        "mme",
        types={"worker": {"options": {**on_ec2(), "image": "ami-0123456789abcdef0"}}},
        placement=["count-balance"],
    )
    service.start()
    with service.client() as client:
        problem = client.post("/vm", json=WORKER).json()
    assert "InvalidAMIID.NotFound" in problem["detail"]
    assert "application mme: types.worker.options.image" in problem["detail"]
