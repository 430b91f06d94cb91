"""``cloud``, ``type``, ``placement`` and what belongs to no application."""

from __future__ import annotations

import dataclasses

import pytest

from api_site import TWO, Site, open_site, problem, with_applications, with_service
from isoneph.core.errors import StoreUnavailable
from isoneph.core.model import VmType
from isoneph.core.plugin import Store
from isoneph.core.testing import make_environment
from world import World


async def test_clouds_show_their_health_and_what_runs_there(world: World) -> None:
    site = await open_site(
        world, world.settings({"uniform": {"quotas": {"cores": 8}}, "quebec": {}})
    )
    await site.create()
    gateway = site.deployment.applications["mme"].balancer.gateways["uniform"]
    gateway.refresh_limits()
    while gateway.limits is None:
        await site.http.get("/health/live")
    clouds = (await site.http.get("/cloud")).json()["clouds"]
    assert [cloud["name"] for cloud in clouds] == ["uniform", "quebec"]
    assert clouds[0] | {"healthy": True, "breaker": "closed", "vms": 1} == clouds[0]
    assert clouds[0]["limits"] == {"cores": {"limit": 8.0, "used": 0.0}}
    assert (await site.http.get("/v1/mme/cloud/uniform")).json()["by_type"] == {"worker": 1}


async def test_a_cloud_that_is_down_is_shown_as_such(world: World) -> None:
    site = await open_site(world)
    world.cloud("quebec").begin_outage()
    world.clock.advance(10)
    cloud = (await site.http.get("/cloud/quebec")).json()
    assert cloud["healthy"] is False
    assert cloud["last_error"].startswith("unreachable: ")


async def test_an_unknown_cloud_or_type_is_not_found(site: Site) -> None:
    problem(await site.http.get("/cloud/tango"), 404, "unknown_name")
    problem(await site.http.get("/type/wroker"), 404, "unknown_name")


async def test_types_show_where_they_can_be_and_what_they_take(world: World) -> None:
    settings = world.settings(TWO)
    types = {
        "worker": {
            "quebec": VmType(
                name="worker",
                resources={"instances": 1, "cores": 2},
                options={"user_data": "password: hunter2"},
            )
        }
    }
    mme = dataclasses.replace(settings.applications["mme"], types=types)
    site = await open_site(world, with_applications(settings, mme))
    listed = await site.http.get("/type")
    resources = {"instances": 1.0, "cores": 2.0}
    expected = {"name": "worker", "clouds": [{"cloud": "quebec", "resources": resources}]}
    assert listed.json() == {"types": [expected]}
    assert (await site.http.get("/type/worker")).json() == expected
    assert "hunter2" not in listed.text


async def test_a_placement_is_explained_and_nothing_created(site: Site) -> None:
    response = await site.http.post("/placement", json={"type": "worker", "cloud": "quebec"})
    assert response.status_code == 200
    ranking = response.json()["ranking"]
    assert [(one["candidate"], one["score"]) for one in ranking] == [
        ("quebec", 0.0),
        ("uniform", None),
    ]
    assert ranking[1]["reasons"][0]["text"] == "the request asks for quebec"
    assert (await site.http.get("/vm")).json()["total"] == 0


async def test_one_of_several_applications_can_be_the_default(world: World) -> None:
    settings = world.settings(TWO)
    mme = settings.applications["mme"]
    both = with_applications(settings, mme, dataclasses.replace(mme, name="other"))
    ambiguous = await open_site(world, both)
    problem(await ambiguous.http.get("/vm"), 404, "unknown_application")
    assert (await ambiguous.http.get("/v1/other/vm")).status_code == 200
    chosen = await open_site(world, with_service(both, default_application="other"))
    await chosen.create()
    assert (await chosen.http.get("/v1/other/vm")).json()["total"] == 1
    listed = (await chosen.http.get("/v1")).json()["applications"]
    assert [(one["name"], one["default"]) for one in listed] == [("mme", False), ("other", True)]


async def test_an_application_that_comes_with_a_reload_is_served(site: Site) -> None:
    settings = site.deployment.settings
    problem(await site.http.get("/v1/other/vm"), 404, "unknown_application")
    other = dataclasses.replace(settings.applications["mme"], name="other")
    await site.deployment.reload(with_applications(settings, other))
    assert (await site.http.get("/v1/other/vm")).status_code == 200
    problem(await site.http.get("/v1/mme/vm"), 404, "unknown_application")
    assert (await site.http.get("/vm")).status_code == 200


async def test_the_index_leads_everywhere(site: Site) -> None:
    index = (await site.http.get("/")).json()
    assert index["name"] == "isoneph"
    for link in index["links"].values():
        assert (await site.http.get(link)).status_code == 200


async def test_the_service_is_ready_while_one_cloud_can_be_used(world: World) -> None:
    site = await open_site(world, world.settings(TWO, cloud_settings={"breaker_failures": 1}))
    ready = await site.http.get("/health/ready")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})
    for name in TWO:
        assert (await site.http.get("/health/ready")).status_code == 200
        world.cloud(name).begin_outage()
        world.clock.advance(10)
        await site.http.get("/vm")
    unready = await site.http.get("/health/ready")
    assert problem(unready, 503, "not_ready")["reasons"] == ["mme: no cloud can be used"]
    assert (await site.http.get("/health/live")).json() == {"status": "alive"}


async def test_without_applications_the_service_is_not_ready(world: World) -> None:
    site = await open_site(world, with_applications(world.settings(TWO)))
    reasons = problem(await site.http.get("/health/ready"), 503, "not_ready")["reasons"]
    assert reasons == ["no application is configured"]
    problem(await site.http.get("/vm"), 404, "unknown_application")


class DeadStore(Store):
    """Never answers."""

    async def get(self, key: str) -> None:
        raise StoreUnavailable("no route to the store")

    put = delete = scan = get  # type: ignore[assignment]  # none of them answers


async def test_without_its_store_the_service_is_not_ready(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = await open_site(world)
    ledger = site.deployment.applications["mme"].balancer.ledger
    monkeypatch.setattr(ledger, "_store", DeadStore({}, make_environment()))
    reasons = problem(await site.http.get("/health/ready"), 503, "not_ready")["reasons"]
    assert reasons == ["the store: no route to the store"]
