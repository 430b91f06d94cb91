"""Tokens: who may do what, and what who may not learns."""

from __future__ import annotations

import dataclasses
import logging

import pytest
import pytest_asyncio

from api_site import NOBODY, TWO, Site, bearer, open_site, problem, token, with_applications
from world import World

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(lasting_world: World) -> Site:
    """Two applications with tokens, ``mme`` and ``other``, and an open one, ``open``."""
    settings = lasting_world.settings(TWO)
    mme = dataclasses.replace(
        settings.applications["mme"],
        tokens=(
            token("reader", "read"),
            token("owner", "read", "write"),
            token("prometheus", "metrics"),
        ),
    )
    other = dataclasses.replace(mme, name="other", tokens=(token("stranger", "read", "write"),))
    opened = dataclasses.replace(mme, name="open", tokens=())
    return await open_site(lasting_world, with_applications(settings, mme, other, opened))


READS = [
    ("GET", "/v1/mme/vm"),
    ("HEAD", "/v1/mme/vm"),
    ("GET", f"/v1/mme/vm/{NOBODY}"),
    ("GET", "/v1/mme/type"),
    ("GET", "/v1/mme/type/worker"),
    ("GET", "/v1/mme/cloud"),
    ("GET", "/v1/mme/cloud/uniform"),
    ("POST", "/v1/mme/placement"),
]
WRITES = [("POST", "/v1/mme/vm"), ("DELETE", "/v1/mme/vm"), ("DELETE", f"/v1/mme/vm/{NOBODY}")]


@pytest.mark.parametrize(("method", "url"), READS + WRITES)
async def test_without_a_token_of_the_application_nothing_goes(
    guarded: Site, method: str, url: str
) -> None:
    for headers in (
        {},
        {"authorization": "Bearer"},
        {"authorization": "Bearer  "},
        {"authorization": "Basic secret-owner"},
        {"authorization": "secret-owner"},
        bearer("nobody"),
        bearer("stranger"),
    ):
        response = await guarded.http.request(method, url, headers=headers)
        assert response.status_code == 401
        assert response.headers["www-authenticate"].startswith('Bearer realm="isoneph"')
        wrong = headers in (bearer("nobody"), bearer("stranger"))
        assert ("invalid_token" in response.headers["www-authenticate"]) == wrong


@pytest.mark.parametrize(("method", "url"), READS)
async def test_reading_needs_scope_read(guarded: Site, method: str, url: str) -> None:
    for name in ("reader", "owner"):
        json = {"type": "worker"} if method == "POST" else None
        response = await guarded.http.request(method, url, headers=bearer(name), json=json)
        assert response.status_code in (200, 404)
    denied = await guarded.http.request(method, url, headers=bearer("prometheus"))
    assert denied.status_code == 403


@pytest.mark.parametrize(("method", "url"), WRITES)
async def test_changing_needs_scope_write(guarded: Site, method: str, url: str) -> None:
    denied = await guarded.http.request(method, url, headers=bearer("reader"))
    assert "write" in problem(denied, 403, "forbidden")["detail"]
    assert 'error="insufficient_scope", scope="write"' in denied.headers["www-authenticate"]
    json = {"type": "worker"} if method == "POST" else None
    allowed = await guarded.http.request(method, url, headers=bearer("owner"), json=json)
    assert allowed.status_code in (200, 201, 204, 404)


async def test_the_scheme_has_any_case(guarded: Site) -> None:
    headers = {"authorization": "bEARER secret-reader"}
    assert (await guarded.http.get("/v1/mme/vm", headers=headers)).status_code == 200


async def test_an_application_without_tokens_is_open(guarded: Site) -> None:
    assert (await guarded.http.get("/v1/open/vm")).status_code == 200
    assert (await guarded.http.get("/v1/open/vm", headers=bearer("nobody"))).status_code == 200


async def test_who_has_no_token_does_not_learn_the_names(guarded: Site) -> None:
    problem(await guarded.http.get("/v1/nope/vm"), 401, "unauthenticated")
    known = await guarded.http.get("/v1/nope/vm", headers=bearer("stranger"))
    problem(known, 404, "unknown_application")


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        (None, ["open"]),
        ("reader", ["mme", "open"]),
        ("prometheus", ["mme", "open"]),
        ("stranger", ["other", "open"]),
    ],
)
async def test_a_token_sees_its_applications(
    guarded: Site, name: str | None, seen: list[str]
) -> None:
    response = await guarded.http.get("/v1", headers=bearer(name) if name else {})
    assert [one["name"] for one in response.json()["applications"]] == seen


async def test_a_wrong_token_sees_no_applications(guarded: Site) -> None:
    problem(await guarded.http.get("/v1", headers=bearer("nobody")), 401, "unauthenticated")


async def test_where_nothing_is_open_the_list_needs_a_token(lasting_world: World) -> None:
    site = await open_site(
        lasting_world, lasting_world.settings(TWO, tokens=(token("owner", "read"),))
    )
    problem(await site.http.get("/v1"), 401, "unauthenticated")
    listed = (await site.http.get("/v1", headers=bearer("owner"))).json()
    assert listed == {"applications": [{"name": "mme", "url": "/v1/mme", "default": True}]}


async def test_metrics_need_their_scope_once_there_are_tokens(guarded: Site) -> None:
    problem(await guarded.http.get("/metrics"), 401, "unauthenticated")
    problem(await guarded.http.get("/metrics", headers=bearer("owner")), 403, "forbidden")
    shown = await guarded.http.get("/metrics", headers=bearer("prometheus"))
    assert shown.status_code == 200


@pytest.mark.parametrize("url", ["/", "/health/live", "/health/ready", "/openapi.json"])
async def test_what_tells_nothing_needs_no_token(guarded: Site, url: str) -> None:
    assert (await guarded.http.get(url)).status_code == 200


async def test_the_log_has_the_tokens_name_never_the_token(
    guarded: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await guarded.http.get("/v1/mme/vm", headers=bearer("reader"))
    await guarded.http.get("/v1/mme/vm", headers=bearer("mistyped"))
    assert "token reader" in caplog.text
    assert "secret" not in caplog.text
