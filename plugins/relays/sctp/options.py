"""The options of the ``sctp`` relay."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Callable, Mapping
from typing import Any, Final

from voluptuous import All, Exclusive, In, Invalid, Length, Optional, Required

from isoneph.core.link import LinkAddress
from isoneph.core.traffic import Address
from isoneph.plugins.relays.sctp.parcels import SUSPECT

_LARGEST_PORT: Final = 65535
_LARGEST: Final = 1 << 40
_LONGEST_SECONDS: Final = 86400.0
_LONGEST_WINDOW: Final = 0.1


def address(value: Any) -> Address:
    """A numeric address and a port: ``10.0.0.1:36412``, ``[::1]:36412``."""
    text = value if isinstance(value, str) else ""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    with contextlib.suppress(ValueError):
        found = ipaddress.ip_address(host[1:-1] if bracketed else host)
        whole = colon and port.isascii() and port.isdigit() and int(port) <= _LARGEST_PORT
        if whole and bracketed == isinstance(found, ipaddress.IPv6Address):
            return Address(str(found), int(port))
    raise Invalid("expected an address and a port, such as 10.0.0.1:36412 or [::1]:36412")


def _port(value: Any) -> int:
    if _is_whole(value) and 1 <= value <= _LARGEST_PORT:
        return int(value)
    raise Invalid(f"expected a port, from 1 to {_LARGEST_PORT}")


def _link_address(value: Any) -> str:
    """Where workers connect to."""
    try:
        return str(LinkAddress.parse(value if isinstance(value, str) else ""))
    except ValueError:
        raise Invalid("expected 10.0.0.1:7000 or /run/isoneph/workers.sock") from None


def _at_least(least: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if _is_whole(value) and least <= value <= _LARGEST:
            return int(value)
        raise Invalid(f"expected a whole number of {least} or more")

    return check


def _seconds(value: Any) -> float:
    if _is_number(value) and 0 < value <= _LONGEST_SECONDS:
        return float(value)
    raise Invalid(f"expected a positive number of seconds, {_LONGEST_SECONDS:.0f} at most")


def _window(value: Any) -> float:
    if _is_number(value) and 0 <= value <= _LONGEST_WINDOW:
        return float(value)
    raise Invalid(f"expected a number of seconds, from 0 to {_LONGEST_WINDOW:g}")


def _rate(value: Any) -> float:
    if _is_number(value) and 0 < value <= _LARGEST:
        return float(value)
    raise Invalid("expected a positive number")


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise Invalid("expected true or false")


def _path(value: Any) -> str:
    if isinstance(value, str) and value.startswith("/") and "\0" not in value:
        return value
    raise Invalid("expected an absolute path")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_PLAIN: Final[Mapping[Any, Any]] = {
    Required("port", description="where the backends listen, on their addresses"): _port,
    Optional(
        "connect",
        default="client",
        description="when the backend of a client is connected: with the client, as servers that "
        "speak first need it, or with its first message",
    ): In(["client", "message"], msg="expected client or message"),
    Optional(
        "connect_timeout", default=5, description="seconds until a backend counts as unreachable"
    ): _seconds,
    Optional(
        "health_interval",
        default=5,
        description="seconds between attempts to connect to a backend that is not ready; one that "
        "is ready has an association of its own, whose end shows at once",
    ): _seconds,
}

_WORKERS: Final[Mapping[Any, Any]] = {
    Required(
        "listen",
        description="where workers connect to: 10.0.0.1:7000, or the path of a unix socket",
    ): _link_address,
    Required("secret_file", description="the file with the secret that workers must know"): _path,
    Optional(
        "open",
        default=False,
        description="take every worker that knows the secret until an engine names VMs: for a "
        "relay without an engine",
    ): _flag,
    Optional(
        "lost_after",
        default=0.3,
        description="seconds of silence after which a worker is lost and its work is given to "
        "others",
    ): _seconds,
    Optional(
        "max_losses",
        default=5,
        description="workers that may be lost with a message that they were about to answer; then "
        "it is dropped",
    ): _at_least(SUSPECT + 1),
}

OPTIONS: Final[Mapping[Any, Any]] = {
    Required(
        "listen",
        description="the addresses, with one port in common, that clients connect to",
    ): All(
        [address],
        Length(min=1, msg="expected at least one address"),
    ),
    Exclusive(
        "plain",
        "backends",
        msg="expected one of plain and workers, not both",
        description="backends are SCTP servers that know nothing of isoneph",
    ): _PLAIN,
    Exclusive(
        "workers",
        "backends",
        msg="expected one of plain and workers, not both",
        description="backends are workers that register themselves over the worker link",
    ): _WORKERS,
    Optional(
        "max_clients", default=10000, description="associations of clients at once"
    ): _at_least(1),
    Optional(
        "max_clients_per_address",
        default=1000,
        description="associations of clients at once from one address",
    ): _at_least(1),
    Optional("max_conversations", default=1000000, description="conversations at once"): _at_least(
        1
    ),
    Optional(
        "max_message", default=65536, description="bytes of a message from a client"
    ): _at_least(1),
    Optional(
        "rate", description="messages a second of one client, on average; more are held up"
    ): _rate,
    Optional(
        "burst",
        default=1000,
        description="messages that a client may send at once before its rate holds it up",
    ): _at_least(1),
    Optional(
        "client_queue",
        default=1 << 20,
        description="bytes of one client that wait or are at a worker; beyond them nothing more "
        "is read from it for a while",
    ): _at_least(1),
    Optional(
        "reply_queue",
        default=4 << 20,
        description="bytes that wait for one client beyond what its transport queues; a client "
        "that is slower is disconnected",
    ): _at_least(1),
    Optional(
        "memory",
        default=512 << 20,
        description="bytes that wait for backends in all, shared out evenly to clients when there "
        "are many; new clients are refused beyond them. As many may wait for clients; beyond them "
        "the one with most is disconnected",
    ): _at_least(1),
    Optional(
        "wait",
        default=30,
        description="seconds that a client's messages wait for a backend to be there; then it is "
        "disconnected",
    ): _seconds,
    Optional(
        "busy_poll",
        default=0.0001,
        description="seconds that the relay looks for the next message before it sleeps, while "
        "messages come as close together as that: shorter delays for more time of its core; 0 "
        "for never",
    ): _window,
}
