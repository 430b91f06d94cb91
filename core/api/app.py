"""The ASGI application, put together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import falcon.asgi

from isoneph.core.api.answers import encode
from isoneph.core.api.openapi import document_json
from isoneph.core.api.operations import Context, Resource
from isoneph.core.api.problems import MEDIA_TYPE, problem_of
from isoneph.core.api.routes import routes
from isoneph.core.api.service import Document
from isoneph.core.api.tracing import Request, Tracer
from isoneph.core.application import Deployment


class Api:
    """The API over a started deployment; ``asgi`` is what a server calls.

    Starting and closing the deployment is its owner's business.
    """

    def __init__(self, deployment: Deployment) -> None:
        tracer = Tracer(deployment.metrics)
        self._context = Context(deployment, tracer)
        app = falcon.asgi.App(request_type=Request, middleware=[tracer])
        app.add_error_handler(Exception, _answer_problem)
        app.add_error_handler(falcon.HTTPError, _answer_problem)
        made: dict[type[Resource], Resource] = {}
        for route in routes():
            if route.resource not in made:
                made[route.resource] = route.resource(self._context)
            app.add_route(route.path, made[route.resource])
        for resource in made.values():
            if isinstance(resource, Document):
                resource.data = document_json()
        self.asgi: Callable[..., Awaitable[None]] = app

    def close(self) -> None:
        """Begin to stop: requests that only wait are answered now."""
        self._context.closing.set()


async def _answer_problem(
    req: Request,
    resp: falcon.asgi.Response | None,
    error: Exception,
    _params: Any,
    ws: falcon.asgi.WebSocket | None = None,
) -> None:
    """Falcon calls this for whatever a request ended in."""
    if resp is None:
        if ws is not None:
            await ws.close()
        return
    problem, headers = problem_of(error, req.raw_path, req.id)
    resp.status = problem.status
    resp.content_type = MEDIA_TYPE
    resp.data = encode(problem)
    resp.set_headers(dict(headers))
