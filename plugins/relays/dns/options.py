"""What the ``dns`` relay can be told, and the checks of that."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import dns.exception
import dns.name
from voluptuous import Exclusive, Invalid, Optional, Required

from isoneph.core.traffic import Address

#: Those of RFC 8945, section 6, that are still to be used.
ALGORITHMS = ("hmac-sha224", "hmac-sha256", "hmac-sha384", "hmac-sha512")

_PORT = 53
_MAX_PORT = 65535
_WEEK = 7 * 86400
_SERVICE = re.compile(r"_[A-Za-z0-9-]{1,62}\._[A-Za-z0-9-]{1,62}")


def _whole(low: int, high: int) -> Callable[[object], int]:
    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise Invalid(f"expected a whole number from {low} to {high}")
        return value

    return check


def _seconds(low: float) -> Callable[[object], float]:
    def check(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Invalid(f"expected a number of seconds, {low:g} or more")
        if not math.isfinite(value) or value < low:
            raise Invalid(f"expected a number of seconds, {low:g} or more")
        return float(value)

    return check


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise Invalid("expected true or false")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise Invalid("expected a text that is not empty")
    return value


def _path(value: object) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise Invalid("expected a path")
    if not value.startswith("~/") and not PurePosixPath(value).is_absolute():
        raise Invalid("expected an absolute path, or one that begins with ~/")
    return value


def _domain(value: object) -> str:
    try:
        dns.name.from_text(_text(value), origin=None)
    except (dns.exception.DNSException, ValueError) as error:
        raise Invalid(f"expected a domain name: {error}") from None
    return str(value)


def _algorithm(value: object) -> str:
    if value not in ALGORITHMS:
        raise Invalid(f"expected one of {', '.join(ALGORITHMS)}")
    return str(value)


def _service(value: object) -> str:
    if not isinstance(value, str) or not _SERVICE.fullmatch(value):
        raise Invalid("expected a service and its protocol, such as _sip._tcp")
    return value


def server_address(text: str) -> Address:
    """The address and port of a name server. Raises voluptuous.Invalid."""
    host, port = text, str(_PORT)
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        port = rest.removeprefix(":") if rest else port
        if not bracket or (rest and not rest.startswith(":")):
            host = ""
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        number = _whole(1, _MAX_PORT)(int(port) if port.isascii() and port.isdecimal() else None)
        return Address(str(ipaddress.ip_address(host)), number)
    except (ValueError, Invalid):
        raise Invalid(
            "expected a numeric address, with a port when it is not 53: 192.0.2.53, "
            "192.0.2.53:5353, 2001:db8::53 or [2001:db8::53]:5353"
        ) from None


def _servers(value: object) -> list[str]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not values:
        raise Invalid("expected an address, or a list of them")
    for number, text in enumerate(values):
        try:
            server_address(_text(text))
        except Invalid as error:
            raise Invalid(error.msg, path=[number]) from None
    return values


KEY: Mapping[Any, Any] = {
    Required("name", description="what the name server calls the key"): _domain,
    Optional(
        "algorithm",
        default="hmac-sha256",
        description=f"one of {', '.join(f'`{name}`' for name in ALGORITHMS)}",
    ): _algorithm,
    Exclusive(
        "secret_file",
        "secret",
        msg="expected secret_file or secret_env, not both",
        description="a file that holds the secret in base64 and that nobody else can read",
    ): _path,
    Exclusive(
        "secret_env",
        "secret",
        msg="expected secret_file or secret_env, not both",
        description="the environment variable that holds the secret in base64",
    ): _text,
}

SRV: Mapping[Any, Any] = {
    Required("service", description="service and protocol, such as `_sip._tcp`"): _service,
    Required("port", description="the port of the service"): _whole(1, _MAX_PORT),
    Optional(
        "priority", default=0, description="the records' priority; clients try the lowest first"
    ): _whole(0, 65535),
}

CHECK: Mapping[Any, Any] = {
    Required("port", description="the TCP port that a ready backend accepts connections on"): (
        _whole(1, _MAX_PORT)
    ),
    Optional("interval", default=2.0, description="seconds between checks"): _seconds(0.1),
    Optional(
        "timeout", default=1.0, description="seconds after which a check has failed"
    ): _seconds(0.05),
    Optional(
        "rise", default=2, description="good checks in a row that bring a backend back"
    ): _whole(1, 1000),
    Optional("fall", default=3, description="bad checks in a row that take a backend out"): _whole(
        1, 1000
    ),
}

OPTIONS: Mapping[Any, Any] = {
    Required(
        "name_servers",
        description="the name servers that updates go to: the zone's primary first, then others "
        "that are tried when it does not answer; numeric addresses, with a port when it is not 53",
    ): _servers,
    Required("zone", description="the zone that is updated"): _domain,
    Required(
        "name",
        description="the name that points at the backends: relative to the zone, `@` for the "
        "zone itself, or with a dot at its end",
    ): _domain,
    Optional("ttl", default=30, description="seconds that an answer may be cached"): _whole(
        1, _WEEK
    ),
    Optional(
        "grace",
        default=5.0,
        description="seconds after the TTL in which clients may still come by an old answer",
    ): _seconds(0.0),
    Optional(
        "key_file",
        description="a file with the TSIG key, as `tsig-keygen` or `keymgr -t` prints it, or "
        "`algorithm:name:secret`; nobody else can read it",
    ): _path,
    Optional("key", description="the TSIG key, when it is not in a `key_file`"): KEY,
    Optional("srv", description="SRV records, with weights, beside those of the addresses"): SRV,
    Optional("check", description="what a backend must do before its address is published"): CHECK,
    Optional(
        "shared",
        default=False,
        description="whether others have records at the same name, which are then left alone",
    ): _flag,
    Optional(
        "interval",
        default=30.0,
        description="seconds between looks whether the records are still as they should be",
    ): _seconds(1.0),
}


def zone_of(options: Mapping[str, Any]) -> dns.name.Name:
    """The zone as an absolute name."""
    return dns.name.from_text(options["zone"])


def name_of(options: Mapping[str, Any]) -> dns.name.Name:
    """The name that points at the backends, absolute."""
    return dns.name.from_text(options["name"], origin=zone_of(options))


def servers_of(options: Mapping[str, Any]) -> Sequence[Address]:
    """The name servers, in order."""
    return [server_address(text) for text in options["name_servers"]]


def problems(options: Mapping[str, Any]) -> Iterator[str]:
    """What does not go together."""
    if "key" in options and "key_file" in options:
        yield "expected key or key_file, not both"
    if "key" in options and not options["key"].keys() & {"secret_file", "secret_env"}:
        yield "key needs secret_file or secret_env"
    try:
        if not name_of(options).is_subdomain(zone_of(options)):
            yield f"name {options['name']} is not in the zone {options['zone']}"
    except dns.exception.DNSException as error:
        yield f"name {options['name']} in the zone {options['zone']}: {error}"
