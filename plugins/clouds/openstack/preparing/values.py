"""Validators of single values in a description, each saying what it expects."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from voluptuous import Any as OneOf
from voluptuous import Invalid

from isoneph.core.identity import NAME_PATTERN
from isoneph.plugins.clouds.openstack.values import address, name

#: What stands where a subnet has no gateway.
NO_GATEWAY = "none"
#: What stands for every protocol.
ANY_PROTOCOL = "any"
#: IANA's numbers of the protocols that Neutron has names for.
PROTOCOL_NUMBERS: Mapping[str, int] = {
    "ah": 51,
    "dccp": 33,
    "egp": 8,
    "esp": 50,
    "gre": 47,
    "icmp": 1,
    "icmpv6": 58,
    "igmp": 2,
    "ipip": 4,
    "ipv6-encap": 41,
    "ipv6-frag": 44,
    "ipv6-icmp": 58,
    "ipv6-nonxt": 59,
    "ipv6-opts": 60,
    "ipv6-route": 43,
    "ospf": 89,
    "pgm": 113,
    "rsvp": 46,
    "sctp": 132,
    "tcp": 6,
    "udp": 17,
    "udplite": 136,
    "vrrp": 112,
}
#: The algorithms that a checksum may be of, by its length in hexadecimal digits.
CHECKSUMS: Mapping[int, str] = {32: "md5", 64: "sha256", 128: "sha512"}

_MAX_PORT = 65535
_MAX_PROTOCOL = 255
_KEY_TYPE = re.compile(r"(ssh|ecdsa|sk-ssh|sk-ecdsa)-[A-Za-z0-9@.-]+")


def cloud_name(value: object) -> str:
    """The name of a cloud."""
    if not isinstance(value, str) or not NAME_PATTERN.fullmatch(value):
        raise Invalid("expected the name of a cloud")
    return value


def per_cloud(rule: Any) -> Any:
    """What ``rule`` takes, for all clouds or by cloud."""
    return OneOf(rule, {cloud_name: rule})


def prefix(value: object) -> str:
    """A network such as ``10.1.0.0/24`` or ``fd00:10:1::/64``, in its usual spelling."""
    try:
        if isinstance(value, str) and "/" in value:
            return str(ipaddress.ip_network(value))
    except ValueError as error:
        raise Invalid(f"expected a network such as 10.1.0.0/24: {error}") from None
    raise Invalid("expected a network such as 10.1.0.0/24 or fd00:10:1::/64, as text")


def gateway(value: object) -> str:
    """An IP address, or ``none``."""
    if value == NO_GATEWAY:
        return NO_GATEWAY
    try:
        return address(value)
    except Invalid:
        raise Invalid(f"expected an IP address, or '{NO_GATEWAY}'") from None


def address_range(value: object) -> str:
    """The first and the last address, with a ``-`` between them."""
    ends = [end.strip() for end in value.split("-")] if isinstance(value, str) else []
    try:
        first, last = map(ipaddress.ip_address, ends)
    except ValueError:
        raise Invalid("expected a range of addresses such as 10.1.0.2-10.1.0.100") from None
    if first.version != last.version or int(first) > int(last):
        raise Invalid("expected a range of addresses that ends after it begins")
    return f"{first}-{last}"


def address_ranges(value: object) -> list[str]:
    """One range of addresses, or a list of them."""
    items = value if isinstance(value, list) else [value]
    if not items:
        raise Invalid("expected at least one range of addresses such as 10.1.0.2-10.1.0.100")
    return [address_range(item) for item in items]


def protocol(value: object) -> str:
    """A protocol by the name that Neutron knows it by, by its number, or ``any``."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_PROTOCOL:
        return str(value)
    if isinstance(value, str):
        word = value.strip().lower()
        if word == ANY_PROTOCOL or word in PROTOCOL_NUMBERS:
            return word
        if word.isascii() and word.isdigit() and int(word) <= _MAX_PROTOCOL:
            return str(int(word))
    known = ", ".join(PROTOCOL_NUMBERS)
    raise Invalid(f"expected {ANY_PROTOCOL}, a number up to {_MAX_PROTOCOL}, or one of {known}")


def ports(value: object) -> str:
    """A port, or the first and the last of a range with a ``-`` between them."""
    ends = [] if isinstance(value, bool) else str(value).split("-")
    try:
        first, last = int(ends[0]), int(ends[-1])
    except (IndexError, ValueError):
        first, last = -1, -1
    if not (len(ends) in {1, 2} and 0 < first <= last <= _MAX_PORT):
        raise Invalid(f"expected a port from 1 to {_MAX_PORT}, or a range such as 7000-7002")
    return str(first) if first == last else f"{first}-{last}"


def remote(value: object) -> str:
    """A network, or the name of a security group."""
    if not isinstance(value, str):
        raise Invalid("expected a network such as 10.1.0.0/24, or the name of a security group")
    if any(char in value for char in "/:"):
        return prefix(value)
    try:
        return str(ipaddress.ip_network(value))
    except ValueError:
        return name(value)


def path(value: object) -> str:
    """The absolute path of a file, ``~/`` standing for the home directory."""
    wanted = "expected an absolute path, or one that begins with ~/"
    if not isinstance(value, str) or "\0" in value:
        raise Invalid(wanted)
    try:
        found = Path(value).expanduser()
    except RuntimeError:
        raise Invalid(f"{wanted}: there is no home directory for ~") from None
    if not found.is_absolute():
        raise Invalid(wanted)
    return str(found)


def public_key(value: object) -> str:
    """An OpenSSH public key, ``TYPE BASE64 COMMENT``."""
    words = value.split() if isinstance(value, str) else []
    if len(words) > 1 and _KEY_TYPE.fullmatch(words[0]):
        try:
            base64.b64decode(words[1], validate=True)
        except (binascii.Error, ValueError):
            pass
        else:
            return " ".join(words)
    raise Invalid("expected an OpenSSH public key: its type, the key in base64, maybe a comment")


def checksum(value: object) -> str:
    """A digest in hexadecimal digits; its length tells the algorithm."""
    digest = value.strip().lower() if isinstance(value, str) else ""
    if len(digest) not in CHECKSUMS or not re.fullmatch("[0-9a-f]+", digest):
        raise Invalid("expected a SHA-512, SHA-256 or MD5 digest in hexadecimal digits, as text")
    return digest


def image_property(value: object) -> str:
    """A text; numbers and booleans are written as Glance does."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    return name(value)
