"""The OpenAPI document says what the API does."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_asyncio
from openapi_spec_validator import validate

from api_site import Site, open_site
from isoneph.core.api.routes import routes
from world import World

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(lasting_world: World) -> Site:
    return await open_site(lasting_world)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def document(site: Site) -> Any:
    return (await site.http.get("/openapi.json")).json()


async def test_the_document_is_valid(document: Any) -> None:
    validate(document)


async def test_every_route_is_in_it(document: Any) -> None:
    documented = {
        (path, method)
        for path, item in document["paths"].items()
        for method in item
        if method != "parameters"
    }
    served = {(route.path, method) for route in routes() for method, _ in route.operations()}
    assert documented == served


async def test_every_method_that_is_not_in_it_is_refused(site: Site, document: Any) -> None:
    for path, item in document["paths"].items():
        url = path.format(application="mme", vm_id="x", name="x")
        for method in {"get", "post", "put", "patch", "delete"} - set(item):
            assert (await site.http.request(method, url)).status_code == 405


async def test_operations_have_names_of_their_own(document: Any) -> None:
    names = [
        operation["operationId"]
        for item in document["paths"].values()
        for method, operation in item.items()
        if method != "parameters"
    ]
    assert len(names) == len(set(names))


async def test_every_reference_leads_somewhere_and_nothing_is_left_over(document: Any) -> None:
    def references(value: Any) -> set[str]:
        if isinstance(value, dict):
            own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
            return own.union(*(references(item) for item in value.values()))
        if isinstance(value, list):
            return set().union(*(references(item) for item in value))
        return set()

    components = {
        f"#/components/{kind}/{name}"
        for kind, entries in document["components"].items()
        if kind != "securitySchemes"
        for name in entries
    }
    assert references(document) == components


async def test_parameters_are_described(document: Any) -> None:
    parameters = {
        parameter["name"]: parameter
        for parameter in document["paths"]["/vm"]["get"]["parameters"]
        if "name" in parameter
    }
    assert list(parameters) == ["type", "cloud", "state", "limit", "marker", "tags"]
    assert parameters["limit"]["schema"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 1000,
        "default": 1000,
    }
    assert all(parameter["description"] for parameter in parameters.values())


async def test_what_a_create_may_answer_is_complete(document: Any) -> None:
    responses = document["paths"]["/v1/{application}/vm"]["post"]["responses"]
    assert sorted(responses) == [
        *("200", "201", "400", "401", "403", "404", "406", "408", "409"),
        *("413", "415", "422", "500", "502", "503", "504"),
    ]
