"""Every error as a problem document (RFC 9457), and the one table that says how."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import falcon
from msgspec import Meta, Struct

from isoneph.core.api.answers import Refusal, Verdict, ranking_of, refusals_of
from isoneph.core.errors import CloudError, IsonephError, PlacementFailed, PluginError

LOG = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:isoneph:problem:"


class Kind(NamedTuple):
    """What is the same of all problems with one code."""

    status: int
    title: str
    #: Seconds after which to come back when nobody knows better; None when it may be in vain.
    retry_after: float | None = None


#: By code. Those of :mod:`isoneph.core.errors` first, in its order, then the API's own.
#:
#: 400 is for what does not fit the OpenAPI document, 422 for what does and still cannot be
#: carried out, 503 for what may be carried out later, 502 for what an operator has to set right.
KINDS: Mapping[str, Kind] = {
    "internal": Kind(500, "The service failed"),
    "config_invalid": Kind(500, "The configuration is wrong"),
    "plugin_error": Kind(500, "A plugin failed"),
    "plugin_missing": Kind(500, "A plugin is missing"),
    "plugin_broken": Kind(500, "A plugin cannot be loaded"),
    "plugin_doubled": Kind(500, "A plugin is there twice"),
    "plugin_failed": Kind(500, "A plugin failed"),
    "bad_request": Kind(422, "The request contradicts itself"),
    "unknown_application": Kind(404, "There is no such application"),
    "unknown_cloud": Kind(422, "There is no such cloud"),
    "unknown_type": Kind(422, "There is no such VM type"),
    "unknown_vm": Kind(404, "There is no such VM"),
    "idempotency_key_reused": Kind(422, "The idempotency key was used for another request"),
    "vm_leaving": Kind(409, "The VM is being removed", 5.0),
    "cloud_error": Kind(502, "A cloud failed"),
    "quota_exceeded": Kind(503, "The quota of a cloud is used up"),
    "no_capacity": Kind(503, "A cloud has no room"),
    "invalid_request": Kind(422, "A cloud finds fault with the request"),
    "unauthorized": Kind(502, "A cloud does not accept our credentials"),
    "throttled": Kind(503, "A cloud asks for fewer calls", 5.0),
    "unreachable": Kind(503, "A cloud does not answer", 5.0),
    "outcome_unknown": Kind(503, "A cloud did not answer in time", 5.0),
    "boot_failed": Kind(503, "A VM failed to boot"),
    "broke_down": Kind(503, "A VM broke down"),
    "placement_failed": Kind(503, "No cloud can take the VM"),
    "wait_timeout": Kind(504, "The VM is not ready yet"),
    "store_error": Kind(503, "The store failed", 1.0),
    "version_conflict": Kind(503, "Others were faster", 1.0),
    "lease_taken": Kind(409, "The same is under way already", 1.0),
    "store_unavailable": Kind(503, "The store does not answer", 1.0),
    "transport_error": Kind(500, "A transport failed"),
    "transport_unavailable": Kind(500, "A transport cannot be used here"),
    "listen_failed": Kind(500, "An address cannot be listened on"),
    "connect_failed": Kind(502, "An association could not be set up"),
    "association_closed": Kind(502, "An association is over"),
    "message_too_large": Kind(500, "A message is too large"),
    "bad_stream": Kind(500, "An association has no such stream"),
    "queue_full": Kind(503, "Too much is queued", 1.0),
    "relay_error": Kind(502, "The relay failed"),
    "relay_unreachable": Kind(503, "The relay does not answer", 1.0),
    "relay_refused": Kind(502, "The relay refuses"),
    "link_error": Kind(502, "The link to a worker failed"),
    "protocol_violation": Kind(502, "A worker sent what it may not"),
    "link_refused": Kind(502, "A worker was refused"),
    "link_down": Kind(503, "There is no link to a worker", 1.0),
    "link_full": Kind(503, "Too much is queued for a worker", 1.0),
    "malformed_request": Kind(400, "The request cannot be read"),
    "invalid_body": Kind(400, "The body is wrong"),
    "invalid_query": Kind(400, "The query is wrong"),
    "invalid_header": Kind(400, "A header is wrong"),
    "unauthenticated": Kind(401, "A token is needed"),
    "forbidden": Kind(403, "The token does not allow this"),
    "not_found": Kind(404, "There is nothing here"),
    "unknown_name": Kind(404, "There is nothing of this name"),
    "method_not_allowed": Kind(405, "The method does not apply here"),
    "not_acceptable": Kind(406, "The answer has no such form"),
    "body_timeout": Kind(408, "The body did not arrive in time"),
    "body_too_large": Kind(413, "The body is too large"),
    "uri_too_long": Kind(414, "The URL is too long"),
    "unsupported_media_type": Kind(415, "The body has the wrong form"),
    "headers_too_large": Kind(431, "There are too many headers, or too large ones"),
    "not_implemented": Kind(501, "The request's form is not supported"),
    "not_ready": Kind(503, "The service is not ready", 5.0),
    "shutting_down": Kind(503, "The service is being stopped", 1.0),
}

_BY_STATUS = {
    400: "malformed_request",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    413: "body_too_large",
    414: "uri_too_long",
    415: "unsupported_media_type",
    431: "headers_too_large",
    500: "internal",
    501: "not_implemented",
}


#: Statuses that somebody has to look into; others say in the log how the request ended, no more.
SERIOUS = frozenset({500, 502})


class Mistake(Struct, frozen=True):
    """One mistake in what was sent."""

    path: Annotated[str, Meta(description="Where it is, as a JSON path or a parameter's name.")]
    text: Annotated[str, Meta(description="What is wrong, and what would be right.")]


class Problem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a request failed, as RFC 9457 has it."""

    type: Annotated[str, Meta(description="A URN that ends in the code.")]
    title: Annotated[str, Meta(description="The kind of problem in words.")]
    status: Annotated[int, Meta(description="The HTTP status.", ge=400, le=599)]
    detail: Annotated[str, Meta(description="What happened this time.")]
    code: Annotated[str, Meta(description="The kind of problem, for programs: it never changes.")]
    instance: Annotated[str, Meta(description="The path that was asked for.")]
    request_id: Annotated[str, Meta(description="What to look for in the service's log.")]
    errors: Annotated[
        Sequence[Mistake] | None, Meta(description="The mistakes in what was sent.")
    ] = None
    ranking: Annotated[
        Sequence[Verdict] | None, Meta(description="How the clouds were judged last.")
    ] = None
    refusals: Annotated[
        Sequence[Refusal] | None, Meta(description="What the clouds answered, in order.")
    ] = None
    cloud: Annotated[str | None, Meta(description="The cloud that it is about.")] = None
    vms: Annotated[
        Sequence[str] | None, Meta(description="The ids of the VMs that were placed all the same.")
    ] = None
    reasons: Annotated[Sequence[str] | None, Meta(description="Why the service is not ready.")] = (
        None
    )


