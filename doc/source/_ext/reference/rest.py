"""The reference of the REST API, from the OpenAPI document that the service itself answers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sphinx.application import Sphinx

from isoneph.core.api.openapi import document_json
from isoneph.core.api.routes import BASES
from reference.text import Generated, code, heading, plain, table

METHODS = ("get", "post", "put", "patch", "delete")
SUCCESS = 400
#: Said once for all operations, not with each.
COMMON = ("X-Request-Id",)

Json = Mapping[str, Any]


class RestApi(Generated):
    """``isoneph-rest-api::``: all operations, then all structures."""

    sources = (
        "isoneph.core.api.openapi",
        "isoneph.core.api.routes",
        "isoneph.core.api.vms",
        "isoneph.core.api.clouds",
        "isoneph.core.api.service",
        "isoneph.core.api.answers",
        "isoneph.core.api.requests",
    )

    def lines(self) -> list[str]:
        """A section for each tag, with one for each operation; the structures.

        Paths that mean the default application are left out: they repeat the others.
        """
        spec = json.loads(document_json())
        shown = [path for path in spec["paths"] if BASES[0] + path not in spec["paths"]]
        lines: list[str] = []
        for tag in spec["tags"]:
            lines += heading(tag["name"], "-")
            for path in shown:
                lines += _operations(spec, tag["name"], path, spec["paths"][path])
        lines += heading("Structures", "-")
        for name, schema in spec["components"]["schemas"].items():
            lines += _structure(name, schema)
        return lines


def _operations(spec: Json, tag: str, path: str, item: Json) -> Iterator[str]:
    for method in METHODS:
        operation = item.get(method)
        if operation is None or tag not in operation["tags"]:
            continue
        yield f".. _operation-{operation['operationId'].replace('_', '-')}:"
        yield from heading(operation["summary"], "~")
        yield from (".. code-block:: text", "", f"   {method.upper()} {path}", "")
        yield from (plain(operation["description"]), "")
        parameters = [*item.get("parameters", ()), *operation["parameters"]]
        yield from _parameters([_resolved(spec, each) for each in parameters])
        yield from _body(operation.get("requestBody"))
        yield from _responses(spec, operation["responses"])


def _resolved(spec: Json, each: Json) -> Json:
    """What a reference stands for."""
    found: Any = each
    if "$ref" in each:
        found = spec
        for key in each["$ref"].removeprefix("#/").split("/"):
            found = found[key]
    return found  # type: ignore[no-any-return]  # it is a part of the document


def _parameters(parameters: Sequence[Json]) -> list[str]:
    rows = [
        (
            code(each["name"]),
            each["in"],
            _type(each["schema"]),
            "**required**" if each.get("required") else _default(each["schema"]),
            plain(each["description"]),
        )
        for each in parameters
        if each["name"] not in COMMON
    ]
    headers = ("Parameter", "In", "Type", "Default", "Meaning")
    return table(headers, rows, "18 10 22 12 38") if rows else []


def _body(body: Json | None) -> Iterator[str]:
    if body is None:
        return
    for media_type, content in body["content"].items():
        yield from (f"**Body** ({code(media_type)}): {_type(content['schema'])}", "")
        if "example" in content:
            given = {key: each for key, each in content["example"].items() if each is not None}
            yield from _json(given)


def _responses(spec: Json, responses: Mapping[str, Json]) -> Iterator[str]:
    rows = []
    for status, given in responses.items():
        response = _resolved(spec, given)
        headers = [name for name in response.get("headers", ()) if name not in COMMON]
        bodies = [_type(each["schema"]) for each in response.get("content", {}).values()]
        about = plain(response["description"])
        about += f" Header: {', '.join(map(code, headers))}." if headers else ""
        rows.append((status, about, " or ".join(bodies)))
    yield from table(("Status", "Meaning", "Body"), rows, "10 60 30")
    for status, response in responses.items():
        for content in response.get("content", {}).values():
            if int(status) < SUCCESS and "example" in content:
                yield from (f"**Example** of {status}:", "")
                yield from _json(content["example"])


def _json(example: Any) -> Iterator[str]:
    yield from (".. code-block:: json", "")
    yield from (f"   {line}" for line in json.dumps(example, indent=2).splitlines())
    yield ""


def _structure(name: str, schema: Json) -> Iterator[str]:
    yield f".. _structure-{name.lower()}:"
    yield from heading(name, "~")
    if "enum" in schema:
        about = schema.get("description", "")
        yield from (f"{plain(about)} One of {', '.join(map(code, schema['enum']))}.", "")
        return
    yield from (plain(schema.get("description", "")), "")
    required = schema.get("required", ())
    rows = [
        (
            code(field),
            _type(each),
            "**required**" if field in required else _default(each),
            plain(each.get("description", "")),
        )
        for field, each in schema["properties"].items()
    ]
    yield from table(("Field", "Type", "Default", "Meaning"), rows, "18 30 14 38")


def _default(schema: Json) -> str:
    return code(json.dumps(schema["default"])) if "default" in schema else ""


def _type(schema: Json) -> str:
    """What a schema takes, in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f":ref:`{name} <structure-{name.lower()}>`"
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(_type(each) for each in schema[several])
    if "enum" in schema:
        return " or ".join(code(json.dumps(each)) for each in schema["enum"])
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    inner = schema.get("additionalProperties")
    if kind == "object" and isinstance(inner, Mapping):
        return f"object of {_type(inner)}"
    return plain(str(kind)) + _bounds(schema)


def _bounds(schema: Json) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    words = "" if low is None else f" from {low}"
    words += "" if high is None else f" to {high}"
    longest = schema.get("maxLength")
    if longest is not None:
        words += f" of at most {longest} characters"
    return words + (", not empty" if schema.get("minLength") else "")


def setup(app: Sphinx) -> None:
    """Called by the package."""
    app.add_directive("isoneph-rest-api", RestApi)
