"""From the options of one cloud in ``clouds.yaml`` to a connection of openstacksdk.

Use::

    connection = connect(options, "uniform", timeout=30.0)   # no I/O yet
    connection.network.networks()                            # the first use authenticates

The options are OpenStack's own (all auth types, vendor profiles, TLS, regions, versions and
endpoints by service): https://docs.openstack.org/openstacksdk/latest/user/config/configuration.html
Whatever else stands there is isoneph's own and not handed on. Nothing is read from environment
variables (``OS_*``, proxies, CA bundles, ``.netrc``) nor from files other than those that the
options name and the vendor profiles that openstacksdk ships.

Nothing sent over such a connection is ever sent twice by the libraries below us, and each
request waits at most ``timeout`` seconds for each part of its answer. What must end earlier,
however many requests the libraries make for it, runs ``with session.until(deadline)``.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.metadata
import re
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import requests
from keystoneauth1 import exceptions as ksa
from keystoneauth1 import loading
from keystoneauth1.session import Session, TCPKeepAliveAdapter
from openstack.config import OpenStackConfig, vendors
from openstack.config.cloud_region import CloudRegion
from openstack.connection import Connection
from openstack.exceptions import ConfigException

from isoneph.core.errors import Unauthorized, Unreachable
from isoneph.plugins.clouds.openstack.deadline import Deadline

APP_NAME = "isoneph"
DEFAULT_AUTH_TYPE = "password"
#: Connections that are kept open to each host; more at once are made and closed again.
POOL_SIZE = 64
#: Seconds: a host that takes longer to accept a connection is not there.
CONNECT_TIMEOUT = 10.0

#: What OpenStack's own ``clouds.yaml`` may say of a cloud and of its connection.
CONNECTION_KEYS = frozenset(
    {
        "auth",
        "auth_methods",
        "auth_plugin",
        "auth_type",
        "cacert",
        "cert",
        "cloud",
        "endpoint_type",
        "insecure",
        "interface",
        "key",
        "profile",
        "region_name",
        "regions",
        "verify",
    }
)
#: What follows the name of a service: ``compute_api_version``, ``network_endpoint_override`` ...
SERVICE_SUFFIXES = (
    "_api_version",
    "_default_microversion",
    "_endpoint",
    "_endpoint_override",
    "_endpoint_type",
    "_interface",
    "_region_name",
    "_service_name",
    "_service_type",
)

#: Of each tuple one must be given. What keystoneauth itself does not ask for, Keystone refuses
#: later in words that do not tell what is missing.
_PASSWORD_NEEDS = (
    ("username", "user_id"),
    ("password",),
    (
        "user_id",
        "user_domain_id",
        "user_domain_name",
        "default_domain_id",
        "default_domain_name",
    ),
)
_NEEDS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "password": _PASSWORD_NEEDS,
    "v3password": _PASSWORD_NEEDS,
}
#: They ask a person to log in, each time that the token has expired.
_INTERACTIVE = frozenset({"v3oidcdeviceauthz", "v3websso"})
_UNKNOWN_ARGUMENT = re.compile(r"unexpected keyword argument '(\w+)'")


class NotSent(ksa.ConnectTimeout):
    """The time was up before the request was sent."""


class TimedSession(Session):
    """A session whose requests, logins and discoveries included, end at a deadline that is set
    for a block of code of one thread."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._current = threading.local()

    @contextlib.contextmanager
    def until(self, deadline: Deadline) -> Iterator[None]:
        """Bound each request of this thread in the block by ``deadline``; not to be nested."""
        self._current.deadline = deadline
        try:
            yield
        finally:
            self._current.deadline = None

    def request(self, url: str, method: str, *args: Any, **kwargs: Any) -> requests.Response:
        """As keystoneauth's; raises NotSent when no time is left.

        A ``timeout`` that is given, in seconds, replaces the usual one, for connecting too:
        urllib3 bounds by the time for connecting how long the other side may take nothing of
        the body.
        """
        given: float | None = kwargs.pop("timeout", None)
        timeout = given or self.timeout
        deadline: Deadline | None = getattr(self._current, "deadline", None)
        if deadline is not None:
            left = deadline.remaining()
            if left <= 0:
                raise NotSent(f"Request to {url} not sent")
            timeout = left if timeout is None else min(timeout, left)
        if timeout is not None:
            connecting = timeout if given else min(timeout, CONNECT_TIMEOUT)
            kwargs["timeout"] = (connecting, timeout)
        return super().request(url, method, *args, **kwargs)


