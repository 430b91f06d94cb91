"""``vm``: creating, listing, showing and removing over HTTP."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from api_site import NOBODY, TWO, Site, open_site, problem, with_service
from isoneph.core import identity
from isoneph.core.model import VmState
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


@pytest.mark.parametrize("key", ["", " ", "a\tb", "x" * 256, "caf\xe9"])
async def test_an_idempotency_key_is_printable_and_not_too_long(site: Site, key: str) -> None:
    headers = {"Idempotency-Key": key.encode("latin-1")}
    for request in (
        site.http.post("/vm", json={"type": "worker"}, headers=headers),
        site.http.delete("/vm", headers=headers),
    ):
        problem(await request, 400, "invalid_header")


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


@pytest.mark.parametrize(
    "query",
    [
        "timeout=5",
        "wait=ACTIVE&timeout=11",
        "wait=ACTIVE&timeout=-1",
        "wait=ACTIVE&timeout=nan",
        "wait=ACTIVE&timeout=inf",
        "wait=active",
        "wait=null",
        "wait=",
    ],
)
async def test_waiting_has_bounds(world: World, query: str) -> None:
    site = await open_site(world, with_service(world.settings(TWO), max_wait=10.0))
    problem(await site.http.post(f"/vm?{query}", json={"type": "worker"}), 400, "invalid_query")
    assert (await site.http.get("/vm")).json()["total"] == 0


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


async def test_a_hanging_up_client_leaves_nothing_half_done(world: World) -> None:
    site = await open_site(world)
    request = asyncio.create_task(site.http.post("/vm", json={"type": "worker"}))
    while not world.cloud("uniform").calls.get("create"):  # noqa: ASYNC110 (it is in another thread)
        await asyncio.sleep(0.001)
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    await site.deployment.applications["mme"].balancer.drain()
    assert (await site.http.get("/vm")).json()["total"] == 1
    figures = (await site.http.get("/metrics")).text
    assert 'isoneph_request_seconds_count{method="POST",route="/vm",status="499"} 1.0' in figures


async def make_fleet(site: Site) -> list[Any]:
    return [
        await site.create(cloud=cloud, tags=tags)
        for cloud, tags in (
            ("uniform", {"role": "a", "zone": "1"}),
            ("uniform", {"role": "a", "zone": "2"}),
            ("quebec", {"role": "b"}),
            ("quebec", {}),
            ("quebec", {"role": "a", "zone": "1"}),
        )
    ]


@pytest.mark.parametrize(
    ("query", "places"),
    [
        ("", [0, 1, 2, 3, 4]),
        ("cloud=quebec", [2, 3, 4]),
        ("type=worker&cloud=uniform", [0, 1]),
        ("tag.role=a", [0, 1, 4]),
        ("tag.role=a&tag.zone=1", [0, 4]),
        ("tag.role=a&cloud=quebec", [4]),
        ("tag.role=c", []),
        ("state=ERROR", []),
        ("state=BUILDING&limit=2", [0, 1]),
    ],
)
async def test_lists_are_filtered(site: Site, query: str, places: list[int]) -> None:
    made = await make_fleet(site)
    response = await site.http.get(f"/vm?{query}")
    assert response.status_code == 200
    found = [vm["id"] for vm in response.json()["vms"]]
    assert found == [made[place]["id"] for place in places]


@pytest.mark.parametrize(
    ("query", "code"), [("type=wroker", "unknown_type"), ("cloud=tango", "unknown_cloud")]
)
async def test_a_filter_by_what_is_not_there_is_a_mistake(
    site: Site, query: str, code: str
) -> None:
    problem(await site.http.get(f"/vm?{query}"), 422, code)
    problem(await site.http.delete(f"/vm?{query}"), 422, code)


async def test_a_type_that_is_no_longer_configured_can_still_be_asked_for(world: World) -> None:
    site = await open_site(world)
    tags = {
        identity.TAG_APPLICATION: "mme",
        identity.TAG_ID: NOBODY,
        identity.TAG_TYPE: "former",
    }
    world.cloud("uniform").add_vm(tags)
    world.clock.advance(10)
    listed = (await site.http.get("/vm?type=former")).json()
    assert [vm["id"] for vm in listed["vms"]] == [NOBODY]


async def test_pages_follow_one_another(site: Site) -> None:
    made = [vm["id"] for vm in await make_fleet(site)]
    seen, link = [], "/v1/mme/vm?limit=2&tag.role=a"
    while link:
        page = (await site.http.get(link)).json()
        assert page["total"] == 3
        seen += [vm["id"] for vm in page["vms"]]
        link = page.get("next", "")
        assert not link or link.startswith("/v1/mme/vm?tag.role=a&limit=2&marker=")
    assert seen == [made[0], made[1], made[4]]


async def test_a_page_goes_on_where_the_last_ended_though_that_vm_is_gone(site: Site) -> None:
    made = [vm["id"] for vm in await make_fleet(site)]
    first = (await site.http.get("/vm?limit=2")).json()
    await site.http.delete(f"/vm/{made[1]}")
    second = (await site.http.get(first["next"])).json()
    assert [vm["id"] for vm in second["vms"]] == made[2:4]


@pytest.mark.parametrize("marker", ["", "x", "1_x", f"_{NOBODY}", f"x_{NOBODY}"])
async def test_a_marker_is_not_made_up(site: Site, marker: str) -> None:
    problem(await site.http.get(f"/vm?marker={marker}"), 400, "invalid_query")


async def test_a_list_tells_which_clouds_could_not_be_asked(world: World) -> None:
    site = await open_site(world)
    await make_fleet(site)
    world.clock.advance(10)
    world.cloud("quebec").begin_outage()
    listed = (await site.http.get("/vm")).json()
    assert [(one["cloud"], one["code"]) for one in listed["incomplete"]] == [
        ("quebec", "unreachable")
    ]
    assert {vm["state"] for vm in listed["vms"] if vm["cloud"] == "quebec"} == {"UNKNOWN"}
    assert listed["total"] == 5


async def test_nothing_inside_is_shown(site: Site) -> None:
    await site.create()
    shown = (await site.http.get("/vm")).json()["vms"][0]
    assert "request_digest" not in shown


async def test_a_vm_is_removed_and_removing_it_again_succeeds(site: Site) -> None:
    vm = await site.create()
    for _ in range(2):
        response = await site.http.delete(f"/vm/{vm['id']}")
        assert (response.status_code, response.content) == (204, b"")
    problem(await site.http.get(f"/vm/{vm['id']}"), 404, "unknown_vm")
    assert (await site.http.delete(f"/vm/{NOBODY}")).status_code == 204


@pytest.mark.parametrize("name", ["", "x", NOBODY[:-1], NOBODY.upper().replace("0", "A"), "%0a"])
async def test_what_is_no_id_is_not_there(site: Site, name: str) -> None:
    await site.create()
    for method in ("GET", "DELETE"):
        problem(await site.http.request(method, f"/vm/{name}"), 404, "unknown_vm")
    assert (await site.http.get("/vm")).json()["total"] == 1


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
