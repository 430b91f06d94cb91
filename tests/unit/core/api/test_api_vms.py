"""``vm``: creating, listing, showing and removing over HTTP."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from api_site import NOBODY, Site, open_site, problem
from isoneph.core import identity
from isoneph.core.model import Vm, VmRequest, VmState
from world import World


async def test_a_vm_is_created_with_its_reasons_and_its_place(site: Site) -> None:
    response = await site.http.post("/v1/mme/vm", json={"type": "worker", "tags": {"role": "a"}})
    assert response.status_code == 201
    vm = response.json()
    assert response.headers["location"] == f"/v1/mme/vm/{vm['id']}"
    assert vm | {"type": "worker", "cloud": "uniform", "state": "BUILDING"} == vm
    assert vm["tags"] == {"role": "a"}
    assert vm["existed"] is False
    assert [verdict["candidate"] for verdict in vm["placement"]["ranking"]] == ["uniform", "quebec"]
    assert vm["placement"]["ranking"][0]["reasons"][0]["policy"] == "count-balance"
    shown = await site.http.get(response.headers["location"])
    assert shown.json()["placement"] == vm["placement"]
    assert "existed" not in shown.json()


async def test_the_base_url_of_the_default_application_is_the_root(site: Site) -> None:
    vm = await site.create()
    assert (await site.http.get(f"/vm/{vm['id']}")).json()["application"] == "mme"
    assert (await site.http.get("/v1/mme/vm")).json()["total"] == 1


async def test_count_creates_a_list(site: Site) -> None:
    response = await site.http.post("/vm", json={"type": "worker", "count": 3})
    assert response.status_code == 201
    assert "location" not in response.headers
    clouds = Counter(vm["cloud"] for vm in response.json()["vms"])
    assert (clouds, response.json()["failures"]) == ({"uniform": 2, "quebec": 1}, [])


async def test_count_1_is_one_vm(site: Site) -> None:
    assert "id" in await site.create(count=1)


async def test_what_could_not_be_placed_of_many_is_told(world: World) -> None:
    site = await open_site(world, world.settings({"uniform": {"quotas": {"instances": 2}}}))
    body = {"type": "worker", "count": 3, "min_count": 1}
    response = await site.http.post("/vm", json=body)
    assert response.status_code == 201
    assert len(response.json()["vms"]) == 2
    assert "quota_exceeded" in response.json()["failures"][0]


async def test_an_idempotency_key_gives_the_same_vm_again(site: Site) -> None:
    key = {"Idempotency-Key": "scale-out-17"}
    first = await site.http.post("/vm", json={"type": "worker"}, headers=key)
    again = await site.http.post("/vm", json={"type": "worker"}, headers=key)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() | {"id": first.json()["id"], "existed": True} == again.json()
    assert again.json()["placement"] == first.json()["placement"]
    assert again.headers["location"] == first.headers["location"]
    other = await site.http.post("/vm", json={"type": "worker", "near": "x"}, headers=key)
    problem(other, 422, "idempotency_key_reused")


async def test_a_create_can_wait_until_the_vm_is_active(world: World) -> None:
    site = await open_site(world, world.settings({"uniform": {"boot_seconds": 5.0}}))
    response = await site.http.post("/vm?wait=ACTIVE", json={"type": "worker"})
    assert (response.status_code, response.json()["state"]) == (201, "ACTIVE")
    assert response.json()["placement"]["ranking"]


async def test_many_can_be_waited_for_together(world: World) -> None:
    site = await open_site(world, world.settings({"uniform": {"boot_seconds": 5.0}}))
    body = {"type": "worker", "count": 5}
    response = await site.http.post("/vm?wait=ACTIVE&timeout=30", json=body)
    assert {vm["state"] for vm in response.json()["vms"]} == {"ACTIVE"}


async def test_waiting_in_vain_tells_which_vms_there_are(world: World) -> None:
    site = await open_site(world, world.settings({"uniform": {"boot_seconds": 60.0}}))
    body = {"type": "worker", "count": 2}
    late = problem(
        await site.http.post("/vm?wait=ACTIVE&timeout=3", json=body), 504, "wait_timeout"
    )
    listed = (await site.http.get("/vm")).json()["vms"]
    assert set(late["vms"]) == {vm["id"] for vm in listed}
    shown = await site.http.get(f"/vm/{late['vms'][0]}?wait=ACTIVE&timeout=1")
    assert problem(shown, 504, "wait_timeout")["vms"] == late["vms"][:1]


async def test_a_wait_ends_when_the_service_stops(world: World) -> None:
    site = await open_site(world, world.settings({"uniform": {"boot_seconds": 1e6}}))
    vm = await site.create()
    waiting = asyncio.create_task(site.http.get(f"/vm/{vm['id']}?wait=ACTIVE&timeout=600"))
    await asyncio.sleep(0.01)
    site.api.close()
    stopped = problem(await waiting, 503, "shutting_down")
    assert stopped["vms"] == [vm["id"]]
    problem(await site.http.get("/health/ready"), 503, "not_ready")


async def test_a_create_that_no_cloud_takes_tells_all_reasons(world: World) -> None:
    clouds = {"uniform": {"quotas": {"instances": 0}}, "quebec": {"capacity": {"worker": 0}}}
    site = await open_site(world, world.settings(clouds))
    failed = problem(await site.http.post("/vm", json={"type": "worker"}), 503, "placement_failed")
    codes = {refusal["cloud"]: refusal["code"] for refusal in failed["refusals"]}
    assert codes == {"uniform": "quota_exceeded", "quebec": "no_capacity"}
    assert [verdict["score"] for verdict in failed["ranking"]] == [None, None]


async def test_a_cloud_that_throttles_says_when_to_come_back(world: World) -> None:
    faults = [{"fault": "throttle", "call": "create", "retry_after": 17.2}]
    site = await open_site(world, world.settings({"uniform": {"faults": faults}}))
    response = await site.http.post("/vm", json={"type": "worker"})
    problem(response, 503, "placement_failed")
    assert response.headers["retry-after"] == "18"


async def test_a_request_that_a_cloud_will_never_take_is_not_to_be_repeated(world: World) -> None:
    site = await open_site(world)
    world.cloud("uniform").inject("invalid", call="create")
    response = await site.http.post("/vm", json={"type": "worker"})
    assert problem(response, 422, "invalid_request")["cloud"] == "uniform"


async def test_a_hanging_up_client_leaves_nothing_half_done(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    balancer = site.deployment.applications["mme"].balancer
    gateway = balancer.gateways["uniform"]
    create_vm, begun, go_on = gateway.create_vm, asyncio.Event(), asyncio.Event()

    async def slow_create_vm(request: VmRequest) -> Vm:
        begun.set()
        await go_on.wait()
        return await create_vm(request)

    monkeypatch.setattr(gateway, "create_vm", slow_create_vm)
    request = asyncio.create_task(site.http.post("/vm", json={"type": "worker"}))
    await begun.wait()
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    go_on.set()
    await balancer.drain()
    assert (await site.http.get("/vm")).json()["total"] == 1
    figures = (await site.http.get("/metrics")).text
    assert 'isoneph_request_seconds_count{method="POST",route="/vm",status="499"} 1.0' in figures


async def test_a_type_that_is_no_longer_configured_can_still_be_asked_for(world: World) -> None:
    site = await open_site(world)
    tags = {
        identity.TAG_APPLICATION: "mme",
        identity.TAG_ID: NOBODY,
        identity.TAG_TYPE: "former",
    }
    world.cloud("uniform").add_vm(tags=tags)
    world.clock.advance(10)
    listed = (await site.http.get("/vm?type=former")).json()
    assert [vm["id"] for vm in listed["vms"]] == [NOBODY]


async def test_a_page_goes_on_where_the_last_ended_though_that_vm_is_gone(site: Site) -> None:
    made = [(await site.create())["id"] for _ in range(5)]
    first = (await site.http.get("/vm?limit=2")).json()
    await site.http.delete(f"/vm/{made[1]}")
    second = (await site.http.get(first["next"])).json()
    assert [vm["id"] for vm in second["vms"]] == made[2:4]


async def test_a_list_tells_which_clouds_could_not_be_asked(world: World) -> None:
    site = await open_site(world)
    for _ in range(5):
        await site.create()
    world.clock.advance(10)
    world.cloud("quebec").begin_outage()
    listed = (await site.http.get("/vm")).json()
    assert [(one["cloud"], one["code"]) for one in listed["incomplete"]] == [
        ("quebec", "unreachable")
    ]
    assert {vm["state"] for vm in listed["vms"] if vm["cloud"] == "quebec"} == {"UNKNOWN"}
    assert listed["total"] == 5


async def test_a_vm_is_removed_and_removing_it_again_succeeds(site: Site) -> None:
    vm = await site.create()
    for _ in range(2):
        response = await site.http.delete(f"/vm/{vm['id']}")
        assert (response.status_code, response.content) == (204, b"")
    problem(await site.http.get(f"/vm/{vm['id']}"), 404, "unknown_vm")
    assert (await site.http.delete(f"/vm/{NOBODY}")).status_code == 204


async def test_the_balancer_chooses_the_vm_to_go_and_says_why(site: Site) -> None:
    for cloud in ("uniform", "quebec", "quebec"):
        await site.create(cloud=cloud)
    response = await site.http.delete("/vm")
    assert response.status_code == 200
    removal = response.json()
    assert removal["vm"]["cloud"] == "quebec"
    assert removal["ranking"][0]["candidate"] == removal["vm"]["id"]
    assert removal["ranking"][0]["reasons"][0]["policy"] == "largest-cloud"
    other = (await site.http.delete("/vm?cloud=uniform&type=worker")).json()
    assert other["vm"]["cloud"] == "uniform"


async def test_a_retried_removal_takes_no_second_vm(site: Site) -> None:
    for _ in range(3):
        await site.create()
    key = {"Idempotency-Key": "scale-in-3"}
    first = await site.http.delete("/vm", headers=key)
    again = await site.http.delete("/vm", headers=key)
    assert first.json()["vm"] is not None
    assert again.json() == {"vm": None, "ranking": None}
    assert (await site.http.get("/vm")).json()["total"] == 2


async def test_without_vms_there_is_none_to_remove(site: Site) -> None:
    problem(await site.http.delete("/vm"), 404, "unknown_vm")


async def test_a_vm_that_fails_to_boot_is_waited_for_elsewhere(world: World) -> None:
    site = await open_site(world)
    world.cloud("uniform").inject("error_after_accept", call="create")
    response = await site.http.post("/vm?wait=ACTIVE", json={"type": "worker"})
    assert (response.status_code, response.json()["cloud"]) == (201, "quebec")
    assert response.json()["state"] == VmState.ACTIVE
    story = (await site.http.get(response.headers["location"])).json()["placement"]
    assert [refusal["code"] for refusal in story["refusals"]] == ["boot_failed"]


async def test_requests_are_measured_by_route(site: Site) -> None:
    await site.create()
    await site.http.get("/vm/x")
    await site.http.get("/nope")
    figures = (await site.http.get("/metrics")).text
    for labels in (
        'method="POST",route="/vm",status="201"',
        'method="GET",route="/vm/{vm_id}",status="404"',
        'method="GET",route="none",status="404"',
    ):
        assert f"isoneph_request_seconds_count{{{labels}}} 1.0" in figures


async def test_two_creates_with_one_key_at_once_make_one_vm(world: World) -> None:
    site = await open_site(world)
    key = {"Idempotency-Key": "once"}
    answers = await asyncio.gather(
        *(site.http.post("/vm", json={"type": "worker"}, headers=key) for _ in range(5))
    )
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 200, 201]
    assert len({answer.json()["id"] for answer in answers}) == 1
