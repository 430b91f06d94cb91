"""``--local``: the REST API over the clouds themselves, in this process and for one command."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import httpx

from isoneph.core.api import Api
from isoneph.core.application import Deployment
from isoneph.core.registry import Registry
from isoneph.core.settings import Settings

#: Stands where a service's address would.
URL = "http://local"


class LocalTransport(httpx.BaseTransport):
    """Answers requests from a deployment of ``settings`` that has no engine.

    Whoever can read the configuration needs no token. With a shared store it works hand in
    hand with running services. Raises what :meth:`Deployment.start` raises.
    """

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self._runner = asyncio.Runner()
        self._deployment = Deployment(_trusting(settings), registry=registry)
        try:
            self._runner.run(self._deployment.start(engine=False))
        except BaseException:
            self._runner.close()
            raise
        api: Any = Api(self._deployment).asgi  # falcon's type is narrower than httpx's
        self._api = httpx.ASGITransport(api)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer it; what goes on in the background goes on meanwhile."""
        return self._runner.run(self._answer(request))

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        response = await self._api.handle_async_request(request)
        content = await response.aread()
        return httpx.Response(response.status_code, headers=response.headers, content=content)

    def close(self) -> None:
        """Finish what was begun and let the clouds go."""
        try:
            self._runner.run(self._deployment.close())
        finally:
            self._runner.close()


def _trusting(settings: Settings) -> Settings:
    applications = {
        name: dataclasses.replace(application, tokens=())
        for name, application in settings.applications.items()
    }
    service = dataclasses.replace(settings.service, allow_unauthenticated=True)
    return dataclasses.replace(settings, service=service, applications=applications)
