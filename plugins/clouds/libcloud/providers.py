"""Which of Libcloud's providers can carry isoneph's tags, and what their classes take.

A VM must carry its tags from its first moment on: one that gets them in a second call is lost
when that call is. So a provider qualifies when its ``create_node`` takes tags, keys with values,
and hands them on in the call that makes the VM. Which argument that is tells its signature;
what no signature tells stands in :data:`UNFIT`.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from libcloud.compute.providers import DRIVERS, get_driver
from libcloud.compute.types import Provider

EC2 = str(Provider.EC2.value)
OPENSTACK = str(Provider.OPENSTACK.value)

#: The arguments of ``create_node`` that take tags as a mapping.
TAG_ARGUMENTS = ("ex_metadata", "ex_labels", "ex_tags")
#: Providers whose ``create_node`` has such an argument, and why it is of no use.
UNFIT: Mapping[str, str] = {
    "azure_arm": "it makes a network interface, without tags, in a call before the VM's",
    "eucalyptus": "not every version takes tags in the call that makes the VM",
    "gce": "its labels take neither capitals nor dots, and its metadata steers the guest",
    "nimbus": "it has no tags",
    "scaleway": "its tags are words without values",
}
NO_TAGS = "libcloud makes its VMs without tags, or with words only"
#: Options of a cloud by what libcloud calls them.
ARGUMENTS: Mapping[str, str] = {
    "access_key": "key",
    "secret_key": "secret",
    "token": "token",
    "region": "region",
    "project": "project",
    "host": "host",
    "port": "port",
    "secure": "secure",
    "path": "path",
    "api_version": "api_version",
}
#: What every class takes, through its parents.
_COMMON = frozenset({"key", "secret", "secure", "host", "port"})


class Unfit(Exception):
    """A provider that cannot be used, and why."""


def provider_ids() -> Sequence[str]:
    """The ids of all providers that the installed libcloud knows, sorted."""
    return sorted(str(getattr(provider, "value", provider)) for provider in DRIVERS)


def tag_argument(provider: str) -> str:
    """The argument of its ``create_node`` that takes a VM's tags.

    Raises Unfit when there is none, or the provider's class does not load.
    """
    if provider in UNFIT:
        raise Unfit(UNFIT[provider])
    takes = inspect.signature(node_driver_class(provider).create_node).parameters
    for argument in TAG_ARGUMENTS:
        if argument in takes:
            return argument
    raise Unfit(NO_TAGS)


def judged() -> Iterator[tuple[str, str | None, str]]:
    """Every provider with its tag argument (None when it cannot be used) and, then, why not."""
    for provider in provider_ids():
        try:
            yield provider, tag_argument(provider), ""
        except Unfit as unfit:
            yield provider, None, str(unfit)


def node_driver_class(provider: str, api_version: str | None = None) -> type[Any]:
    """Libcloud's class for a provider; of OpenStack's the one for an API version.

    Raises Unfit when it does not load.
    """
    try:
        found: type[Any] = get_driver(provider)
        if provider == OPENSTACK:  # its class stands for several, and chooses when it is made
            version = {} if api_version is None else {"api_version": api_version}
            found = type(found.__new__(found, "", **version))
    except (ImportError, RuntimeError, AttributeError) as error:
        raise Unfit(f"its class does not load here: {type(error).__name__}") from error
    return found


def constructor_arguments(driver: type[Any]) -> Collection[str]:
    """What the class of a node driver takes by name, those of its parents included."""
    names = set(_COMMON)
    for base in inspect.getmro(driver):
        if "__init__" in vars(base):
            names |= set(inspect.signature(vars(base)["__init__"]).parameters)
    return names - {"self", "args", "kwargs"}


def constructor_problems(options: Mapping[str, Any]) -> Sequence[str]:
    """What is wrong with the options of a cloud that the provider's class is made of."""
    provider = options["provider"]
    try:
        driver = node_driver_class(provider, options.get("api_version"))
    except Unfit:
        return (f"api_version: libcloud has no class of that version for {provider}",)
    takes = constructor_arguments(driver)
    told = [
        f"{option}: {provider} takes no such thing; remove it"
        for option, argument in ARGUMENTS.items()
        if option in options and argument not in takes
    ]
    doubled = sorted(set(options["arguments"]) & (set(ARGUMENTS.values()) | {"timeout"}))
    told += [f"arguments.{name}: has an option of its own" for name in doubled]
    return [*told, *_ec2_problems(options, driver)]


def _ec2_problems(options: Mapping[str, Any], driver: type[Any]) -> Iterator[str]:
    if options["provider"] != EC2:
        return
    if "secret_key" not in options:
        yield "secret_key: missing; expected the secret that belongs to access_key"
    region, regions = options.get("region"), sorted(driver.list_regions())
    if region is None:
        yield "region: missing; expected one such as eu-central-1"
    elif region not in regions:
        yield f"region: libcloud knows no {region}; {nearest(region, regions)}"


def nearest(word: str, words: Sequence[str]) -> str:
    """A hint at what was meant, or at all that could have been."""
    near = difflib.get_close_matches(word.lower(), words, n=1)
    return f"did you mean {near[0]}?" if near else f"expected one of {', '.join(words)}"
