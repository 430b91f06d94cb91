"""One login to one cloud, and what it tells: the token, the endpoints, their microversions.

Below :class:`isoneph.plugins.clouds.openstack.api.Api`, which replaces its link by a new one
when endpoints seem to have moved.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import requests
from keystoneauth1 import exceptions as ksa
from keystoneauth1.discover import EndpointData
from keystoneauth1.identity.base import BaseIdentityPlugin

from isoneph.core.errors import CloudError, Unreachable
from isoneph.core.plugin import Environment
from isoneph.plugins.clouds.openstack.connection import TimedSession, connect
from isoneph.plugins.clouds.openstack.deadline import Deadline
from isoneph.plugins.clouds.openstack.errors import FAILURES, NONSENSE, Refusal, Request, Sorter

Version = tuple[int, int]

#: The newest microversion of each service that this driver knows, by service.
NEWEST: Mapping[str, Version] = {"compute": (2, 103), "block-storage": (3, 70)}
#: What is spoken where the service does not tell what it can.
OLDEST: Mapping[str, Version] = {"compute": (2, 1), "block-storage": (3, 0)}
#: The major version of each service that is wanted; Neutron has but one, at a fixed path.
_MAJOR: Mapping[str, str] = {"compute": "2", "block-storage": "3", "image": "2", "identity": "3"}
_NETWORK_PATH = "/v2.0"

#: Seconds for which an endpoint that told no version is used before it is asked again.
DISCOVER_AGAIN = 60.0
#: Of a token's life, the last seconds in which a new one is asked for ...
_AGEING = 120
#: ... and those in which it is no longer handed out.
_TOO_OLD = 10
#: Seconds between two logins because of that, and for how long one may hold up its caller:
#: less than any caller's patience, since the token is still good.
LOGIN_AGAIN = 30.0
RENEW_SECONDS = 2.0

#: Answers of a service that is away, or of a proxy in front of it.
_AWAY = frozenset({408, 429, 500, *range(502, 600)})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a service is, ``url`` without a slash at its end, and the newest microversion that
    it and we speak, if it has them. To be asked again after ``until`` (monotonic)."""

    url: str
    microversion: Version | None
    until: float


