"""Every failure of OpenStack sorted by what it means into isoneph's tree of errors.

Three moments of a call can fail, and each has its method of :class:`Sorter`:

===================================  ==============================================================
before anything was sent for us      :meth:`Sorter.of_login` (``Unauthorized`` or ``Unreachable``,
(login, catalog, discovery)          ``Throttled``: never ``OutcomeUnknown``)
Keystone: 400, 401, 403; a missing   Unauthorized, naming the user
project
Keystone: 404, not a Keystone        Unauthorized, naming ``auth_url``
Keystone: no connection, 5xx         Unreachable
EndpointNotFound, EmptyCatalog       Unauthorized, naming ``region_name``, ``interface``, project
===================================  ==============================================================

===================================  ==============================================================
while the request was sent           :meth:`Sorter.of_failure`
no time left to send it              Unreachable
refused, DNS, connecting timed out   :class:`EndpointGone` (Unreachable): surely nothing was sent
TLS: certificate not verified        EndpointGone, naming ``verify`` and ``cacert``
answer timed out, reset, incomplete  OutcomeUnknown when it changes something, else Unreachable
===================================  ==============================================================

===================================  ==============================================================
an answer with another status        :meth:`Sorter.of_answer`
401                                  Unauthorized (after two tries with fresh tokens)
400, 403, 409, 413 with quota text   QuotaExceeded
400, 403, 409: no addresses, hosts   NoCapacity
other 403                            :class:`Forbidden` (Unauthorized) when reading, else
                                     InvalidRequest that names the user's role
404 in the service's own form        :class:`NotFound` (InvalidRequest)
404, 410 of somebody else, 406       EndpointGone (Unreachable): the catalog is read again
409                                  :class:`Conflict` (InvalidRequest)
413, 429, 503 with Retry-After       Throttled with ``retry_after``; the bucket is held
503                                  Unreachable
other 5xx, 408; 2xx that is no JSON  OutcomeUnknown when it changes something, else Unreachable
any other                            InvalidRequest
===================================  ==============================================================

``NotFound``, ``Conflict``, ``Forbidden`` and ``EndpointGone`` are this package's own: a driver
that does not look for them passes on what they derive from. The fault of a server in ERROR is
sorted by :func:`fault_code`. Messages carry OpenStack's own words, in one line, without what
the request or the options hold under the name of a secret.
"""

from __future__ import annotations

import email.utils
import math
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import requests
import urllib3.exceptions as urllib3
from keystoneauth1 import exceptions as ksa

from isoneph.core.errors import (
    CloudError,
    InvalidRequest,
    NoCapacity,
    OutcomeUnknown,
    QuotaExceeded,
    Throttled,
    Unauthorized,
    Unreachable,
)
from isoneph.plugins.clouds.openstack import texts
from isoneph.plugins.clouds.openstack.bucket import LONGEST_HOLD
from isoneph.plugins.clouds.openstack.connection import DEFAULT_AUTH_TYPE, NotSent
from isoneph.plugins.clouds.openstack.texts import fault_code

__all__ = [
    "SERVICES",
    "Conflict",
    "EndpointGone",
    "Forbidden",
    "NotFound",
    "Refusal",
    "Request",
    "Sorter",
    "fault_code",
    "was_dropped",
]

#: The services that isoneph calls, by their official types.
SERVICES: Mapping[str, str] = {
    "compute": "Nova",
    "network": "Neutron",
    "image": "Glance",
    "block-storage": "Cinder",
    "identity": "Keystone",
}
#: Everything that the libraries below us raise when a request gets no answer.
FAILURES = (ksa.ClientException, requests.RequestException, urllib3.HTTPError, OSError, ValueError)
#: What keystoneauth's plugins end in when what answers is not Keystone.
NONSENSE = (LookupError, TypeError, AttributeError)

#: Any of these in the chain of causes, and no byte of the request has left.
_NOTHING_SENT = (
    NotSent,
    urllib3.NewConnectionError,
    urllib3.ConnectTimeoutError,
    requests.exceptions.ConnectTimeout,
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidSchema,
    ssl.SSLCertVerificationError,
)
#: Where the text may tell what is short.
_SPEAKING = frozenset({400, 403, 409, 413})
#: Where Retry-After means that nothing was done.
_PUTTING_OFF = frozenset({413, 503})
#: Where somebody else than the service may have answered; 406: it knows no such microversion.
_NOTHING_THERE = frozenset({404, 406, 410})
#: Where surely nothing was done; 408, which a proxy may say, is no part of it.
_REFUSING = frozenset({*range(400, 500), HTTPStatus.NOT_IMPLEMENTED}) - {408}


class NotFound(InvalidRequest):
    """What the path names is not there, says the service that would know."""


class Conflict(InvalidRequest):
    """What the path names is in use, locked, or in a state that does not allow it."""


class Forbidden(Unauthorized):
    """The role of the user does not allow to read this; the rest may well be allowed."""