class Refused(Exception):
    """A request that the API itself turns down; ``code`` is one of :data:`KINDS`."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: Sequence[Mistake] | None = None,
        reasons: Sequence[str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.errors = errors
        self.reasons = reasons
        self.headers = headers or {}


class NotReady(Exception):
    """VMs were placed, but waiting for them ended in ``error``."""

    def __init__(self, error: Exception, vms: Sequence[str]) -> None:
        super().__init__(str(error))
        self.error = error
        self.vms = vms


class Outcome(NamedTuple):
    """A problem and the headers that go with it."""

    problem: Problem
    headers: Mapping[str, str]


def problem_of(error: Exception, instance: str, request_id: str) -> Outcome:
    """What to answer to a request that ended in ``error``; what nobody foresaw is logged."""
    vms: Sequence[str] | None = None
    if isinstance(error, NotReady):
        vms, error = error.vms, error.error
    code, detail, headers = _told(error)
    kind = KINDS[code]
    retry_after = getattr(error, "retry_after", None) or kind.retry_after
    if retry_after is not None:
        headers = {**headers, "retry-after": str(max(1, math.ceil(retry_after)))}
    if kind.status in SERIOUS:
        LOG.warning("%s: %s", code, error)
    problem = Problem(
        type=TYPE_PREFIX + code,
        title=kind.title,
        status=kind.status,
        detail=detail,
        code=code,
        instance=instance,
        request_id=request_id,
        vms=vms,
        **_details(error),
    )
    return Outcome(problem, headers)


def _details(error: Exception) -> dict[str, Any]:
    """What a problem of this kind says beyond what all do."""
    if isinstance(error, Refused):
        return {"errors": error.errors, "reasons": error.reasons}
    if isinstance(error, PlacementFailed):
        return {
            "ranking": ranking_of(error.ranking),
            "refusals": refusals_of(error.refusals),
        }
    if isinstance(error, CloudError):
        return {"cloud": error.cloud}
    return {}


def _told(error: Exception) -> tuple[str, str, Mapping[str, str]]:
    """The code, what to say, and the headers of an error."""
    if isinstance(error, Refused):
        return error.code, error.detail, error.headers
    if isinstance(error, PluginError):
        return _code(error), "a plugin failed; the service's log tells more", {}
    if isinstance(error, IsonephError):
        return _code(error), error.message, {}
    if isinstance(error, falcon.HTTPError):
        code = code_of_status(error.status_code)
        return code, error.description or KINDS[code].title, dict(error.headers or {})
    LOG.error("the request failed unexpectedly", exc_info=error)
    return "internal", "the service failed; its log tells more", {}


def code_of_status(status: int) -> str:
    """The code of a problem of which only the status is known."""
    return _BY_STATUS.get(status, "malformed_request")


def _code(error: IsonephError) -> str:
    """The code of the nearest class that the table knows: plugins may derive their own."""
    codes = (str(getattr(kind, "code", "")) for kind in type(error).__mro__)
    return next(code for code in codes if code in KINDS)