class Link:
    """Safe for threads: one logs in or discovers at a time, the others wait for what it learns,
    each until its own deadline; whoever has a good token and knows its endpoint waits for none."""

    def __init__(
        self,
        options: Mapping[str, Any],
        environment: Environment,
        timeout: float,
        spoken: Mapping[str, Version],
    ) -> None:
        """No I/O. ``spoken`` are the microversions, by service, that go on being spoken where a
        service tells nothing of its own. Raises Unauthorized when the options cannot make a
        connection."""
        self._environment = environment
        self._clock = environment.clock
        self._sorter = Sorter(environment.name, options)
        self._connection = connect(options, environment.name, timeout)
        self._session = cast("TimedSession", self._connection.session)
        if (plugin := self._plugin()) is not None:
            # Otherwise whatever is asked of it renews an ageing token first, and waits for that.
            plugin.MIN_TOKEN_LIFE_SECONDS = _TOO_OLD
        #: By service, for whoever takes over from this one.
        self.spoken = dict(spoken)
        self._turn_lock = threading.Lock()
        self._endpoints: dict[str, Endpoint] = {}
        self._offered: dict[str, bool] = {}
        self._headers: Mapping[str, str] = {}
        self._login_after = 0.0

    def headers(self, deadline: Deadline) -> Mapping[str, str]:
        """What authenticates a request, after a login if need be.

        While Keystone gives no new token, one that is still good goes on being used. Raises
        Unauthorized, Unreachable or Throttled.
        """
        if self._in_hand() is not None and self._is_ageing():
            self._renew(deadline.within(RENEW_SECONDS))
        in_hand = self._in_hand()
        if in_hand is not None:
            return in_hand
        with self._turn(deadline), self._asking(deadline):
            return self._log_in()

    def forget(self, headers: Mapping[str, str], deadline: Deadline) -> bool:
        """These headers were not accepted; whether others may be had."""
        with self._turn(deadline):
            self._login_after = 0.0
            if (plugin := self._plugin()) is not None:
                access = plugin.auth_ref
                if access is None or access.auth_token != headers.get("X-Auth-Token"):
                    return True  # another call was quicker
            return self._session.invalidate()

    def endpoint(self, service: str, deadline: Deadline) -> Endpoint:
        """Where ``service`` is. Raises as :meth:`headers` does, and Unauthorized when the
        catalog has no such service for the region and interface of the options."""
        known = self._endpoints.get(service)
        if known is not None and self._clock.monotonic() < known.until:
            return known
        self.headers(deadline)
        with self._turn(deadline):
            known = self._endpoints.get(service)
            if known is None or self._clock.monotonic() >= known.until:
                with self._asking(deadline, service):
                    known = self._discover(service)
                self._endpoints[service] = known
                if known.microversion is not None:
                    self.spoken[service] = known.microversion
            return known

    def has(self, service: str, deadline: Deadline) -> bool:
        """Whether the catalog, or the options, have ``service``. Raises as :meth:`headers`."""
        if service not in self._offered:
            self.headers(deadline)
            with self._turn(deadline), self._asking(deadline, service):
                try:
                    self._offered[service] = self._in_catalog(service) is not None
                except ksa.EmptyCatalog:
                    raise
                except ksa.EndpointNotFound:
                    self._offered[service] = False
        return self._offered[service]

    def project_id(self, deadline: Deadline) -> str | None:
        """The project that we are logged in to. Raises as :meth:`headers`."""
        self.headers(deadline)
        with self._turn(deadline), self._asking(deadline):
            return self._session.get_project_id()

    def send(
        self,
        method: str,
        url: str,
        deadline: Deadline,
        *,
        headers: Mapping[str, str],
        params: Mapping[str, Any] | None,
        data: Any,
    ) -> requests.Response:
        """Send one request, once; raises whatever the libraries raise.

        Each part of it may take as long as the options say, or until ``deadline`` when ``data``
        is a stream: what is long to send is long to store.
        """
        is_stream = data is not None and not isinstance(data, bytes)
        with self._session.until(deadline):
            return self._session.request(
                url,
                method,
                headers=dict(headers),
                params=params,
                data=data,
                timeout=deadline.remaining() if is_stream else None,
                authenticated=False,  # the token is among the headers
                allow_reauth=False,
                raise_exc=False,
                log=False,  # bodies may hold secrets
            )

    def close(self) -> None:
        """Close what is idle; requests under way are let finish."""
        self._connection.close()

    @contextlib.contextmanager
    def _turn(self, deadline: Deadline) -> Iterator[None]:
        if not self._turn_lock.acquire(timeout=max(0.0, deadline.remaining())):
            raise Unreachable("no answer in time to the login that another call is waiting for")
        try:
            yield
        finally:
            self._turn_lock.release()

    @contextlib.contextmanager
    def _asking(self, deadline: Deadline, service: str = "") -> Iterator[None]:
        """What keystoneauth does on its own, bounded and with isoneph's errors."""
        try:
            with self._session.until(deadline):
                yield
        except ksa.EmptyCatalog as error:
            raise self._sorter.of_login(error, self._clock.time()) from error
        except ksa.EndpointNotFound as error:
            config = self._connection.config
            raise self._sorter.of_catalog(
                service, config.get_region_name(service), config.get_interface(service)
            ) from error
        except (*FAILURES, *NONSENSE) as error:
            raise self._sorter.of_login(error, self._clock.time()) from error

    def _plugin(self) -> BaseIdentityPlugin | None:
        """What holds the token; None for the auth types that get none from Keystone."""
        plugin = self._session.auth
        return plugin if isinstance(plugin, BaseIdentityPlugin) else None

    def _in_hand(self) -> Mapping[str, str] | None:
        """The headers of the last login while its token is good, which take no asking."""
        plugin, headers = self._plugin(), self._headers
        access = None if plugin is None else plugin.auth_ref
        if access is None or access.auth_token != headers.get("X-Auth-Token"):
            return None
        return None if access.will_expire_soon(_TOO_OLD) else headers

    def _is_ageing(self) -> bool:
        plugin = self._plugin()
        access = None if plugin is None else plugin.auth_ref
        rested = self._clock.monotonic() >= self._login_after
        return rested and access is not None and access.will_expire_soon(_AGEING)

    def _renew(self, deadline: Deadline) -> None:
        """Have a new token before the old one ends, unless another call is at it."""
        if not self._turn_lock.acquire(blocking=False):
            return
        try:
            if (plugin := self._plugin()) is not None and self._is_ageing():
                self._rest()
                with self._asking(deadline):
                    plugin.auth_ref = plugin.get_auth_ref(self._session)
                    self._log_in()
        except CloudError as error:
            self._environment.logger.warning("the token is not renewed yet: %s", error)
        finally:
            self._turn_lock.release()

    def _log_in(self) -> Mapping[str, str]:
        headers = self._session.get_auth_headers()
        if headers is None:
            raise ksa.AuthorizationFailure
        self._headers = headers
        self._rest()
        return headers

    def _rest(self) -> None:
        """Ask for no new token soon, be it that this one is short-lived or that none came."""
        self._login_after = self._clock.monotonic() + LOGIN_AGAIN

    def _in_catalog(self, service: str) -> str | None:
        """The URL that the options or the catalog give; raises EndpointNotFound."""
        override = self._override(service)
        if override is not None:
            return override
        data = self._session.get_endpoint_data(**self._filter(service), skip_discovery=True)
        return None if data is None else data.url

    def _discover(self, service: str) -> Endpoint:
        url = self._in_catalog(service)
        if url is None:
            raise ksa.EndpointNotFound
        forever = float("inf")
        if service == "network":
            url = url.rstrip("/")
            return Endpoint(url.removesuffix(_NETWORK_PATH) + _NETWORK_PATH, None, forever)
        data = self._document(service, url)
        until = forever
        if data is None or (service in NEWEST and not data.max_microversion):
            until = self._clock.monotonic() + DISCOVER_AGAIN
        found = url if data is None or data.url is None else data.url
        return Endpoint(found.rstrip("/"), self._microversion(service, data), until)

    def _document(self, service: str, url: str) -> EndpointData | None:
        """What the service tells of its versions; None when it is there and tells nothing.

        Raises Unreachable or Throttled when it is away; keystoneauth makes no difference.
        """
        major = _MAJOR[service]
        data = self._session.get_endpoint_data(
            **self._filter(service),
            endpoint_override=self._override(service),
            min_version=major,
            max_version=f"{major}.latest",
        )
        if data is not None and data.status is not None:
            return data
        request = Request("GET", service, "/", changing=False)
        try:
            answer = self._session.get(url, authenticated=False, raise_exc=False)
        except FAILURES as error:
            raise self._sorter.of_failure(error, request) from error
        if answer.status_code in _AWAY:
            refusal = Refusal(answer.status_code, answer.headers, answer.content)
            raise self._sorter.of_answer(request, refusal, self._clock.time())
        return None

    def _microversion(self, service: str, data: EndpointData | None) -> Version | None:
        if service not in NEWEST:
            return None
        if data is None:
            return self.spoken.get(service, OLDEST[service])
        if not data.max_microversion:
            return OLDEST[service]
        newest = min(_pair(data.max_microversion), NEWEST[service])
        wanted = self._connection.config.get_default_microversion(service)
        if wanted is not None and re.fullmatch(r"\d+\.\d+", wanted):
            newest = min(newest, _pair(wanted.split(".")))
        return newest

    def _filter(self, service: str) -> dict[str, Any]:
        config = self._connection.config
        return {
            "service_type": config.get_service_type(service),
            "service_name": config.get_service_name(service),
            "interface": config.get_interface(service),
            "region_name": config.get_region_name(service),
        }

    def _override(self, service: str) -> str | None:
        """The endpoint that the options set, where two values may stand in for themselves."""
        override = self._connection.config.get_endpoint(service)
        if override is None:
            return None
        project, user = self._session.get_project_id(), self._session.get_user_id()
        return override.replace("%(project_id)s", project or "").replace("%(user_id)s", user or "")


def _pair(version: Any) -> Version:
    major, minor, *_ = version
    return int(major), int(minor)