class EndpointGone(Unreachable):
    """Nobody answers there, or somebody else: the endpoint may have moved."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of whom, for messages; ``changing`` when it may leave something changed."""

    method: str
    service: str
    path: str
    changing: bool
    body: Any = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer as it came; the names of ``headers`` ignore case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Sorter:
    """Makes isoneph's errors for one cloud. Safe for threads.

    ``name`` is the cloud's in ``clouds.yaml`` and ``options`` what stands there.
    """

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        self._place = f"clouds.yaml: clouds.{name}"
        self._auth: Mapping[str, Any] = options.get("auth") or {}
        self._auth_type = options.get("auth_type") or DEFAULT_AUTH_TYPE
        self._secrets = tuple(texts.secrets_in(dict(options)))

    def of_login(self, error: Exception, now: float) -> CloudError:
        """The login, or reading the catalog, failed: nothing was asked for yet. ``now`` as in
        :meth:`of_answer`."""
        for cause in _causes(error):
            if isinstance(cause, ksa.HttpError):
                return self._keystone_answered(cause, now)
            if isinstance(cause, ksa.ConnectionError):
                reason = self._why(cause)
                return Unreachable(f"{self._place}.auth.auth_url: {self._keystone()}: {reason}")
        if isinstance(error, ksa.EmptyCatalog):
            return Unauthorized(
                f"{self._place}.auth: the catalog is empty; expected project_name or project_id"
            )
        if isinstance(error, (ksa.DiscoveryFailure, ksa.InvalidResponse, *NONSENSE)):
            return Unauthorized(
                f"{self._place}.auth.auth_url: what answers at {self._auth.get('auth_url')} is "
                "not Keystone, or no version of it that suits"
            )
        if isinstance(error, ksa.ClientException):
            return Unauthorized(f"{self._place}.auth: {self._clean(str(error))}")
        return Unreachable(f"{self._place}: {self._why(error)}")

    def of_catalog(self, service: str, region: str | None, interface: object) -> CloudError:
        """The catalog has no such endpoint."""
        return Unauthorized(
            f"{self._place}: the catalog has no {service} service for region_name {region!r} and "
            f"interface {interface!r}"
        )

    def of_failure(self, error: Exception, request: Request) -> CloudError:
        """``request`` got no answer, or none that can be read."""
        asked = f"{SERVICES[request.service]}, {request}: {self._why(error)}"
        causes = list(_causes(error))
        if any(isinstance(cause, NotSent) for cause in causes):
            return Unreachable(f"{self._place}: did not ask {asked}")
        if any(isinstance(cause, _NOTHING_SENT) for cause in causes):
            return EndpointGone(f"{self._place}: cannot reach {asked}")
        return self._in_doubt(request, f"no answer from {asked}")

    def of_answer(self, request: Request, answer: Refusal, now: float) -> CloudError:
        """``request`` got an answer that was not hoped for; ``now`` is in seconds since the
        epoch, for a Retry-After that is a date."""
        text = texts.message_of(answer.content, (*self._secrets, *texts.secrets_in(request.body)))
        status = answer.status
        said = _said(request, answer, text)
        if status in _SPEAKING and texts.is_quota(text):
            return QuotaExceeded(said)
        if status in _SPEAKING and texts.is_no_room(text):
            return NoCapacity(said)
        retry_after = _retry_after(answer.headers, now)
        if status == HTTPStatus.TOO_MANY_REQUESTS or (status in _PUTTING_OFF and retry_after):
            return Throttled(said, retry_after=retry_after)
        if status == HTTPStatus.FORBIDDEN:
            return self._forbidden(request, text, said)
        if status in _NOTHING_THERE:
            return self._nothing_there(request, answer, said)
        return self._of_status(request, status, said)

    def of_nonsense(self, request: Request, answer: Refusal) -> CloudError:
        """The status is one of success, and what comes with it is not JSON."""
        said = _said(request, answer, "what cannot be read")
        if request.changing:
            return OutcomeUnknown(said)
        return EndpointGone(f"{self._place}: not the service that the catalog promises: {said}")

    def _of_status(self, request: Request, status: int, said: str) -> CloudError:
        if status == HTTPStatus.UNAUTHORIZED:
            return Unauthorized(f"{self._place}.auth: the token is not accepted: {said}")
        if status == HTTPStatus.CONFLICT:
            return Conflict(said)
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            return Unreachable(said)
        if status in _REFUSING:
            return InvalidRequest(said)
        return self._in_doubt(request, said)

    def _nothing_there(self, request: Request, answer: Refusal, said: str) -> CloudError:
        # Glance answers in HTML, but with the number of the request, as no proxy does.
        own = texts.is_fault(answer.content) or (
            request.service == "image" and "x-openstack-request-id" in answer.headers
        )
        if own and answer.status != HTTPStatus.NOT_ACCEPTABLE:
            return NotFound(said)
        return EndpointGone(f"{self._place}: not the service that the catalog promises: {said}")

    def _forbidden(self, request: Request, text: str, said: str) -> CloudError:
        role = f"the roles of {self._user()} ({self._place}.auth) do not allow it"
        if not request.changing:
            return Forbidden(f"{said}; {role}")
        return InvalidRequest(f"{said}; {role}" if texts.is_policy(text) else said)

    def _keystone_answered(self, error: ksa.HttpError, now: float) -> CloudError:
        status, response = error.http_status, error.response
        headers = {} if response is None else response.headers
        content = b"" if response is None else response.content
        text = texts.message_of(content, self._secrets)
        answered = f"{self._keystone()} answers with {status}: {text}"
        retry_after = _retry_after(headers, now)
        if status == HTTPStatus.TOO_MANY_REQUESTS or (status in _PUTTING_OFF and retry_after):
            return Throttled(answered, retry_after=retry_after)
        if status not in _REFUSING:
            return Unreachable(f"{self._place}.auth.auth_url: {answered}")
        # Keystone says 404 of a token or an application credential that it does not know, too.
        if status == HTTPStatus.NOT_FOUND and not texts.is_fault(content):
            return Unauthorized(f"{self._place}.auth.auth_url: not Keystone: {answered}")
        return Unauthorized(
            f"{self._place}.auth: {self._keystone()} does not accept {self._credentials()} "
            f"({status}): {text}"
        )

    def _in_doubt(self, request: Request, message: str) -> CloudError:
        return OutcomeUnknown(message) if request.changing else Unreachable(message)

    def _keystone(self) -> str:
        return f"Keystone at {self._auth.get('auth_url')}"

    def _user(self) -> str:
        auth = self._auth
        if "applicationcredential" in self._auth_type:
            name = auth.get("application_credential_id", auth.get("application_credential_name"))
            return f"application credential {name!r}"
        name = auth.get("username", auth.get("user_id"))
        return "this user" if name is None else f"user {name!r}"

    def _credentials(self) -> str:
        if "token" in self._auth_type:
            return "the token"
        secret = "secret" if "credential" in self._auth_type else "password"
        project = self._auth.get("project_name", self._auth.get("project_id"))
        scope = "" if project is None else f", for project {project!r}"
        return f"{self._user()} and its {secret}{scope}"

    def _why(self, error: Exception) -> str:
        """The innermost cause that has words, in a few of them."""
        causes = list(_causes(error))
        if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
            return f"its certificate is not trusted; see {self._place}.cacert and .verify"
        if any(isinstance(cause, NotSent) for cause in causes):
            return "the time for the call was up before it was sent"
        for cause in reversed(causes):
            if isinstance(cause, OSError) and cause.strerror:
                return cause.strerror
        if any(isinstance(cause, requests.Timeout | urllib3.TimeoutError) for cause in causes):
            return "no answer in time"
        return self._clean(str(causes[-1])) or type(causes[-1]).__name__

    def _clean(self, text: str) -> str:
        return texts.message_of(text.encode(), self._secrets)


