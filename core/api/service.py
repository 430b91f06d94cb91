"""What is not any application's: the index, health, metrics, the OpenAPI document."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

from prometheus_client import CONTENT_TYPE_LATEST

from isoneph.core import application
from isoneph.core.api import access, examples
from isoneph.core.api.answers import Application, ApplicationList, Health, Index
from isoneph.core.api.operations import (
    Answer,
    Context,
    Resource,
    default_application,
    operation,
)
from isoneph.core.api.problems import Refused
from isoneph.core.api.tracing import Request
from isoneph.core.application import Deployment
from isoneph.core.errors import StoreError

VERSION = version("isoneph")
LINKS = {
    "applications": "/v1",
    "openapi": "/openapi.json",
    "live": "/health/live",
    "ready": "/health/ready",
    "metrics": "/metrics",
}


class Root(Resource):
    """The service."""

    @operation(
        name="get_index",
        summary="Show what the service is",
        answers={200: Answer(text="Where to go on.", types=(Index,), example=examples.INDEX)},
    )
    async def on_get(self, *, req: Request) -> Index:
        """Show what the service is."""
        return Index("isoneph", VERSION, LINKS)

    on_head = on_get


class ApplicationCollection(Resource):
    """The applications."""

    @operation(
        name="list_applications",
        summary="List applications",
        text="Those that are open, and those that know the token, whatever its scopes.",
        answers={
            200: Answer(
                text="All that the token may see.",
                types=(ApplicationList,),
                example=examples.APPLICATION_LIST,
            )
        },
        problems=("unauthenticated",),
    )
    async def on_get(self, *, req: Request) -> ApplicationList:
        """List applications."""
        default = default_application(self.deployment)
        return ApplicationList(
            [
                Application(one.settings.name, f"/v1/{one.settings.name}", default == name)
                for name, one in self.deployment.applications.items()
                if name in self._visible(req)
            ]
        )

    on_head = on_get

    def _visible(self, req: Request) -> Sequence[str]:
        """The names of those that the request may see. Raises Refused when it has a token that
        is not known, or none where nothing can be seen without."""
        tokens = {name: one.settings.tokens for name, one in self.deployment.applications.items()}
        known = [token for some in tokens.values() for token in some]
        opened = [name for name, some in tokens.items() if not some]
        if not known or (req.auth is None and opened):
            return opened
        found = access.find(req, known)
        req.token = found[0].name
        return [
            name
            for name, some in tokens.items()
            if not some or any(token in found for token in some)
        ]


class Live(Resource):
    """Whether the process answers at all."""

    @operation(
        name="get_live",
        summary="Tell whether the process answers",
        answers={200: Answer(text="It does.", types=(Health,), example=examples.ALIVE)},
    )
    async def on_get(self, *, req: Request) -> Health:
        """Tell whether the process answers."""
        return examples.ALIVE

    on_head = on_get


class Ready(Resource):
    """Whether requests would be served."""

    @operation(
        name="get_ready",
        summary="Tell whether requests can be served",
        text="They can when the store answers and one application or more has a cloud that is "
        "not left alone by its circuit breaker.",
        answers={200: Answer(text="They can.", types=(Health,), example=examples.READY)},
        problems=("not_ready",),
    )
    async def on_get(self, *, req: Request) -> Health:
        """Tell whether requests can be served."""
        reasons = ["the service is being stopped"] if self.context.closing.is_set() else []
        reasons += await _obstacles(self.deployment)
        if reasons:
            raise Refused("not_ready", "; ".join(reasons), reasons=reasons)
        return examples.READY

    on_head = on_get


class MetricsPage(Resource):
    """The figures for Prometheus."""

    @operation(
        name="get_metrics",
        summary="Show the figures for Prometheus",
        text="Where an application has tokens, one with scope `metrics` is needed.",
        answers={200: Answer(text="All figures.", media_type=CONTENT_TYPE_LATEST)},
        problems=("unauthenticated", "forbidden"),
    )
    async def on_get(self, *, req: Request) -> bytes:
        """Show the figures for Prometheus."""
        applications = [one.settings for one in self.deployment.applications.values()]
        access.admit(req, applications, "metrics")
        return self.deployment.metrics.exposition()

    on_head = on_get


class Document(Resource):
    """The OpenAPI document."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        #: Set once all routes are known, this one included.
        self.data = b"{}"

    @operation(
        name="get_openapi",
        summary="Show this document",
        answers={200: Answer(text="OpenAPI 3.1.")},
    )
    async def on_get(self, *, req: Request) -> bytes:
        """Show the OpenAPI document."""
        return self.data

    on_head = on_get


async def _obstacles(deployment: Deployment) -> list[str]:
    """Why no request could be served; empty when some can."""
    if not deployment.applications:
        return ["no application is configured"]
    obstacles = [
        f"{name}: no cloud can be used"
        for name, one in deployment.applications.items()
        if not any(gateway.breaker.available for gateway in one.balancer.gateways.values())
    ]
    if len(obstacles) < len(deployment.applications):
        obstacles = []
    return obstacles + await _store_obstacles(next(iter(deployment.applications.values())))


async def _store_obstacles(one: application.Application) -> list[str]:
    """Why the store cannot be used: what every placement does first is tried."""
    try:
        await one.balancer.ledger.refresh()
    except StoreError as error:
        return [f"the store: {error.message}"]
    return []
