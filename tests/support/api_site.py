"""The API over a deployment on simulated clouds, without a network."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import httpx

from isoneph.core.api import Api
from isoneph.core.application import Deployment
from isoneph.core.settings import ApplicationSettings, ServiceSettings, Settings, TokenSettings
from world import World

TWO: Mapping[str, Mapping[str, Any]] = {"uniform": {}, "quebec": {}}
NOBODY = "00000000-0000-4000-8000-000000000000"


def token(name: str, *scopes: str) -> TokenSettings:
    """The settings of a token whose owner holds ``secret-NAME``."""
    digest = hashlib.sha256(f"secret-{name}".encode()).hexdigest()
    return TokenSettings(name=name, sha256=digest, scopes=frozenset(scopes))


def bearer(name: str) -> dict[str, str]:
    """The header of who holds the token of that name."""
    return {"authorization": f"Bearer secret-{name}"}


def with_service(settings: Settings, **service: Any) -> Settings:
    return dataclasses.replace(settings, service=ServiceSettings(**service))


def with_applications(settings: Settings, *applications: ApplicationSettings) -> Settings:
    return dataclasses.replace(settings, applications={one.name: one for one in applications})


class Site:
    """A deployment, its API, and a client."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.api = Api(deployment)
        transport = httpx.ASGITransport(app=self.api.asgi)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://isoneph")

    async def create(self, **body: Any) -> Any:
        """Create a VM that has to succeed; the answer."""
        response = await self.http.post("/vm", json={"type": "worker", **body})
        assert response.status_code == 201, response.text
        return response.json()


async def open_site(world: World, settings: Settings | None = None, **application: Any) -> Site:
    deployment = await world.start(settings or world.settings(TWO, **application))
    return Site(deployment)


def problem(response: httpx.Response, status: int, code: str) -> Any:
    """The problem in an answer, which has to be this one."""
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    assert response.headers["content-type"] == "application/problem+json"
    found = response.json()
    assert found["type"] == f"urn:isoneph:problem:{code}"
    assert found["status"] == status
    assert found["request_id"] == response.headers["x-request-id"]
    assert found["instance"] == response.request.url.raw_path.decode().partition("?")[0]
    return found
