"""What an operation of the API is: one declaration that requests are read by, answers written
by, and the OpenAPI document made from."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NoReturn

import falcon.asgi
from msgspec import Struct

from isoneph.core.api import access
from isoneph.core.api.access import Scope
from isoneph.core.api.answers import encode
from isoneph.core.api.problems import Refused
from isoneph.core.api.reading import JSON, check_accept, read_body, read_key, read_query
from isoneph.core.api.tracing import CLIENT_GONE, Request, Tracer
from isoneph.core.application import Application, Deployment

OK = 200
NO_CONTENT = 204

#: What a handler returns: a structure, or the finished bytes; with another status than 200 or
#: headers, a :class:`Reply`; None for no content.
Handler = Callable[..., Awaitable[Any]]
Responder = Callable[..., Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One way in which an operation succeeds."""

    text: str
    #: The structures that the body may be; none where it is given as bytes.
    types: Sequence[type[Struct]] = ()
    #: None for no body.
    media_type: str | None = JSON
    #: What each header means.
    headers: Mapping[str, str] = field(default_factory=dict)
    example: Struct | None = None
    #: Operations on what was answered: each takes a part of the path from this member.
    links: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A method of a resource.

    ``problems`` are the codes of those that only some operations have; what any may answer is
    known without. ``keyed`` operations take an Idempotency-Key.
    """

    name: str
    summary: str
    text: str = ""
    scope: Scope | None = None
    query: type[Struct] | None = None
    body: type[Struct] | None = None
    body_example: Struct | None = None
    keyed: bool = False
    answers: Mapping[int, Answer]
    problems: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer with another status than 200, or with headers."""

    answer: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class Context:
    """What all resources share."""

    def __init__(self, deployment: Deployment, tracer: Tracer) -> None:
        self.deployment = deployment
        self.tracer = tracer
        #: Set when the service is being stopped: nobody waits for a VM any more then.
        self.closing = asyncio.Event()


class Resource:
    """What a URL stands for; its methods are operations."""

    #: Whether it belongs to an application, whose tokens then decide.
    of_application: ClassVar[bool] = False

    def __init__(self, context: Context) -> None:
        self.context = context

    @property
    def deployment(self) -> Deployment:
        """What the process runs."""
        return self.context.deployment


class ApplicationResource(Resource):
    """A resource of one application; its operations get that :class:`Application` first."""

    of_application = True

    def application(self, req: Request, name: str | None, scope: Scope) -> Application:
        """The application that ``name``, or nothing, means, if the request has its ``scope``.

        Raises Refused. Who has no token anywhere does not learn which names there are.
        """
        applications = self.deployment.applications
        found = applications.get(self.default() if name is None else name)
        if found is None:
            tokens = [t for a in applications.values() for t in a.settings.tokens]
            if tokens:
                access.find(req, tokens)
            self._unknown(name)
        access.admit(req, (found.settings,), scope)
        return found

    def default(self) -> str:
        """The name of the application that is meant when none is named; empty if none is."""
        return default_application(self.deployment)

    def _unknown(self, name: str | None) -> NoReturn:
        raise Refused(
            "unknown_application",
            "no application is the default one; name it, as in /v1/NAME/vm"
            if name is None
            else f"there is no application '{name}'",
        )


def default_application(deployment: Deployment) -> str:
    """The application that is meant when none is named: the one that the configuration says,
    or the only one; empty if there is none such."""
    default = deployment.settings.service.default_application
    if default is None and len(deployment.applications) == 1:
        return next(iter(deployment.applications))
    return default or ""


def operation(**declared: Any) -> Callable[[Handler], Responder]:
    """Declare a method to be an :class:`Operation`, whose fields are the arguments.

    The method gets what the declaration says it takes: the application, the parts of the path
    by name, ``query``, ``body`` and ``key``; ``req`` always.
    """
    spec = Operation(**declared)
    media_types = {status: answer.media_type for status, answer in spec.answers.items()}
    media_type = next(iter(media_types.values()))

    def decorate(handler: Handler) -> Responder:
        @functools.wraps(handler)
        async def respond(
            resource: Resource, req: Request, resp: falcon.asgi.Response, **path: str
        ) -> None:
            if media_type is not None:
                check_accept(req, media_type)
            first: tuple[Any, ...] = ()
            arguments: dict[str, Any] = dict(path)
            if isinstance(resource, ApplicationResource) and spec.scope is not None:
                name = arguments.pop("application", None)
                first = (resource.application(req, name, spec.scope),)
            query = read_query(req, spec.query)
            if query is not None:
                arguments["query"] = query
            if spec.keyed:
                arguments["key"] = read_key(req)
            if spec.body is not None:
                max_bytes = resource.deployment.settings.service.max_body
                arguments["body"] = await read_body(req, spec.body, max_bytes)
            try:
                answer = await handler(resource, *first, req=req, **arguments)
            except asyncio.CancelledError:
                resource.context.tracer.ended(req, CLIENT_GONE)
                raise
            _write(resp, answer, media_types)

        respond.operation = spec  # type: ignore[attr-defined]  # read by operation_of
        return respond

    return decorate


def operation_of(responder: Any) -> Operation:
    """The declaration of a responder."""
    declared: Operation = responder.operation
    return declared


def _write(resp: falcon.asgi.Response, answer: Any, media_types: Mapping[int, str | None]) -> None:
    status = NO_CONTENT if answer is None else OK
    if isinstance(answer, Reply):
        status = answer.status
        resp.set_headers(dict(answer.headers))
        answer = answer.answer
    resp.status = status
    media_type = media_types[status]
    if media_type is not None:
        resp.content_type = media_type
        resp.data = answer if isinstance(answer, bytes) else encode(answer)
