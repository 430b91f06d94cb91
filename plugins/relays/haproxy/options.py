"""What the ``haproxy`` relay can be told, and the checks of that."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from voluptuous import Invalid, Optional, Required

#: Those that take servers at run time: of the others HAProxy refuses ``add server``.
ALGORITHMS = ("roundrobin", "leastconn", "random", "source", "uri")
#: Parts of HAProxy's configuration that an operator may add lines to.
SECTIONS = ("global", "defaults", "frontend", "backend")
#: Options that describe the HAProxy that the relay starts; one that runs already has its own.
_OF_OUR_OWN = ("listen", "mode", "balance", "timeouts", "lines", "program")

_MAX_PORT = 65535
#: HAProxy keeps times in milliseconds in 31 bits.
_MAX_SECONDS = 2_000_000.0
_SECTION = re.compile(
    r"(global|defaults|frontend|backend|listen|peers|mailers|userlist|resolvers|program|cache|ring"
    r"|http-errors|fcgi-app|log-forward)(\s|$)"
)
_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_URI = re.compile(r"/[!-~]*")


class Binding(NamedTuple):
    """Where HAProxy listens, and what else its ``bind`` line says."""

    host: str
    port: int
    parameters: str

    @classmethod
    def parse(cls, text: str) -> Binding:
        """What an item of ``listen`` says. Raises voluptuous.Invalid."""
        address, _, parameters = text.strip().partition(" ")
        host, _, port = address.rpartition(":")
        try:
            ip = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
            number = int(port) if port.isascii() and port.isdecimal() else None
            number = _whole(1, _MAX_PORT)(number)
        except (ValueError, Invalid):
            raise Invalid(
                "expected a numeric address and a port, such as 192.0.2.1:80 or [::]:80"
            ) from None
        if (ip.version == 6) != host.startswith("["):  # noqa: PLR2004 (the version of IP)
            raise Invalid("expected brackets around an IPv6 address, and only there: [::]:80")
        return cls(str(ip), number, _line(parameters) if parameters.strip() else "")

    def __str__(self) -> str:
        """The address alone."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


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
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Invalid("expected a number of seconds")
    if not 0.001 <= value <= _MAX_SECONDS:  # noqa: PLR2004 (a millisecond)
        raise Invalid(f"expected from 0.001 to {_MAX_SECONDS:.0f} seconds")
    return float(value)


