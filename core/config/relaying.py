"""``relay`` of an application: the relay plugin with its parts, and how the core treats it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

import voluptuous as vol

from isoneph.core.config.documents import Document, part
from isoneph.core.config.problems import unknown
from isoneph.core.config.rules import NAME, Each, Rule, number
from isoneph.core.config.validation import Report, check_plugin, load_plugin
from isoneph.core.plugin import OptionSchema, Part, Plugin
from isoneph.core.registry import Registry
from isoneph.core.settings import PartSettings, RelaySettings

KEY = "relay"
#: Parts of parts of parts: more than any plugin needs.
MAX_DEPTH = 8
#: The longest path of a Unix socket that Linux takes, in bytes.
MAX_SOCKET_PATH = 107
_MAX_PORT = 65535
_DEFAULTS = RelaySettings(driver="")


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= _MAX_PORT):
        raise ValueError
    return int(text)


def _endpoint(value: Any) -> str:
    """HOST:PORT, an IPv6 host in brackets."""
    host, colon, port = value.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not (colon and host) or any(char.isspace() for char in host) or (":" in host) > bracketed:
        raise ValueError
    return f"{host}:{_port(port)}"


def _control(value: Any) -> str:
    if not value.startswith("/"):
        return _endpoint(value)
    if len(value.encode()) > MAX_SOCKET_PATH or "\0" in value:
        raise ValueError
    return str(value)


def _figures(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"127.0.0.1:{_port(str(value))}"
    return _endpoint(_text(value))


def _file(value: Any) -> str:
    if not value.startswith("/"):
        raise ValueError
    return str(value)


ADDRESS = Rule(
    "an IPv4 or IPv6 address, without a port",
    lambda value: str(ipaddress.ip_address(_text(value))),
)
CONTROL = Rule(
    f"the absolute path of a Unix socket, of at most {MAX_SOCKET_PATH} bytes, or HOST:PORT",
    lambda value: _control(_text(value)),
)
WEIGHED = Rule(
    "a VM type, or an address of `servers`",
    lambda value: _address(value) or str(NAME(value)),
)
FIGURES = Rule("a port, or HOST:PORT", _figures)
FILE = Rule("an absolute path", lambda value: _file(_text(value)))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


DRIVER = vol.Optional("driver", description="The plugin; its name alone does for all.")

RELAY: OptionSchema = {
    vol.Required("driver", description="The plugin that carries the traffic."): str,
    vol.Optional(
        "network",
        description="The network whose addresses of a VM are used; by default the VM's first.",
    ): str,
    vol.Optional(
        "types", description="The VM types that get traffic; all of the application by default."
    ): Each(NAME, least=1, unique=True),
    vol.Optional(
        "servers",
        default=list,
        description="Addresses of servers that isoneph did not make and that get traffic beside "
        "the VMs; with them the relay needs neither an engine nor VMs.",
    ): Each(ADDRESS, unique=True),
    vol.Optional(
        "weights",
        default=dict,
        description="Shares of new sessions, by VM type or by an address of `servers`: one of 2 "
        "gets twice as many as one of 1, which is everybody's by default.",
    ): {WEIGHED: number(above=0)},
    vol.Optional(
        "drain",
        default=_DEFAULTS.drain,
        description="Seconds for which a VM that is to be removed may keep its sessions.",
    ): number(least=0),
    vol.Optional(
        "control",
        description="Where the engine speaks to the relay's process: a Unix socket's path, or "
        "HOST:PORT with `control_secret_file`; by default a socket of this user's.",
    ): CONTROL,
    vol.Optional(
        "control_secret_file",
        description="The file with the secret that both sides of HOST:PORT prove to know: 16 "
        "characters or more.",
    ): FILE,
    vol.Optional(
        "metrics",
        description="Where the relay's process shows its figures to Prometheus: a port of "
        "127.0.0.1, or HOST:PORT. Nowhere by default.",
    ): FIGURES,
}


def read_relay(document: Document, registry: Registry) -> RelaySettings | None:
    """The relay of an application; None without one, or after problems were noted."""
    if not isinstance(document.value, dict) or KEY not in document.value:
        return None
    report = document.at(KEY)
    entry = document.value[KEY]
    if isinstance(entry, str):
        entry = {"driver": entry}
    if not isinstance(entry, dict):
        report((), "expected a relay plugin's name, or a mapping that has it under 'driver'")
        return None
    _check_types(entry, part(document.value, "types", dict), report)
    plugin = None
    if isinstance(entry.get("driver"), str):
        plugin = load_plugin(registry, "relays", entry["driver"], report, "driver")
    checked, parts = _checked(plugin, RELAY, entry, registry, report, 0)
    if checked is None:
        return None
    if (problem := _control_problem(checked)) is not None:
        report((problem[0],), problem[1])
        return None
    own = {str(key): checked.pop(str(key)) for key in RELAY if str(key) in checked}
    own["servers"] = tuple(own["servers"])
    own["types"] = tuple(own["types"]) if "types" in own else None
    return RelaySettings(**own, options=checked, parts=parts)


def _check_types(entry: Mapping[str, Any], known: Iterable[str], report: Report) -> None:
    """That VM types which are named are there, and get traffic where they have a weight."""
    given = part(entry, "types", list)
    for index, name in enumerate(given):
        if isinstance(name, str) and name not in known:
            report(("types", index), unknown("VM type", name, known))
    carried = [name for name in known if name in given] if "types" in entry else list(known)
    servers = {_address(each) for each in part(entry, "servers", list)}
    for key in part(entry, "weights", dict):
        address = _address(key)
        if address is not None and address not in servers:
            report(("weights", key), "this is none of the servers")
        elif address is None and key not in carried:
            report(("weights", key), unknown("VM type", str(key), carried))


def _address(value: Any) -> str | None:
    """An address as it is compared, None for anything else."""
    try:
        return str(ADDRESS(value))
    except vol.Invalid:
        return None


def _control_problem(checked: Mapping[str, Any]) -> tuple[str, str] | None:
    """What is wrong between ``control`` and its secret: the key, and what."""
    is_network = not checked.get("control", "/").startswith("/")
    if is_network and "control_secret_file" not in checked:
        return "control", "HOST:PORT needs control_secret_file beside it; or name a Unix socket"
    if not is_network and "control_secret_file" in checked:
        return "control_secret_file", "a Unix socket needs no secret; remove it, or the socket"
    return None


def _checked(
    plugin: type[Plugin] | None,
    schema: OptionSchema,
    entry: Mapping[str, Any],
    registry: Registry,
    report: Report,
    depth: int,
) -> tuple[Any | None, Mapping[str, PartSettings]]:
    """The entry without its parts as the schemas make it, None after a problem; and the parts."""
    wanted = {} if plugin is None else plugin.parts
    keys: OptionSchema = {
        vol.Optional(key, description=each.description): object for key, each in wanted.items()
    }
    checked = check_plugin(plugin, {**schema, **keys}, entry, report)
    parts = {
        key: read_part(entry.get(key, each.default), each, registry, _inside(report, key), depth)
        for key, each in wanted.items()
    }
    found = {key: each for key, each in parts.items() if each is not None}
    if checked is None or len(found) < len(wanted):
        return None, {}
    return {key: value for key, value in checked.items() if key not in wanted}, found


def read_part(
    entry: Any, wanted: Part, registry: Registry, report: Report, depth: int = 0
) -> PartSettings | None:
    """One part as it is configured; None after problems were reported."""
    if depth >= MAX_DEPTH:
        report((), f"parts within parts, {MAX_DEPTH} deep; does one hold itself?")
        return None
    if isinstance(entry, str):
        entry = {"driver": entry}
    if not isinstance(entry, dict):
        report((), f"expected the name of a {wanted.kind} plugin, or a mapping with its options")
        return None
    driver = entry.get("driver", wanted.default)
    plugin = None
    if isinstance(driver, str):
        plugin = load_plugin(registry, wanted.kind, driver, report, "driver")
    checked, parts = _checked(plugin, {DRIVER: str}, entry, registry, report, depth + 1)
    if plugin is None or checked is None:
        return None
    checked.pop("driver", None)
    return PartSettings(driver=driver, options=checked, parts=parts)


def _inside(report: Report, key: str) -> Report:
    return lambda path, text: report((key, *path), text)
