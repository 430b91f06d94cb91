"""What is wrong with a request is told with its place, and what would be right."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_asyncio

from api_site import NOBODY, Site, open_site, problem
from world import World

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = {"content-type": "application/json"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(lasting_world: World) -> Site:
    """One that no test here changes."""
    return await open_site(lasting_world)


@pytest.mark.parametrize(
    ("body", "path", "text"),
    [
        ('{"typ": "worker"}', "$.typ", "unknown; did you mean 'type'?"),
        (
            '{"type": "worker", "flavour": 1}',
            "$.flavour",
            "unknown; expected one of type, count, min_count, cloud, near, tags",
        ),
        ("{}", "$", "Object missing required field `type`"),
        ("[]", "$", "Expected `object`, got `array`"),
        ('{"type": 1}', "$.type", "Expected `str`, got `int`"),
        ('{"type": "worker", "count": 0}', "$.count", "Expected `int` >= 1"),
        ('{"type": "worker", "count": 1001}', "$.count", "Expected `int` <= 1000"),
        ('{"type": "worker", "count": 1.5}', "$.count", "Expected `int | null`, got `float`"),
        ('{"type": "worker", "count": "2"}', "$.count", "Expected `int | null`, got `str`"),
        ('{"type": "worker", "tags": {"a": 1}}', "$.tags[...]", "Expected `str`, got `int`"),
        ('{"type": "worker", "near": ""}', "$.near", "Expected `str` of length >= 1"),
    ],
)
async def test_a_wrong_body_is_told_with_its_place(
    site: Site, body: str, path: str, text: str
) -> None:
    for url in ("/vm", "/v1/mme/placement"):
        response = await site.http.post(url, content=body, headers=JSON)
        found = problem(response, 400, "invalid_body")
        assert found["errors"] == [{"path": path, "text": text}]
    assert (await site.http.get("/vm")).json()["total"] == 0


@pytest.mark.parametrize(
    "tags",
    [
        {"isoneph-id": "x"},
        {"": "x"},
        {"a b": "x"},
        {"a": "x" * 256},
        {"a": "x\ny"},
        {f"tag{number}": "" for number in range(17)},
    ],
)
async def test_tags_are_fit_for_every_cloud(site: Site, tags: dict[str, str]) -> None:
    response = await site.http.post("/vm", json={"type": "worker", "tags": tags})
    problem(response, 400, "invalid_body")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"type": "wroker"}, 422, "unknown_type"),
        ({"type": "worker", "cloud": "tango"}, 422, "unknown_cloud"),
        ({"type": "worker", "count": 2, "min_count": 3}, 422, "bad_request"),
    ],
)
async def test_what_only_the_balancer_knows_to_be_wrong_is_told_too(
    site: Site, body: dict[str, Any], status: int, code: str
) -> None:
    for url in ("/vm", "/placement"):
        problem(await site.http.post(url, json=body), status, code)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"nonsense", b'{"type": "worker"} x', b'{"type": "\xff"}', b"[" * 60000]
)
async def test_what_is_not_json_is_told(site: Site, body: bytes) -> None:
    response = await site.http.post("/vm", content=body, headers=JSON)
    problem(response, 400, "invalid_body")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
)
async def test_only_plain_json_is_taken(site: Site, headers: dict[str, str]) -> None:
    # A page in a browser can have it send anything else to us without asking.
    response = await site.http.post("/vm", content=b'{"type": "worker"}', headers=headers)
    problem(response, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("query", "path", "text"),
    [
        ("lmit=3", "lmit", "unknown; did you mean 'limit'?"),
        (
            "x=1",
            "x",
            "unknown; expected one of type, cloud, state, limit, marker, tags",
        ),
        ("limit=0", "limit", "Expected `int` >= 1"),
        ("limit=1001", "limit", "Expected `int` <= 1000"),
        ("limit=ten", "limit", "Expected `int`"),
        ("limit=", "limit", "Expected `int`"),
        ("limit=1&limit=2", "limit", "given twice"),
        ("tag.a=1&tag.a=2", "tag.a", "given twice"),
        ("tags=a", "tags", "expected tag.NAME=VALUE"),
        ("state=active", "state", "Invalid enum value 'active'"),
    ],
)
async def test_a_wrong_query_is_told_with_its_place(
    site: Site, query: str, path: str, text: str
) -> None:
    found = problem(await site.http.get(f"/vm?{query}"), 400, "invalid_query")
    assert found["errors"] == [{"path": path, "text": text}]


@pytest.mark.parametrize("query", ["limit=%ff", "&".join(f"tag.t{n}=" for n in range(65))])
async def test_a_query_that_cannot_be_read_is_told(site: Site, query: str) -> None:
    problem(await site.http.get(f"/vm?{query}"), 400, "invalid_query")


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("GET", "/type?x=1"),
        ("GET", "/cloud/uniform?x"),
        ("DELETE", "/vm/x?force=true"),
        ("GET", "/health/live?x=1"),
        ("GET", "/?x=1"),
    ],
)
async def test_where_no_parameter_applies_none_is_taken(site: Site, method: str, url: str) -> None:
    problem(await site.http.request(method, url), 400, "invalid_query")


@pytest.mark.parametrize("accept", ["*/*", "application/json", "application/*;q=0.5, text/html"])
async def test_who_takes_json_gets_it(site: Site, accept: str) -> None:
    response = await site.http.get("/vm", headers={"accept": accept})
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("url", "accept"),
    [("/vm", "text/html"), ("/metrics", "application/json"), ("/vm", "nonsense")],
)
async def test_who_takes_only_other_forms_is_told(site: Site, url: str, accept: str) -> None:
    response = await site.http.get(url, headers={"accept": accept})
    problem(response, 406, "not_acceptable")


@pytest.mark.parametrize("key", ["", " ", "a\tb", "x" * 256, "caf\xe9"])
async def test_an_idempotency_key_is_printable_and_not_too_long(site: Site, key: str) -> None:
    headers = {b"Idempotency-Key": key.encode("latin-1")}
    for request in (
        site.http.post("/vm", json={"type": "worker"}, headers=headers),
        site.http.delete("/vm", headers=headers),
    ):
        problem(await request, 400, "invalid_header")


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("timeout=5", 422),
        ("wait=ACTIVE&timeout=601", 422),
        ("wait=ACTIVE&timeout=inf", 422),
        ("wait=ACTIVE&timeout=-1", 400),
        ("wait=ACTIVE&timeout=nan", 400),
        ("wait=active", 400),
        ("wait=null", 400),
        ("wait=", 400),
    ],
)
async def test_waiting_has_bounds(site: Site, query: str, status: int) -> None:
    code = "bad_request" if status == 422 else "invalid_query"
    problem(await site.http.post(f"/vm?{query}", json={"type": "worker"}), status, code)
    assert (await site.http.get("/vm")).json()["total"] == 0


@pytest.mark.parametrize("name", ["", "x", NOBODY[:-1], NOBODY.upper().replace("0", "A"), "%0a"])
async def test_what_is_no_id_is_not_there(site: Site, name: str) -> None:
    for method in ("GET", "DELETE"):
        problem(await site.http.request(method, f"/vm/{name}"), 404, "unknown_vm")