def _one_of(*words: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        if not isinstance(value, str) or value not in words:
            raise Invalid(f"expected one of {', '.join(words)}")
        return value

    return check


def _line(value: object) -> str:
    """One line for HAProxy's configuration that stays in its section."""
    if not isinstance(value, str) or not value.strip():
        raise Invalid("expected a line of HAProxy's configuration")
    if not value.isprintable():
        raise Invalid("expected one line without control characters")
    if _SECTION.match(value.lstrip()) or value.rstrip().endswith("\\"):
        raise Invalid("expected a line inside a section, not the beginning of another")
    return value.strip()


def _binding(value: object) -> str:
    if not isinstance(value, str):
        raise Invalid("expected an address and a port, such as 192.0.2.1:80 or [::]:80")
    Binding.parse(value)
    return value


def _each(check: Callable[[object], str], wanted: str) -> Callable[[object], list[str]]:
    """A list of texts that pass ``check``, with the place of the one that does not."""

    def check_all(value: object) -> list[str]:
        if not isinstance(value, list) or not value:
            raise Invalid(f"expected a list of {wanted}")
        checked = []
        for number, text in enumerate(value):
            try:
                checked.append(check(text))
            except Invalid as error:
                raise Invalid(error.msg, path=[number]) from None
        return checked

    return check_all


def _uri(value: object) -> str:
    if not isinstance(value, str) or not _URI.fullmatch(value):
        raise Invalid("expected a path that begins with / and has no blanks")
    return value


def _word(value: object) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise Invalid("expected a name of letters, digits and _ . : -")
    return value


def _program(value: object) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise Invalid("expected the name or the path of a program")
    return value


def _path(value: object) -> str:
    if not isinstance(value, str) or not PurePosixPath(value).is_absolute() or "\0" in value:
        raise Invalid("expected an absolute path")
    return value


CHECK: Mapping[Any, Any] = {
    Optional(
        "path",
        description="what is asked for by HTTP; an answer from 200 to 399 is good. By default, "
        "and of a HAProxy that runs already, a TCP connection is enough (or what its own "
        "configuration says)",
    ): _uri,
    Optional(
        "host",
        description="the host that the check's HTTP request names",
    ): _word,
    Optional("port", description="where the check goes, when not to `port`"): _whole(1, _MAX_PORT),
    Optional(
        "interval",
        default=1.0,
        description="seconds between checks; half of that while a backend comes or goes",
    ): _seconds,
    Optional(
        "timeout",
        default=2.0,
        description="seconds after which a check without an answer has failed",
    ): _seconds,
    Optional(
        "rise", default=2, description="good checks in a row that make a backend ready"
    ): _whole(1, 1000),
    Optional("fall", default=3, description="bad checks in a row that make it not ready"): _whole(
        1, 1000
    ),
}

LIMITS: Mapping[Any, Any] = {
    Optional(
        "clients",
        default=4000,
        description="connections of clients at once; further ones wait. HAProxy needs twice as "
        "many file descriptors. One that runs already has its own limit",
    ): _whole(1, 10_000_000),
    Optional(
        "backend",
        description="requests (in TCP mode: connections) at once at a backend; further ones wait "
        "in a queue. By default any number",
    ): _whole(1, 10_000_000),
}

TIMEOUTS: Mapping[Any, Any] = {
    Optional(
        "connect",
        default=2.0,
        description="seconds to connect to a backend, after which another one is tried",
    ): _seconds,
    Optional("queue", default=10.0, description="seconds to wait for a free place"): _seconds,
    Optional(
        "client", default=60.0, description="seconds that a client may be silent in a session"
    ): _seconds,
    Optional(
        "server", default=60.0, description="seconds that a backend may be silent in a session"
    ): _seconds,
    Optional(
        "request", default=10.0, description="seconds in which a client sends the head of a request"
    ): _seconds,
    Optional(
        "keep_alive", default=60.0, description="seconds between the requests of a connection"
    ): _seconds,
    Optional(
        "tunnel",
        default=3600.0,
        description="seconds that both sides may be silent after an upgrade (WebSocket)",
    ): _seconds,
}

OPTIONS: Mapping[Any, Any] = {
    Required("port", description="port of the backends"): _whole(1, _MAX_PORT),
    Optional(
        "listen",
        description="where clients come: addresses with ports, `192.0.2.1:80` or `[::]:80`; after "
        "a blank, further parameters of HAProxy's `bind`: `[::]:443 ssl crt /etc/site.pem`",
    ): _each(_binding, "addresses with ports"),
    Optional(
        "mode", description="`http` (by default): requests are balanced; `tcp`: connections"
    ): _one_of("http", "tcp"),
    Optional(
        "balance",
        description=f"how a backend is chosen: {', '.join(f'`{name}`' for name in ALGORITHMS)}; "
        "by default `roundrobin` in HTTP mode and `leastconn` in TCP mode. All go by weights",
    ): _one_of(*ALGORITHMS),
    Optional("check", default=dict, description="how a backend's health is checked"): CHECK,
    Optional("limits", default=dict, description="how much there may be at once"): LIMITS,
    Optional("timeouts", description="when patience ends"): TIMEOUTS,
    Optional("lines", description="lines to add to HAProxy's configuration"): {
        Optional(section, description=f"lines for its `{section}` section"): _each(
            _line, "lines of HAProxy's configuration"
        )
        for section in SECTIONS
    },
    Optional("program", description="HAProxy's program; by default `haproxy`"): _program,
    Optional(
        "socket",
        description="drive the HAProxy that runs already and has this stats socket (a path, level "
        "admin), instead of starting one",
    ): _path,
    Optional(
        "backend", description="the backend of that HAProxy whose servers the relay looks after"
    ): _word,
}


def problems(options: Mapping[str, Any]) -> Iterator[str]:
    """What does not go together."""
    if "socket" not in options:
        if "listen" not in options:
            yield "listen is missing: where clients come (or socket of a running HAProxy)"
        if "backend" in options:
            yield "backend is for a HAProxy that runs already: it needs socket"
        if "host" in options["check"] and "path" not in options["check"]:
            yield "check.host needs check.path"
        return
    if "backend" not in options:
        yield "backend is missing: the backend of the HAProxy at socket"
    given = [name for name in _OF_OUR_OWN if name in options]
    given += [f"check.{name}" for name in ("path", "host") if name in options["check"]]
    if given:
        yield f"{', '.join(given)}: the configuration of the HAProxy at socket says that"
