"""The OpenAPI 3.1 document, made from the operations and the structures that they name."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from string import Formatter
from typing import Any

import msgspec

from isoneph.core.api.answers import encode
from isoneph.core.api.operations import Answer, Operation
from isoneph.core.api.problems import KINDS, MEDIA_TYPE, TYPE_PREFIX, Problem
from isoneph.core.api.reading import JSON, TAG_PREFIX
from isoneph.core.api.requests import IdempotencyKey
from isoneph.core.api.routes import BASES, Route, routes
from isoneph.core.api.tracing import ID_PATTERN

_SCHEMAS = "#/components/schemas/{name}"
_TAG = {"vm": "VMs", "type": "VM types", "cloud": "Clouds", "placement": "Clouds"}

#: What stands in the braces of paths.
_PATH_PARAMETERS = {
    "application": "The application's name.",
    "vm_id": "The VM's id.",
    "name": "The name.",
}
_DESCRIPTION = """\
isoneph keeps an application's virtual machines balanced over several clouds.

Everything of an application stands under its base URL, `/v1/{application}`; what stands under `/`
is the default application's. Times are seconds since the epoch. Whatever goes wrong is answered
with a problem (RFC 9457), whose `code` never changes; codes of one status tell apart what the
status cannot:

- 400: the request does not fit this document.
- 422: it does, and still cannot be carried out: it contradicts itself, names what is not there,
  or a cloud finds fault with it. Repeating it is in vain.
- 502: a cloud does not accept the service's credentials, or fails in a way that an operator has
  to look into.
- 503: the same request may succeed later. Where no cloud could take a VM, `refusals` tell whether
  it was for want of quota, of room, or of a cloud that answers.
- 504: the VM was not ready in time; `vms` tells which there is all the same.

