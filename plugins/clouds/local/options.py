"""What the ``local`` driver can be told: its options, a VM type's options, and their checks."""

from __future__ import annotations

import hashlib
import ipaddress
import math
import re
import shlex
import string
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from voluptuous import Invalid, Optional, Required

#: What a text of a VM type may name in braces.
PLACEHOLDERS = (
    "id",
    "name",
    "application",
    "type",
    "cloud",
    "address",
    "directory",
    "python",
)

_LOOPBACK = ipaddress.IPv4Network("127.0.0.0/8")
_LOCALHOST = ipaddress.IPv4Address("127.0.0.1")
_DEFAULT_RANGE = ipaddress.IPv4Network("127.64.0.0/10")
_DEFAULT_PREFIX = 24
_SMALLEST_PREFIX = 30
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESERVED = "ISONEPH_"
_MAX_PORT = 65535


def default_network(cloud: str) -> str:
    """The network of a cloud that names none: a /24 of 127.64.0.0/10 that its name decides."""
    digest = int.from_bytes(hashlib.sha256(cloud.encode()).digest()[:4])
    bits = _DEFAULT_PREFIX - _DEFAULT_RANGE.prefixlen
    base = int(_DEFAULT_RANGE.network_address)
    offset = digest % 2**bits << (_DEFAULT_RANGE.max_prefixlen - _DEFAULT_PREFIX)
    return str(ipaddress.IPv4Network((base + offset, _DEFAULT_PREFIX)))


def _text(value: object) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise Invalid("expected a text that is not empty")
    return value


def _directory(value: object) -> str:
    try:
        path = Path(_text(value)).expanduser()
    except RuntimeError:
        raise Invalid("expected an absolute path: there is no home directory for ~") from None
    if not path.is_absolute():
        raise Invalid("expected an absolute path, or one that begins with ~/")
    return str(path)


def _network(value: object) -> str:
    try:
        network = ipaddress.IPv4Network(_text(value))
    except ValueError as error:
        raise Invalid(f"expected an IPv4 network such as 127.64.1.0/24: {error}") from None
    if not network.subnet_of(_LOOPBACK) or _LOCALHOST in network:
        raise Invalid("expected a network inside 127.0.0.0/8 that does not contain 127.0.0.1")
    if network.prefixlen > _SMALLEST_PREFIX:
        raise Invalid(f"expected a network of /{_SMALLEST_PREFIX} or larger")
    return str(network)


def _whole(low: int, high: int | None = None) -> Callable[[object], int]:
    wanted = f"of {low} or more" if high is None else f"from {low} to {high}"

    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise Invalid(f"expected a whole number {wanted}")
        if value < low or (high is not None and value > high):
            raise Invalid(f"expected a whole number {wanted}")
        return value

    return check


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Invalid("expected a number of seconds, 0 or more")
    if not math.isfinite(value) or value < 0:
        raise Invalid("expected a number of seconds, 0 or more")
    return float(value)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise Invalid("expected true or false")
    return value


def _template(value: object) -> str:
    """A text whose braces hold nothing but placeholders, so that ``format`` cannot fail."""
    if not isinstance(value, str) or "\0" in value:
        raise Invalid("expected a text")
    try:
        parts = list(string.Formatter().parse(value))
    except ValueError as error:
        raise Invalid(f"{error}; write {{{{ and }}}} for braces that are no placeholder") from None
    for _literal, field, spec, conversion in parts:
        if field is not None and (field not in PLACEHOLDERS or spec or conversion):
            known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
            raise Invalid(
                f"unknown placeholder {{{field}}}; expected one of {known}, or {{{{ and }}}} for "
                "braces that are no placeholder"
            )
    return value


def _command(value: object) -> list[str]:
    if isinstance(value, str):
        try:
            value = shlex.split(value)
        except ValueError as error:
            raise Invalid(f"expected a command line: {str(error).lower()}") from None
    if not isinstance(value, list) or not value or not value[0]:
        raise Invalid("expected a command: a text, or a list of texts beginning with a program")
    return [_template(word) for word in value]


def _environment(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise Invalid("expected a mapping of variable names to texts")
    checked: dict[str, str] = {}
    for name, content in value.items():
        if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
            raise Invalid("expected names of letters, digits and _", path=[name])
        if name.startswith(_RESERVED):
            raise Invalid(f"names that begin with {_RESERVED} are set by the driver", path=[name])
        if isinstance(content, bool) or not isinstance(content, str | int | float):
            raise Invalid("expected a text; put quotes around it", path=[name])
        try:
            checked[name] = _template(str(content))
        except Invalid as error:
            raise Invalid(error.msg, path=[name]) from None
    return checked


OPTIONS: Mapping[Any, Any] = {
    Required(
        "directory",
        description="where this cloud keeps its VMs: an absolute path, or one that begins with "
        "~/; one directory belongs to one cloud, and every replica of the service uses the same",
    ): _directory,
    Optional(
        "network",
        description="loopback IPv4 network that the VMs' addresses come from; by default a /24 "
        "of 127.64.0.0/10 that the cloud's name decides",
    ): _network,
    Optional(
        "max_vms",
        description="how many VMs may be there at once, failed ones too; by default any number",
    ): _whole(0),
    Optional(
        "stop_seconds",
        default=5.0,
        description="seconds between SIGTERM and SIGKILL when a VM is deleted",
    ): _seconds,
    Optional(
        "log_bytes",
        default=16 * 1024 * 1024,
        description="size above which a VM's log becomes `log.old` (checked at every listing)",
    ): _whole(1),
    Optional(
        "keep_logs",
        default=False,
        description="whether the log of a deleted VM is kept, in `logs/` of the directory",
    ): _flag,
}

TYPE_OPTIONS: Mapping[Any, Any] = {
    Required(
        "command",
        description="program and arguments: a list of texts, or one text that is split as a "
        "shell would; it stays in the foreground, and ends on SIGTERM. Placeholders: "
        + ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
        + "; {{ and }} are braces",
    ): _command,
    Optional(
        "environment",
        default=dict,
        description="further variables of the process's environment; with placeholders",
    ): _environment,
    Optional(
        "ready_port",
        description="TCP port of the VM's address that accepts connections once the VM is "
        "ready: it is BUILDING until one succeeds; by default ACTIVE as soon as it runs",
    ): _whole(1, _MAX_PORT),
    Optional(
        "working_directory",
        default="{directory}",
        description="where the command runs, with placeholders; a relative path begins where "
        "the service was started; by default the VM's own directory",
    ): _template,
}