class _Region(CloudRegion):
    """Without InfluxDB, which openstacksdk warns of even where nobody asks for it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "influxdb_config": None})


class _Config(OpenStackConfig):
    _cloud_region_class: type[CloudRegion] = _Region


def connect(options: Mapping[str, Any], name: str, timeout: float) -> Connection:
    """A connection to the cloud called ``name``, made without any I/O, except that a vendor
    profile which lives at a URL is fetched once a process.

    ``timeout`` is in seconds and bounds ``api_timeout``, which may only be smaller. Raises
    Unauthorized, naming the place in ``clouds.yaml`` but no value of it, when the options
    cannot make a connection, and Unreachable when such a profile cannot be fetched.
    """
    place = f"clouds.yaml: clouds.{name}"
    _check_forms(options, place)
    given = _openstack_part(options, place)
    _check_profile(given, place)
    region = _region(given, name, place)
    _check_auth(region.config, place)
    _never_resend(region.config)
    region.config["api_timeout"] = _api_timeout(options, timeout, place)
    session = region.get_session().session
    session.trust_env = False
    for scheme in ("http://", "https://"):
        session.mount(scheme, TCPKeepAliveAdapter(pool_maxsize=POOL_SIZE))
    return Connection(config=region)


def is_openstack_key(key: str) -> bool:
    """Whether ``key`` of a cloud in ``clouds.yaml`` is one that :func:`connect` hands on; the
    arguments of the auth type may stand next to it as well as in ``auth``."""
    key = key.replace("-", "_")
    return key in CONNECTION_KEYS or key.endswith(SERVICE_SUFFIXES)


def _check_forms(options: Mapping[str, Any], place: str) -> None:
    """What openstacksdk takes for granted, and would end in a traceback otherwise."""
    auth = options.get("auth", {})
    if not isinstance(auth, Mapping):
        raise Unauthorized(f"{place}.auth: expected a mapping")
    for where, value in (
        ("auth_type", options.get("auth_type")),
        ("profile", options.get("profile")),
        ("auth.auth_url", auth.get("auth_url")),
    ):
        if not isinstance(value, str | None):
            raise Unauthorized(f"{place}.{where}: expected text")
    for region in options.get("regions") or ():
        if not (isinstance(region, str) or (isinstance(region, Mapping) and "name" in region)):
            raise Unauthorized(f"{place}.regions: expected names, or mappings with a name")


def _openstack_part(options: Mapping[str, Any], place: str) -> dict[str, Any]:
    auth_type = options.get("auth_type") or options.get("auth_plugin") or DEFAULT_AUTH_TYPE
    auth_keys = {option.dest for option in _loader(auth_type, place).get_options()}
    return {
        key: copy.deepcopy(value)
        for key, value in options.items()
        if value is not None and (is_openstack_key(key) or key.replace("-", "_") in auth_keys)
    }


def _loader(auth_type: str, place: str) -> loading.BaseLoader[Any]:
    aliases = {"None": "none", "token_endpoint": "admin_token"}  # as openstacksdk has them
    try:
        return loading.get_plugin_loader(aliases.get(auth_type, auth_type))
    except ksa.NoMatchingPlugin as error:
        known = ", ".join(sorted(loading.get_available_plugin_names() - _INTERACTIVE))
        raise Unauthorized(
            f"{place}.auth_type: there is no auth type of that name; expected one of {known}"
        ) from error


def _check_profile(given: Mapping[str, Any], place: str) -> None:
    """Of an unknown profile openstacksdk only warns."""
    profile = given.get("profile", given.get("cloud"))
    if profile is None or profile in vendors.profiles() or "://" in profile:
        return
    known = ", ".join(sorted(vendors.profiles()))
    raise Unauthorized(
        f"{place}.profile: there is no vendor of that name; expected a URL or one of {known}"
    )


def _region(given: dict[str, Any], name: str, place: str) -> CloudRegion:
    config = _Config(
        load_yaml_config=False,
        load_envvars=False,
        app_name=APP_NAME,
        app_version=importlib.metadata.version(APP_NAME),
        session_constructor=TimedSession,
    )
    config.cloud_config = {"clouds": {name: given}}
    try:
        return config.get_one(name)
    except ksa.MissingRequiredOptions as error:
        missing = " and ".join(option.dest for option in error.options)
        raise Unauthorized(f"{place}.auth: {missing} is missing") from error
    except ksa.AuthPluginException as error:
        raise Unauthorized(f"{place}.auth: {error}") from error
    except ConfigException as error:
        raise Unauthorized(f"{place}: {error}") from error
    except requests.RequestException as error:
        raise Unreachable(f"{place}.profile: its URL does not answer with a profile") from error
    except TypeError as error:
        unknown = _UNKNOWN_ARGUMENT.search(str(error))
        if unknown is None:  # what Python says holds names of arguments, no values
            raise Unauthorized(f"{place}.auth: {error}") from error
        raise Unauthorized(
            f"{place}.auth.{unknown[1]}: the auth type takes no argument of that name"
        ) from error
    except (KeyError, IndexError, ValueError) as error:
        raise Unauthorized(
            f"{place}: a value has braces; openstacksdk replaces {{region_name}} and the like, "
            "and nothing is called as these say"
        ) from error


def _check_auth(config: Mapping[str, Any], place: str) -> None:
    auth, auth_type = config["auth"], config["auth_type"]
    if auth_type in _INTERACTIVE:
        raise Unauthorized(
            f"{place}.auth_type: {auth_type} needs a person at each login; expected another, "
            "such as v3applicationcredential"
        )
    for names in _NEEDS.get(auth_type, ()):
        if not any(auth.get(key) for key in names):
            raise Unauthorized(f"{place}.auth: {' or '.join(names)} is missing")
    auth_url = auth.get("auth_url")
    if auth_url is not None and not auth_url.startswith(("http://", "https://")):
        raise Unauthorized(f"{place}.auth.auth_url: expected a URL with http:// or https://")


def _never_resend(config: dict[str, Any]) -> None:
    """No retries by keystoneauth, of no service: a create sent twice makes two servers."""
    config.update({key: 0 for key in config if key.endswith("_retries")})
    config.update(connect_retries=0, status_code_retries=0)


def _api_timeout(options: Mapping[str, Any], timeout: float, place: str) -> float:
    given = options.get("api_timeout")
    if given is None:
        return timeout
    try:
        seconds = float(given)
    except (TypeError, ValueError):
        seconds = 0.0
    if not seconds > 0:
        raise Unauthorized(f"{place}.api_timeout: expected a positive number of seconds")
    return min(seconds, timeout)
