"""Reading bodies, queries and headers strictly, with a word on what would be right."""

from __future__ import annotations

import asyncio
import re
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct

from isoneph.core.api.problems import Mistake, Refused
from isoneph.core.api.requests import IdempotencyKey
from isoneph.core.api.tracing import Request
from isoneph.core.config.problems import nearest

S = TypeVar("S", bound=Struct)

JSON = "application/json"
#: Seconds that a client may take to send a body.
BODY_TIMEOUT = 30.0
MAX_PARAMETERS = 64
TAG_PREFIX = "tag."
KEY_HEADER = "idempotency-key"

#: As msgspec words its errors.
_ERROR = re.compile(r"(?P<text>.*?)(?: - at (?:`key` in )?`(?P<path>.*)`)?", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*)`", re.DOTALL)
_ACCEPTED = ("*/*", "application/*", JSON)


def check_accept(req: Request, media_type: str) -> None:
    """Raise Refused when the client does not take ``media_type``, the only form there is."""
    accept = req.accept
    if accept in _ACCEPTED and media_type == JSON:
        return
    if not req.client_accepts(media_type):
        raise Refused("not_acceptable", f"the answer is {media_type}, which Accept leaves out")


async def read_body(req: Request, kind: type[S], max_bytes: int) -> S:
    """The request's JSON body as a ``kind``. Raises Refused."""
    given = (req.content_type or "").partition(";")[0].strip().lower()
    if given != JSON:
        raise Refused("unsupported_media_type", f"expected a body of Content-Type {JSON}")
    if req.get_header("content-encoding", default="identity").lower() != "identity":
        raise Refused("unsupported_media_type", "expected a body without a Content-Encoding")
    if (req.content_length or 0) > max_bytes:
        raise _too_large(max_bytes)
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            data = await req.stream.read(max_bytes + 1)
    except TimeoutError:
        raise Refused("body_timeout", f"no whole body within {BODY_TIMEOUT:g} s") from None
    if len(data) > max_bytes:
        raise _too_large(max_bytes)
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise _mistaken("invalid_body", "the body", error, kind) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        text = str(error) if data else "expected a JSON object, found nothing"
        raise Refused("invalid_body", f"the body is not JSON: {text}") from None


def read_query(req: Request, kind: type[S] | None) -> S | None:
    """The request's query as a ``kind``; None takes no parameter at all. Raises Refused."""
    text = req.query_string
    if not text:
        return kind() if kind is not None else None
    values = _parameters(text)
    if kind is None:
        raise Refused("invalid_query", f"no parameter applies here, not '{next(iter(values))}'")
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _mistaken("invalid_query", "the query", error, kind) from None


def read_key(req: Request) -> str | None:
    """The request's idempotency key, if it has one. Raises Refused."""
    key = req.get_header(KEY_HEADER)
    if key is None:
        return None
    try:
        return msgspec.convert(key, IdempotencyKey)
    except msgspec.ValidationError as error:
        raise Refused(
            "invalid_header", f"Idempotency-Key: {error}; expected printable ASCII characters"
        ) from None


def _parameters(text: str) -> dict[str, Any]:
    """The parameters of a query, each once, those of tags in a dictionary of their own."""
    try:
        pairs = parse_qsl(
            text, keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS
        )
    except ValueError as error:
        raise Refused("invalid_query", f"the query cannot be read: {error}") from None
    values: dict[str, Any] = {}
    tags: dict[str, str] = {}
    for name, value in pairs:
        is_tag = name.startswith(TAG_PREFIX)
        into, key = (tags, name.removeprefix(TAG_PREFIX)) if is_tag else (values, name)
        if key in into or name == "tags":
            text = "given twice" if key in into else "expected tag.NAME=VALUE"
            raise Refused(
                "invalid_query", f"the query is wrong: {name}: {text}", errors=[Mistake(name, text)]
            )
        into[key] = value
    if tags:
        values["tags"] = tags
    return values


def _mistaken(code: str, what: str, error: msgspec.ValidationError, kind: type[Struct]) -> Refused:
    """A refusal that says where the mistake is and, of a wrong word, which may be meant."""
    match = _ERROR.fullmatch(str(error))
    text, path = (match["text"], match["path"] or "$") if match else (str(error), "$")
    unknown = _UNKNOWN.fullmatch(text)
    if unknown:
        text = _unknown(unknown["name"], kind)
        path = f"{path}.{unknown['name'][:80]}"
    if code == "invalid_query":
        text = text.replace(", got `str`", "")
        path = path.removeprefix("$.")
    told = f"{what} is wrong: {text}" if path == "$" else f"{what} is wrong: {path}: {text}"
    return Refused(code, told, errors=[Mistake(path, text)])


def _unknown(name: str, kind: type[Struct]) -> str:
    known = list(kind.__struct_encode_fields__)
    near = nearest(name, known)
    hint = f"did you mean '{near}'?" if near else f"expected one of {', '.join(known)}"
    return f"unknown; {hint}" if known else "unknown"


def _too_large(max_bytes: int) -> Refused:
    return Refused("body_too_large", f"the body has more than {max_bytes} bytes")
