"""What a cloud in ``clouds.yaml`` can say to this driver: OpenStack's own keys, and a few more.

Every ``clouds.yaml`` that works with OpenStack's own tools is taken as it is, whatever of it
isoneph has a use for. A key that neither knows is told as a mistake.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any

from openstack.config import vendors
from os_service_types import ServiceTypes
from voluptuous import Any as OneOf
from voluptuous import In, Invalid, Optional

from isoneph.core.errors import CloudError
from isoneph.core.plugin import OptionSchema
from isoneph.plugins.clouds.openstack.connection import connect
from isoneph.plugins.clouds.openstack.values import positive, whole

#: What the core takes of a cloud, as likely to be misspelt as any other key.
_CORE = ("driver", "isoneph")
#: Arguments of authentication that older files write next to `auth` rather than inside it.
_AUTH_ARGUMENTS = (
    *("auth_url", "username", "user_id", "password", "token", "passcode", "system_scope"),
    *("project_id", "project_name", "project_domain_id", "project_domain_name", "trust_id"),
    *("user_domain_id", "user_domain_name", "domain_id", "domain_name", "default_domain"),
    *("default_domain_id", "default_domain_name", "tenant_id", "tenant_name", "auth_token"),
    *("application_credential_id", "application_credential_name"),
    *("application_credential_secret", "access_token", "identity_provider", "protocol"),
)
#: What openstacksdk and the clients read of a cloud, and isoneph has no use for.
_OTHERS = (
    *("networks", "external_network", "internal_network", "private", "metrics", "client"),
    *("floating_ip_source", "requires_floating_ip", "secgroup_source", "has_network"),
    *("image_api_use_tasks", "image_format", "disable_vendor_agent", "vendor_hook", "vm_mode"),
    *("xenapi_use_agent", "use_direct_get", "message", "status", "timing", "force_ipv4"),
    *("prefer_ipv6", "influxdb", "statsd", "prometheus", "additional_metric_tags", "cache"),
    *("connect_retries", "connect_retry_delay", "status_code_retries"),
    *("status_code_retry_delay", "retriable_status_codes", "nat_source", "default_network"),
    *("log_level", "log_file", "verbose_level", "debug", "service_type", "service_name"),
    *("api_version", "default_microversion", "endpoint_override", "endpoint"),
)
_SERVICE_SUFFIXES = (
    *("api_version", "default_microversion", "endpoint", "endpoint_override", "endpoint_type"),
    *("interface", "region_name", "service_name", "service_type", "min_version", "max_version"),
    *("connect_retries", "connect_retry_delay", "status_code_retries"),
    *("status_code_retry_delay", "retriable_status_codes", "rate_limit", "concurrency"),
)


def _other_key(key: object) -> str:
    """A key of OpenStack's that is not told one by one below."""
    known = {*_AUTH_ARGUMENTS, *_OTHERS, *_service_keys()}
    plain = str(key).replace("-", "_")  # as OpenStack's tools read it
    told = [str(marker) for marker in OPTIONS if not callable(marker.schema)]
    if plain in known or plain in told:
        return str(key)
    near = get_close_matches(str(key).casefold(), [*_CORE, *told, *sorted(known)], n=1)
    wanted = (
        f"did you mean '{near[0]}'?" if near else "neither isoneph nor OpenStack's tools know it"
    )
    raise Invalid(f"unknown key; {wanted}")


@cache
def _service_keys() -> frozenset[str]:
    services = ServiceTypes().all_types_by_service_type.values()
    return frozenset(
        f"{kind.replace('-', '_')}_{suffix}"
        for kinds in services
        for kind in kinds
        for suffix in _SERVICE_SUFFIXES
    )


def _profile(value: object) -> str | None:
    if value is None or (isinstance(value, str) and "://" in value):
        return value
    known = sorted(vendors.profiles())
    if value not in known:
        raise Invalid(f"expected a URL, or a vendor that openstacksdk knows: {', '.join(known)}")
    return str(value)


_TEXT = OneOf(str, None)

OPTIONS: OptionSchema = {
    Optional(
        "auth",
        description="Who we are: `auth_url`, and what the auth type needs, such as `username`, "
        "`password`, `project_name`, `user_domain_name` and `project_domain_name`, or "
        "`application_credential_id` and `application_credential_secret`.",
    ): {str: object},
    Optional(
        "auth_type",
        description="How: `password` (the default), `v3applicationcredential`, `token` or any "
        "other that keystoneauth knows.",
    ): _TEXT,
    Optional(
        "profile",
        description="A vendor whose settings openstacksdk brings along; what is said here goes "
        "before them.",
    ): _profile,
    Optional("cloud", description="Older name of `profile`."): _profile,
    Optional("auth_plugin", description="Older name of `auth_type`."): _TEXT,
    Optional("auth_methods", description="The methods of auth type `v3multifactor`."): [str],
    Optional("region_name", description="The region, where the cloud has several."): OneOf(
        str, [str], None
    ),
    Optional("regions", description="The regions; the first one is used."): list,
    Optional(
        "interface",
        description="Which endpoints of the catalogue are called: `public` (the default), "
        "`internal` or `admin`.",
    ): OneOf(In(("public", "internal", "admin")), None),
    Optional("endpoint_type", description="Older name of `interface`."): _TEXT,
    Optional(
        "verify", description="Whether certificates of the endpoints are verified: yes by default."
    ): object,
    Optional("insecure", description="The opposite of `verify`."): object,
    Optional("cacert", description="A file with the certificates to trust."): _TEXT,
    Optional("cert", description="A file with our own certificate."): _TEXT,
    Optional("key", description="A file with the key of `cert`."): _TEXT,
    Optional(
        "api_timeout",
        description="Seconds that one request waits for an answer, where `isoneph.timeout` "
        "leaves more.",
    ): OneOf(positive, None),
    Optional(
        "calls_per_second",
        default=20.0,
        description="How many requests a second are sent to this cloud, by all applications "
        "together; more wait their turn.",
    ): positive,
    Optional(
        "burst",
        default=40,
        description="How many requests may be sent at once after a while without any.",
    ): whole(1),
    Optional(
        _other_key,
        description="Whatever else OpenStack's tools take here. Of it isoneph uses what stands in "
        "for keys of `auth`, and what is said of one service: its name, `_`, and one of "
        + ", ".join(f"`{suffix}`" for suffix in _SERVICE_SUFFIXES[:9])
        + "; `compute_default_microversion` is the newest version of the compute API to use.",
    ): object,
}


def problems(options: Mapping[str, Any]) -> Sequence[str]:
    """What keeps a connection from being made of options, as far as that shows without asking
    the cloud; no value of theirs is in it."""
    if options.get("profile") or options.get("cloud"):
        return ()  # what it brings may have to be fetched
    name = "cloud"
    try:
        connect(options, name, timeout=1.0)
    except CloudError as error:
        return (error.message.removeprefix(f"clouds.yaml: clouds.{name}").lstrip(".: "),)
    return ()
