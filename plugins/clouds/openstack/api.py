"""Calls to the services of one OpenStack cloud: the only place from which the driver sends any.

Use::

    api = Api(options, environment)              # no I/O; one for each driver, for all threads
    deadline = api.deadline()                    # for all calls of one verb of the driver
    answer = api.call("GET", "compute", "/servers/detail", deadline=deadline)
    answer.body["servers"]                       # parsed JSON
    api.call("DELETE", "compute", f"/servers/{id}", deadline=deadline)   # expects any 2xx
    api.close()                                  # and usable again afterwards

Services are ``compute``, ``network``, ``image``, ``block-storage`` (or ``volume``) and
``identity``; paths are below the version: ``/servers``, ``/ports``, ``/images``, ``/volumes``,
``/projects``. Calls to ``compute`` and ``volume`` carry the newest microversion that the cloud,
this driver and options such as ``compute_default_microversion`` all allow.

What goes wrong is raised as one of isoneph's own errors, sorted by
:mod:`isoneph.plugins.clouds.openstack.errors`; it knows ``NotFound``, ``Conflict`` and
``Forbidden`` more closely. Nothing that changes anything is sent twice, except when the
token was refused, which certainly did nothing.

API reference: https://docs.openstack.org/api-ref/
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol, runtime_checkable

import msgspec
import requests

from isoneph.core.errors import CloudError, Throttled
from isoneph.core.plugin import Environment
from isoneph.plugins.clouds.openstack import texts
from isoneph.plugins.clouds.openstack.bucket import BURST, CALLS_PER_SECOND, Bucket
from isoneph.plugins.clouds.openstack.deadline import Deadline
from isoneph.plugins.clouds.openstack.errors import (
    FAILURES,
    SERVICES,
    EndpointGone,
    Refusal,
    Request,
    Sorter,
    was_dropped,
)
from isoneph.plugins.clouds.openstack.link import OLDEST, Endpoint, Link, Version

__all__ = ["Answer", "Api", "Deadline", "Stream"]

#: Of the time that the core allows for one verb of the driver, what its calls may take.
SHARE = 0.9
#: Seconds between two readings of the catalog because an endpoint seems to have moved, and for
#: how long such a reading may hold up the call that makes it.
REFRESH_PAUSE = 30.0
REFRESH_SECONDS = 5.0
#: Seconds before each new token that a refused request is sent again with. Keystone revokes what
#: was issued until the end of a second: the first new token may still be of that second.
RENEWALS = (0.0, 1.0)

OK = (200, 201, 202, 204)
_READING = frozenset({"GET", "HEAD"})
_ALIASES = {"volume": "block-storage"}


@dataclass(frozen=True, slots=True)
class Answer:
    """``body`` is the parsed JSON, or None where there is none; the names of ``headers`` ignore
    case."""

    status: int
    body: Any
    headers: Mapping[str, str]


@runtime_checkable
class Stream(Protocol):
    """A body that is sent as it is read, and that can be read once."""

    def __len__(self) -> int:
        """Its bytes in all."""

    def __iter__(self) -> Iterator[bytes]:
        """The rest, in blocks."""

    def read(self, size: int) -> bytes:
        """The next bytes, at most ``size``."""


class Api:
    """All calls to one cloud. Safe for threads.

    ``options`` are the cloud's in ``clouds.yaml``; of isoneph's own it reads
    ``calls_per_second`` and ``burst``. Every method may log in first, and raise Unauthorized,
    Unreachable or Throttled for that.
    """

    def __init__(self, options: Mapping[str, Any], environment: Environment) -> None:
        self._options = options
        self._environment = environment
        self._clock = environment.clock
        self._sorter = Sorter(environment.name, options)
        self._bucket = Bucket(
            environment.clock,
            rate=options.get("calls_per_second", CALLS_PER_SECOND),
            burst=options.get("burst", BURST),
        )
        self._lock = threading.Lock()
        self._link: Link | None = None
        self._moved = False
        self._refresh_after = 0.0

    def close(self) -> None:
        """Close idle connections and forget the token. Safe to call twice; the next call opens
        it again."""
        with self._lock:
            link, self._link = self._link, None
        if link is not None:
            link.close()

    def deadline(self) -> Deadline:
        """The end of a verb of the driver that begins now, a little before the core gives up."""
        return Deadline.after(self._clock, SHARE * self._environment.timeout)

    def compute_version(self, deadline: Deadline) -> Version:
        """The microversion of compute calls; 2.1 when the cloud tells none."""
        with self._heeding():
            endpoint = self._current(deadline).endpoint("compute", deadline)
        return endpoint.microversion or OLDEST["compute"]

    def project_id(self, deadline: Deadline) -> str | None:
        """The project that we are logged in to."""
        return self._current(deadline).project_id(deadline)

    def has_service(self, service: str, deadline: Deadline) -> bool:
        """Whether the cloud has ``service``, by its catalog."""
        return self._current(deadline).has(_ALIASES.get(service, service), deadline)

    def call(
        self,
        method: str,
        service: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, Any] | None = None,
        expect: Collection[int] = OK,
        changing: bool | None = None,
        deadline: Deadline | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request and return its answer, if its status is among those expected.

        ``changing`` tells whether it may leave something changed, so that a lost answer is
        OutcomeUnknown; by default all but GET and HEAD may. ``deadline`` is by default that of
        a whole verb. ``body`` is sent as JSON, or as it is when it is a :class:`Stream`.
        ``headers`` go before the API's own, such as ``OpenStack-API-Version``.
        """
        if changing is None:
            changing = method not in _READING
        request = Request(method, _ALIASES.get(service, service), path, changing, body)
        deadline = deadline or self.deadline()
        self._bucket.take(deadline)
        with self._heeding():
            return self._call(request, params, expect, deadline, headers or {})

    @contextlib.contextmanager
    def _heeding(self) -> Iterator[None]:
        """What a failure means for later calls: that they wait, or look where to go."""
        try:
            yield
        except Throttled as error:
            if error.retry_after:
                self._bucket.hold(error.retry_after)
            raise
        except EndpointGone:
            self._moved = True
            raise

    def _call(
        self,
        request: Request,
        params: Mapping[str, Any] | None,
        expect: Collection[int],
        deadline: Deadline,
        headers: Mapping[str, str],
    ) -> Answer:
        link = self._current(deadline)
        endpoint = link.endpoint(request.service, deadline)
        url = f"{endpoint.url}/{request.path.lstrip('/')}"
        headers = {**_versions(request.service, endpoint), **headers}
        data = request.body
        if isinstance(data, Stream):
            headers = {"Content-Type": "application/octet-stream", **headers}
        elif data is not None:
            data = msgspec.json.encode(data)
            headers = {"Content-Type": "application/json", **headers}
        response = self._send(link, request, url, deadline, headers, params, data)
        refusal = Refusal(response.status_code, response.headers, response.content)
        if refusal.status not in expect:
            raise self._sorter.of_answer(request, refusal, self._clock.time())
        try:
            answer = msgspec.json.decode(refusal.content) if refusal.content.strip() else None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self._sorter.of_nonsense(request, refusal) from error
        return Answer(refusal.status, answer, refusal.headers)

    def _send(
        self,
        link: Link,
        request: Request,
        url: str,
        deadline: Deadline,
        headers: Mapping[str, str],
        params: Mapping[str, Any] | None,
        data: bytes | Stream | None,
    ) -> requests.Response:
        """Send it; again with fresh tokens when the token was refused, which certainly did nothing,
        and once more when it only reads and the connection was dropped."""
        is_stream = isinstance(data, Stream)
        renewals = iter(() if is_stream else RENEWALS)
        may_reconnect = not is_stream and not request.changing
        while True:
            token = link.headers(deadline)
            begun = self._clock.monotonic()
            failure: Exception | None = None
            try:
                response = link.send(
                    request.method,
                    url,
                    deadline,
                    headers={**token, **headers},
                    params=params,
                    data=data,
                )
            except FAILURES as error:
                failure = error
            if failure is not None:
                self._note(request, "none", begun)
                if may_reconnect and was_dropped(failure):
                    may_reconnect = False
                    continue
                raise self._sorter.of_failure(failure, request) from failure
            self._note(request, str(response.status_code), begun)
            if not _may_be_the_token(response):
                return response
            pause = next(renewals, None)
            if pause is None or deadline.remaining() < pause:
                return response
            self._clock.pause(pause)
            if not link.forget(token, deadline):
                return response

    def _note(self, request: Request, status: str, begun: float) -> None:
        seconds = self._clock.monotonic() - begun
        self._environment.metrics.observe(
            "openstack_request_seconds",
            seconds,
            service=request.service,
            method=request.method,
            status=status,
        )
        self._environment.logger.debug(
            "%s answers %s with %s after %.3f s",
            SERVICES[request.service],
            request,
            status,
            seconds,
        )

    def _current(self, deadline: Deadline) -> Link:
        with self._lock:
            if self._link is None:
                self._link = self._new_link({})
            link = self._link
            now = self._clock.monotonic()
            refresh = self._moved and now >= self._refresh_after
            if refresh:
                self._moved = False
                self._refresh_after = now + REFRESH_PAUSE
        return self._refreshed(link, deadline) if refresh else link

    def _refreshed(self, link: Link, deadline: Deadline) -> Link:
        """A link with what the catalog says now, or the old one while Keystone is not there."""
        new = self._new_link(link.spoken)
        try:
            new.headers(deadline.within(REFRESH_SECONDS))
        except CloudError as error:
            self._environment.logger.debug("the endpoints are used as they were: %s", error)
            new.close()
            return link
        with self._lock:
            current = self._link is link
            if current:
                self._link = new
        (link if current else new).close()
        return new if current else link

    def _new_link(self, spoken: Mapping[str, Version]) -> Link:
        timeout = SHARE * self._environment.timeout
        return Link(self._options, self._environment, timeout, spoken)


def _may_be_the_token(response: requests.Response) -> bool:
    """Whether a fresh token may help, and surely nothing was done."""
    if response.status_code == HTTPStatus.BAD_REQUEST:
        return texts.is_image_refused(response.content)
    return response.status_code == HTTPStatus.UNAUTHORIZED


def _versions(service: str, endpoint: Endpoint) -> dict[str, str]:
    if endpoint.microversion is None:
        return {}
    version = "{}.{}".format(*endpoint.microversion)
    if service == "compute":  # Nova before 2.27 reads the second form only
        return {
            "OpenStack-API-Version": f"compute {version}",
            "X-OpenStack-Nova-API-Version": version,
        }
    return {"OpenStack-API-Version": f"volume {version}"}