def was_dropped(error: Exception) -> bool:
    """Whether the other side ended the connection, as one that was idle for long may."""
    causes = list(_causes(error))
    return not any(isinstance(cause, _NOTHING_SENT) for cause in causes) and any(
        isinstance(cause, ConnectionError | urllib3.ProtocolError) for cause in causes
    )


def _said(request: Request, answer: Refusal, text: str) -> str:
    number = answer.headers.get("x-openstack-request-id") or answer.headers.get(
        "x-compute-request-id"
    )
    what = f"{SERVICES[request.service]} answers {request} with {answer.status}"
    return f"{what}{': ' if text else ''}{text}{f' ({number})' if number else ''}"


def _retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds, whichever form they come in; None without, or with what cannot be read."""
    value = headers.get("Retry-After", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        moment, sent = _moment(value), _moment(headers.get("Date", ""))  # by the same clock
        if moment is None:
            return None
        seconds = moment - (now if sent is None else sent)
    return min(max(seconds, 0.0), LONGEST_HOLD) if math.isfinite(seconds) else None


def _moment(date: str) -> float | None:
    parsed = email.utils.parsedate_tz(date)
    try:
        return None if parsed is None else email.utils.mktime_tz(parsed)
    except (ValueError, OverflowError):  # no such year
        return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and all that led to it, outermost first. The libraries hide the cause in
    ``__cause__``, in ``__context__``, in ``reason`` or among the arguments."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        cause = waiting.pop(0)
        if isinstance(cause, CloudError) or id(cause) in seen:
            continue  # an earlier failure, while which this one happened, is no cause of it
        if isinstance(cause, BaseException):
            seen.add(id(cause))
            yield cause
            waiting += [cause.__cause__, cause.__context__, getattr(cause, "reason", None)]
            waiting += cause.args