With an Idempotency-Key, creating VMs and removing one of the balancer's choice can be repeated
safely after any failure, and after an answer that was lost.
"""


@functools.cache
def document_json() -> bytes:
    """The document for all routes of the API."""
    return encode(_document(list(routes())))


def _document(table: Sequence[Route]) -> dict[str, Any]:
    types = _types(table)
    schemas, components = msgspec.json.schema_components(types, ref_template=_SCHEMAS)
    shown = dict(zip(types, schemas, strict=True))
    builder = _Builder(shown, components)
    paths = {route.path: builder.path(route) for route in table}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "isoneph",
            "version": version("isoneph"),
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in ("VMs", "VM types", "Clouds", "Service")],
        "paths": paths,
        "components": {
            "schemas": {
                name: schema for name, schema in components.items() if name not in _queries(table)
            },
            "responses": builder.problems,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of the application with the scope that the operation "
                    "names. An application without tokens takes requests without.",
                }
            },
            "parameters": {
                "RequestId": {
                    "name": "X-Request-Id",
                    "in": "header",
                    "description": "Your own name for the request, for the log; one is made "
                    "where this is absent or has another form.",
                    "schema": {"type": "string"},
                    "example": "checkout-4711",
                },
                "IdempotencyKey": builder.key(),
            },
            "headers": {
                "RequestId": {
                    "description": "The request's id, as in the service's log.",
                    "schema": {"type": "string", "pattern": f"^{ID_PATTERN.pattern}$"},
                },
                "RetryAfter": {
                    "description": "Seconds after which to try again.",
                    "schema": {"type": "integer", "minimum": 1},
                },
                "Challenge": {
                    "description": "What is missing, as RFC 6750 has it.",
                    "schema": {"type": "string"},
                },
            },
        },
    }


def _types(table: Iterable[Route]) -> list[Any]:
    """All structures of all operations, once each."""
    found: dict[Any, None] = {Problem: None, IdempotencyKey: None}
    for spec in _operations(table):
        for kind in (spec.query, spec.body):
            if kind is not None:
                found[kind] = None
        for answer in spec.answers.values():
            found.update(dict.fromkeys(answer.types))
    return list(found)


def _queries(table: Iterable[Route]) -> set[str]:
    """The names of the structures that appear as parameters only."""
    return {spec.query.__name__ for spec in _operations(table) if spec.query is not None}


def _operations(table: Iterable[Route]) -> Iterator[Operation]:
    for route in table:
        for _method, spec in route.operations():
            yield spec


class _Builder:
    """Writes paths; ``shown`` has the schema of each structure, ``components`` what they
    refer to, ``problems`` the answers that the paths written so far refer to."""

    def __init__(self, shown: dict[Any, Any], components: dict[str, Any]) -> None:
        self._shown = shown
        self._components = components
        self.problems: dict[str, Any] = {}

    def path(self, route: Route) -> dict[str, Any]:
        """A path item."""
        names = [name for _, name, _, _ in Formatter().parse(route.path) if name]
        item: dict[str, Any] = {
            "parameters": [
                {
                    "name": name,
                    "in": "path",
                    "required": True,
                    "description": _PATH_PARAMETERS[name],
                    "schema": {"type": "string", "minLength": 1},
                }
                for name in names
            ]
        }
        for method, spec in route.operations():
            item[method] = self._operation(route, spec)
        return item

    def key(self) -> dict[str, Any]:
        """The parameter Idempotency-Key."""
        schema = dict(self._shown[IdempotencyKey])
        return {
            "name": "Idempotency-Key",
            "in": "header",
            "description": schema.pop("description"),
            "schema": schema,
            "example": "b2a6f6a0-scale-out-17",
        }

    def _operation(self, route: Route, spec: Operation) -> dict[str, Any]:
        default = _is_default(route)
        word = route.path.removeprefix(BASES[0]).split("/")[1]
        scope = f"Scope `{spec.scope}`." if spec.scope else ""
        about = "Of the default application." if default else ""
        operation: dict[str, Any] = {
            "operationId": _id(spec.name, route),
            "summary": spec.summary,
            "description": " ".join(filter(None, (spec.text, about, scope))) or spec.summary,
            "tags": [_TAG.get(word, "Service")],
            "parameters": [*self._parameters(spec)],
            "responses": self._responses(route, spec),
            "security": [{"token": []}, {}] if _secured(spec) else [],
        }
        if spec.body is not None:
            content: dict[str, Any] = {"schema": self._shown[spec.body]}
            if spec.body_example is not None:
                content["example"] = _plain(spec.body_example)
            operation["requestBody"] = {"required": True, "content": {JSON: content}}
        return operation

    def _parameters(self, spec: Operation) -> Iterator[dict[str, Any]]:
        if spec.query is not None:
            name = self._shown[spec.query]["$ref"].rpartition("/")[2]
            for each, schema in self._components[name]["properties"].items():
                yield _query_parameter(each, dict(schema))
        if spec.keyed:
            yield {"$ref": "#/components/parameters/IdempotencyKey"}
        yield {"$ref": "#/components/parameters/RequestId"}

    def _responses(self, route: Route, spec: Operation) -> dict[str, Any]:
        responses = {
            str(status): self._answer(route, answer) for status, answer in spec.answers.items()
        }
        by_status: dict[int, list[str]] = {}
        for code in _codes(spec, of_application=route.resource.of_application):
            by_status.setdefault(KINDS[code].status, []).append(code)
        for status, codes in sorted(by_status.items()):
            name = ".".join(codes)
            if name not in self.problems:
                self.problems[name] = self._problem(status, codes)
            responses[str(status)] = {"$ref": f"#/components/responses/{name}"}
        return responses

    def _answer(self, route: Route, answer: Answer) -> dict[str, Any]:
        headers: dict[str, Any] = {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}}
        for name, text in answer.headers.items():
            headers[name] = {"description": text, "schema": {"type": "string"}}
        response: dict[str, Any] = {"description": answer.text, "headers": headers}
        shown = [self._shown[kind] for kind in answer.types]
        if answer.media_type is None:
            return response
        content: dict[str, Any] = {
            "schema": {"type": "object" if answer.media_type == JSON else "string"}
        }
        if shown:
            content["schema"] = {"anyOf": shown} if len(shown) > 1 else shown[0]
        if answer.example is not None:
            content["example"] = _plain(answer.example)
        response["content"] = {answer.media_type: content}
        if answer.links:
            response["links"] = {
                name: _link(_id(name, route), route, *link) for name, link in answer.links.items()
            }
        return response

    def _problem(self, status: int, codes: Sequence[str]) -> dict[str, Any]:
        headers: dict[str, Any] = {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}}
        if status in (401, 403):
            headers["WWW-Authenticate"] = {"$ref": "#/components/headers/Challenge"}
        if status in (409, 503):
            headers["Retry-After"] = {"$ref": "#/components/headers/RetryAfter"}
        listed = "; ".join(f"`{code}`: {KINDS[code].title}" for code in codes)
        return {
            "description": f"{listed}.",
            "headers": headers,
            "content": {
                MEDIA_TYPE: {
                    "schema": self._shown[Problem],
                    "examples": {code: {"value": _example(code)} for code in codes},
                }
            },
        }


def _is_default(route: Route) -> bool:
    return route.resource.of_application and not route.path.startswith(BASES[0])


def _id(name: str, route: Route) -> str:
    """The id of an operation under the same base URL as ``route``."""
    return f"{name}_of_default" if _is_default(route) else name


def _link(target: str, route: Route, parameter: str, member: str) -> dict[str, Any]:
    parameters = {parameter: f"$response.body#/{member}"}
    if not _is_default(route):
        parameters["application"] = "$request.path.application"
    return {"operationId": target, "parameters": parameters}


def _secured(spec: Operation) -> bool:
    return spec.scope is not None or "unauthenticated" in spec.problems


def _codes(spec: Operation, *, of_application: bool) -> Iterator[str]:
    """Everything that an operation may answer but success."""
    yield "invalid_query"
    yield "not_acceptable"
    if of_application:
        yield "unknown_application"
    if spec.scope is not None:
        yield from ("unauthenticated", "forbidden")
    if spec.keyed:
        yield "invalid_header"
    if spec.body is not None:
        yield from (
            "invalid_body",
            "bad_request",
            "body_timeout",
            "body_too_large",
            "unsupported_media_type",
        )
    yield from spec.problems
    if of_application:
        yield "plugin_failed"
    yield "internal"


def _query_parameter(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    parameter = {
        "name": name,
        "in": "query",
        "description": schema.pop("description", ""),
        "schema": schema,
    }
    if schema.get("type") == "object":
        # Exploded, each member of the object is a parameter of its own: tag.NAME=VALUE.
        pattern = schema.pop("propertyNames")["pattern"].removeprefix("^")
        prefix = TAG_PREFIX.replace(".", r"\.")
        schema["patternProperties"] = {f"^{prefix}{pattern}": schema["additionalProperties"]}
        schema["additionalProperties"] = False
        schema.pop("default")
        parameter |= {"style": "form", "explode": True, "example": {f"{TAG_PREFIX}role": "worker"}}
    return parameter


def _example(code: str) -> Any:
    kind = KINDS[code]
    return _plain(
        Problem(
            type=TYPE_PREFIX + code,
            title=kind.title,
            status=kind.status,
            detail="What happened, in one sentence.",
            code=code,
            instance="/v1/mme/vm",
            request_id="1f0c2d3e4a5b-2a",
        )
    )


def _plain(example: msgspec.Struct) -> Any:
    return msgspec.to_builtins(example)
