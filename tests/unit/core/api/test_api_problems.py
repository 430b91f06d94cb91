"""Every error is a problem document; what nobody foresaw tells nothing of the inside."""

from __future__ import annotations

import logging

import pytest
import pytest_asyncio

from api_site import Site, open_site, problem
from world import World

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(lasting_world: World) -> Site:
    return await open_site(lasting_world)


async def test_a_broken_policy_is_told_in_the_log_only(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def weigh(*_: object) -> None:
        raise RuntimeError("database password is hunter2")

    policies = site.deployment.applications["mme"].policies
    monkeypatch.setattr(policies.placement[0].policy, "weigh", weigh)
    found = problem(
        await site.http.post("/placement", json={"type": "worker"}), 500, "plugin_failed"
    )
    assert "hunter2" not in found["detail"]
    assert "hunter2" in caplog.text


async def test_the_unexpected_is_told_in_the_log_only(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken() -> None:
        raise RuntimeError("database password is hunter2")

    monkeypatch.setattr(site.deployment.applications["mme"].balancer, "list", broken)
    response = await site.http.get("/vm")
    problem(response, 500, "internal")
    assert "hunter2" not in response.text
    assert "Traceback" not in response.text
    assert "RuntimeError: database password is hunter2" in caplog.text


@pytest.mark.parametrize(
    ("method", "url", "allow"),
    [
        ("PUT", "/vm", "DELETE, GET, HEAD, POST, OPTIONS"),
        ("POST", "/type", "GET, HEAD, OPTIONS"),
        ("GET", "/placement", "POST, OPTIONS"),
        ("DELETE", "/", "GET, HEAD, OPTIONS"),
        ("TRACE", "/v1/mme/vm", "DELETE, GET, HEAD, POST, OPTIONS"),
    ],
)
async def test_a_method_that_does_not_apply(site: Site, method: str, url: str, allow: str) -> None:
    response = await site.http.request(method, url)
    problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == allow


async def test_a_method_that_nobody_knows(site: Site) -> None:
    problem(await site.http.request("BREW", "/vm"), 400, "malformed_request")
    assert 'method="OTHER"' in (await site.http.get("/metrics")).text


@pytest.mark.parametrize("url", ["/nope", "/v1/mme", "/v1/mme/nope", "/vm/a/b", "/v1/mme/vm//"])
async def test_where_nothing_is(site: Site, url: str) -> None:
    problem(await site.http.get(url), 404, "not_found")


async def test_options_tell_the_methods(site: Site) -> None:
    response = await site.http.options("/vm")
    assert response.status_code == 200
    assert response.headers["allow"] == "DELETE, GET, HEAD, POST"


async def test_head_is_get_without_its_body(site: Site) -> None:
    for url in ("/vm", "/type/worker", "/cloud", "/health/ready", "/openapi.json"):
        got, head = await site.http.get(url), await site.http.head(url)
        assert (head.status_code, head.content) == (200, b"")
        if url != "/cloud":  # its figures change with time
            assert head.headers["content-length"] == got.headers["content-length"]


async def test_requests_have_ids(site: Site) -> None:
    made = [(await site.http.get("/nope")).headers["x-request-id"] for _ in range(2)]
    assert made[0] != made[1]
    given = {"X-Request-Id": "order:4711/a"}
    assert (await site.http.get("/vm", headers=given)).headers["x-request-id"] == "order:4711/a"


@pytest.mark.parametrize("name", ["", "a b", "x" * 129, 'a"b', "-x", "caf\xe9"])
async def test_a_request_id_of_another_form_is_replaced(site: Site, name: str) -> None:
    headers = {b"X-Request-Id": name.encode("latin-1")}
    shown = (await site.http.get("/vm", headers=headers)).headers["x-request-id"]
    assert shown != name
    assert len(shown) < 64


async def test_the_log_tells_of_each_request_in_one_line(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="isoneph.access")
    await site.http.get("/vm/%0aFAKE%20LINE?wait=ACTIVE")
    [record] = [record for record in caplog.records if record.name == "isoneph.access"]
    assert record.getMessage().startswith("GET /vm/%0aFAKE%20LINE 404 ")
    assert "\n" not in record.getMessage()
