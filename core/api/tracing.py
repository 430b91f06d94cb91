"""What is known of the request under way, for the log and the figures."""

from __future__ import annotations

import itertools
import logging
import re
import secrets
import time
from contextvars import ContextVar
from typing import NamedTuple

import falcon.asgi

from isoneph.core.metrics import PrometheusMetrics

#: The id of the request that the current task works for; empty outside of one.
REQUEST_ID: ContextVar[str] = ContextVar("isoneph_request_id", default="")

LOG = logging.getLogger("isoneph.access")

ID_HEADER = "x-request-id"
#: What a client may call its request; anything else gets an id of our own.
ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:=+/@-]{0,127}")

#: Known methods, so that a client cannot make up values of a label.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})
#: As which a request counts whose client went away before there was an answer.
CLIENT_GONE = 499


class Request(falcon.asgi.Request):
    """A request with what its trace needs."""

    __slots__ = ("begun", "id", "token")

    id: str
    begun: float
    #: The name of the token that was accepted, never the token.
    token: str | None

    @property
    def raw_path(self) -> str:
        """The path as it was sent: ASCII without control characters, fit for a log line."""
        raw: bytes = self.scope.get("raw_path") or self.path.encode("unicode-escape")
        return raw.decode("latin-1")


class Ended(NamedTuple):
    """How a request ended: as a message one line, for programs its fields."""

    method: str
    path: str
    status: int
    ms: float
    token: str | None

    def __str__(self) -> str:
        line = f"{self.method} {self.path} {self.status} {self.ms:.1f} ms"
        return line if self.token is None else f"{line} token {self.token}"


class Tracer:
    """Gives each request its id, and tells how it ended: in the log and in a histogram."""

    def __init__(self, metrics: PrometheusMetrics) -> None:
        self._metrics = metrics
        self._prefix = secrets.token_hex(6)
        self._count = itertools.count(1)

    async def process_request(self, req: Request, resp: falcon.asgi.Response) -> None:
        """Falcon calls this first."""
        req.begun = time.perf_counter()
        req.token = None
        given = req.get_header(ID_HEADER)
        if given is None or not ID_PATTERN.fullmatch(given):
            given = f"{self._prefix}-{next(self._count):x}"
        req.id = given
        REQUEST_ID.set(given)
        resp.set_header(ID_HEADER, given)
        resp.set_header("server", "isoneph")

    async def process_response(
        self, req: Request, resp: falcon.asgi.Response, _resource: object, _succeeded: bool
    ) -> None:
        """Falcon calls this last."""
        self.ended(req, resp.status_code)

    def ended(self, req: Request, status: int) -> None:
        """Note the end of a request that got ``status``."""
        seconds = time.perf_counter() - req.begun
        method = req.method if req.method in METHODS else "OTHER"
        self._metrics.observe(
            "request_seconds",
            seconds,
            method=method,
            route=req.uri_template or "none",
            status=str(status),
        )
        if LOG.isEnabledFor(logging.INFO):
            ms = round(seconds * 1000, 3)
            LOG.info(Ended(req.method, req.raw_path, status, ms, req.token))
