"""What the ``libcloud`` driver can be told: a cloud's options and a VM type's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from voluptuous import All, Invalid, Length, Optional, Required

from isoneph.core.plugin import OptionSchema
from isoneph.plugins.clouds.libcloud.providers import Unfit, nearest, provider_ids, tag_argument
from isoneph.plugins.clouds.libcloud.user_data import PLACEHOLDERS, template
from isoneph.plugins.clouds.libcloud.values import file, flag, line, positive, unique, whole

_MAX_PORT = 65535
#: What a type says in options of their own, or the driver says itself.
_TAKEN = frozenset(
    {
        *("name", "size", "image", "location", "networks", "auth"),
        *("ex_metadata", "ex_labels", "ex_tags", "ex_clienttoken", "ex_mincount", "ex_maxcount"),
        *("ex_keyname", "ex_userdata", "ex_user_data", "ex_availability_zone", "ex_subnet"),
        *("ex_security_groups", "ex_securitygroup", "ex_security_group_ids"),
    }
)


def _provider(value: object) -> str:
    known = provider_ids()
    if value not in known:
        hint = nearest(value, known) if isinstance(value, str) else ", ".join(known)
        raise Invalid(f"expected the id of a provider of libcloud; {hint}")
    try:
        tag_argument(str(value))
    except Unfit as unfit:
        raise Invalid(
            f"{value} cannot be used: {unfit}, and isoneph needs each VM to carry its tags from "
            "the first moment on"
        ) from None
    return str(value)


def _create_arguments(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise Invalid("expected a mapping of names to what they stand for")
    for name in sorted(_TAKEN & set(value)):
        raise Invalid("has an option of its own, or is up to the driver", path=[name])
    return dict(value)


OPTIONS: OptionSchema = {
    Required(
        "provider",
        description="The provider, by its id in libcloud, such as `ec2`. The page on public "
        "clouds lists those that can be used.",
    ): _provider,
    Required(
        "access_key",
        description="Who we are, libcloud's `key`: an access key id, a user's name or a token.",
    ): line,
    Optional("secret_key", description="The secret that belongs to it, libcloud's `secret`."): line,
    Optional("token", description="The session token of temporary credentials."): line,
    Optional("region", description="The region; EC2 needs it."): line,
    Optional("project", description="The project, where the provider has such."): line,
    Optional(
        "host", description="The name of the API's host, instead of the provider's own."
    ): line,
    Optional("port", description="Its port."): whole(1, _MAX_PORT),
    Optional("secure", default=True, description="Whether it is called with TLS."): flag,
    Optional("path", description="The path that the API begins with."): line,
    Optional("api_version", description="The version of the API, as text."): line,
    Optional(
        "arguments",
        default=dict,
        description="What else the provider's class in libcloud takes, by name.",
    ): {str: object},
    Optional("ca_file", description="A file with the certificates to trust, in PEM."): file,
    Optional(
        "proxy_url",
        description="The HTTP proxy to go through; it is not taken from the environment.",
    ): line,
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
        "max_vms",
        description="How many VMs the account may have, others' included: what policy `quota` "
        "goes by. By default nothing is known of it.",
    ): whole(0),
    Optional(
        "account_limits",
        default=False,
        description="EC2 without `max_vms`: go by the account's `max-instances`. AWS shows a "
        "figure there that is no longer kept; clouds that are compatible may show a true one.",
    ): flag,
}

TYPE_OPTIONS: OptionSchema = {
    Required("size", description="The size by id or name; EC2's instance type."): line,
    Required(
        "image",
        description="The image by id or name. On EC2 a name is looked for among the account's "
        "own images alone: anybody may give a public image any name.",
    ): line,
    Optional(
        "networks",
        default=list,
        description="The networks in the order of the VM's interfaces, by id or name; EC2's "
        "subnets. By default what the provider chooses.",
    ): All([line], unique),
    Optional(
        "security_groups",
        default=list,
        description="The security groups of all its interfaces, by id or name.",
    ): All([line], unique),
    Optional("key_name", description="The key pair whose public key the VM gets."): line,
    Optional(
        "user_data",
        description="What cloud-init or the like does in the VM. "
        + ", ".join(f"`{{{{isoneph.{word}}}}}`" for word in PLACEHOLDERS)
        + " stand for what they say; all else is left as it is.",
    ): All(template, Length(max=65535, msg="expected at most 65535 characters")),
    Optional(
        "relay", description="What `{{isoneph.relay}}` stands for: where the VM finds its relay."
    ): line,
    Optional("availability_zone", description="The availability zone or location to be in."): line,
    Optional(
        "arguments",
        default=dict,
        description="What else the provider's `create_node` in libcloud takes, by name, such as "
        "`ex_iamprofile` on EC2.",
    ): _create_arguments,
}
