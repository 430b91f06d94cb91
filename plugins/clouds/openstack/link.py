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

from isoneph.core.errors import Throttled, Unreachable
from isoneph.core.plugin import Environment
from isoneph.plugins.clouds.openstack.connection import TimedSession, connect
from isoneph.plugins.clouds.openstack.deadline import Deadline
from isoneph.plugins.clouds.openstack.errors import FAILURES, NONSENSE, Sorter

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
#: Seconds for which a token that is about to expire is used when Keystone gives no new one.
LOGIN_AGAIN = 30.0
#: Of a token's life, the seconds in which it is no longer handed out.
_TOO_OLD = 10


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a service is, ``url`` without a slash at its end, and the newest microversion that
    it and we speak, if it has them. To be asked again after ``until`` (monotonic)."""

    url: str
    microversion: Version | None
    until: float


class Link:
    """Safe for threads: one logs in or discovers at a time, the others wait for what it learns,
    each until its own deadline."""

    def __init__(
        self, options: Mapping[str, Any], environment: Environment, timeout: float
    ) -> None:
        """No I/O. Raises Unauthorized when the options cannot make a connection."""
        self._environment = environment
        self._clock = environment.clock
        self._sorter = Sorter(environment.name, options)
        self._connection = connect(options, environment.name, timeout)
        self._session = cast("TimedSession", self._connection.session)
        self._turn_lock = threading.Lock()
        self._endpoints: dict[str, Endpoint] = {}
        self._offered: dict[str, bool] = {}
        self._login_after = 0.0

    def headers(self, deadline: Deadline) -> Mapping[str, str]:
        """What authenticates a request, after a login if need be.

        While Keystone is not there a token that is still good goes on being used. Raises
        Unauthorized, Unreachable or Throttled.
        """
        with self._turn(deadline):
            in_hand = self._token_in_hand()
            if in_hand is not None and self._clock.monotonic() < self._login_after:
                return {"X-Auth-Token": in_hand}
            try:
                with self._asking(deadline):
                    headers = self._session.get_auth_headers()
            except (Unreachable, Throttled) as error:
                if in_hand is None:
                    raise
                self._login_after = self._clock.monotonic() + LOGIN_AGAIN
                self._environment.logger.warning("the token is not renewed yet: %s", error)
                return {"X-Auth-Token": in_hand}
            if headers is None:
                raise self._sorter.of_login(ksa.AuthorizationFailure(), self._clock.time())
            return headers

    def forget(self, headers: Mapping[str, str], deadline: Deadline) -> bool:
        """These headers were not accepted; whether others may be had."""
        with self._turn(deadline):
            self._login_after = 0.0
            plugin = self._session.auth
            if isinstance(plugin, BaseIdentityPlugin):
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
        """Send one request, once; raises whatever the libraries raise."""
        with self._session.until(deadline):
            return self._session.request(
                url,
                method,
                headers=dict(headers),
                params=params,
                data=data,
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

    def _token_in_hand(self) -> str | None:
        plugin = self._session.auth
        access = plugin.auth_ref if isinstance(plugin, BaseIdentityPlugin) else None
        if access is None or access.will_expire_soon(_TOO_OLD):
            return None
        return access.auth_token

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
        major = _MAJOR[service]
        data = self._session.get_endpoint_data(
            **self._filter(service),
            endpoint_override=self._override(service),
            min_version=major,
            max_version=f"{major}.latest",
        )
        until = forever
        if data is None or (service in NEWEST and not data.max_microversion):
            until = self._clock.monotonic() + DISCOVER_AGAIN
        found = url if data is None or data.url is None else data.url
        return Endpoint(found.rstrip("/"), self._microversion(service, data), until)

    def _microversion(self, service: str, data: EndpointData | None) -> Version | None:
        if service not in NEWEST:
            return None
        if data is None or not data.max_microversion:
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
