"""Lists of VMs: filters and pages."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_asyncio

from api_site import NOBODY, Site, open_site, problem
from world import World

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(lasting_world: World) -> Site:
    return await open_site(lasting_world)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(site: Site) -> list[Any]:
    """The VMs that are there all the time."""
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
async def test_lists_are_filtered(
    site: Site, fleet: list[Any], query: str, places: list[int]
) -> None:
    response = await site.http.get(f"/vm?{query}")
    assert response.status_code == 200
    found = [vm["id"] for vm in response.json()["vms"]]
    assert found == [fleet[place]["id"] for place in places]


@pytest.mark.parametrize(
    ("query", "code"), [("type=wroker", "unknown_type"), ("cloud=tango", "unknown_cloud")]
)
async def test_a_filter_by_what_is_not_there_is_a_mistake(
    site: Site, query: str, code: str
) -> None:
    problem(await site.http.get(f"/vm?{query}"), 422, code)
    problem(await site.http.delete(f"/vm?{query}"), 422, code)


async def test_pages_follow_one_another(site: Site, fleet: list[Any]) -> None:
    made = [vm["id"] for vm in fleet]
    seen, link = [], "/v1/mme/vm?limit=2&tag.role=a"
    while link:
        page = (await site.http.get(link)).json()
        assert page["total"] == 3
        seen += [vm["id"] for vm in page["vms"]]
        link = page.get("next", "")
        assert not link or link.startswith("/v1/mme/vm?tag.role=a&limit=2&marker=")
    assert seen == [made[0], made[1], made[4]]


@pytest.mark.parametrize(
    "marker", ["", "x", "1_x", "1.000000_x", f"_{NOBODY}", f"nan_{NOBODY}", f"1_{NOBODY}"]
)
async def test_a_marker_is_not_made_up(site: Site, marker: str) -> None:
    problem(await site.http.get(f"/vm?marker={marker}"), 400, "invalid_query")


async def test_nothing_inside_is_shown(site: Site, fleet: list[Any]) -> None:
    shown = (await site.http.get("/vm")).json()["vms"][0]
    assert "request_digest" not in shown


async def test_a_page_is_as_old_as_the_last_change(site: Site, fleet: list[Any]) -> None:
    before = (await site.http.get("/vm")).json()
    assert (await site.http.get("/vm")).json() == before
    assert (await site.http.get("/vm?limit=1")).json()["vms"] == before["vms"][:1]
    more = await site.create()
    after = (await site.http.get("/vm")).json()
    assert [vm["id"] for vm in after["vms"]] == [*(vm["id"] for vm in fleet), more["id"]]
    await site.http.delete(f"/vm/{more['id']}")
    assert (await site.http.get("/vm")).json()["total"] == before["total"]
