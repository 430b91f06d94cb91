"""The configuration of the HAProxy that the relay starts, and what HAProxy says of it.

Each line knows the option it comes from, so that a complaint of ``haproxy -c`` is told with the
place in isoneph's own configuration. The words are those of HAProxy's Configuration Manual.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from voluptuous import Schema

from isoneph.plugins.relays.haproxy.options import TIMEOUTS, Binding

FRONTEND = "clients"
BACKEND = "vms"

#: The methods that a proxy may repeat by itself: RFC 9110, section 9.2.2.
_IDEMPOTENT = "GET HEAD OPTIONS TRACE PUT DELETE"
_TIMEOUTS = {
    "connect": "connect",
    "queue": "queue",
    "client": "client",
    "server": "server",
    "request": "http-request",
    "keep_alive": "http-keep-alive",
    "tunnel": "tunnel",
}
_LONGEST = 200
_ALERT = re.compile(
    r"\[ALERT\]\s+\(\d+\) : (?:config : )?(?:parsing )?(?:\[[^\]]*?:(\d+)\] ?:? ?)?(.*)"
)


class Line(NamedTuple):
    """A line of the configuration, and the option that it comes from (a path, or nothing)."""

    text: str
    place: str = ""


class Configuration:
    """What HAProxy is started with; ``descriptors`` are of the sockets that clients come to."""

    def __init__(
        self,
        options: Mapping[str, Any],
        *,
        socket: Path,
        descriptors: Sequence[int],
        servers: Iterable[str] = (),
    ) -> None:
        self._options = options
        self._lines = [
            *self._section("global", self._global(socket)),
            *self._section("defaults", self._defaults()),
            *self._section("frontend", self._frontend(descriptors)),
            *self._section("backend", self._backend(servers)),
        ]

    @property
    def text(self) -> str:
        """The file."""
        return "".join(f"{line.text}\n" for line in self._lines)

    def complaints(self, output: str) -> Iterator[str]:
        """What HAProxy, asked to check the file, has printed of errors: a sentence each."""
        for number, text in _ALERT.findall(output):
            place = self._place(int(number)) if number else ""
            if place or not text.startswith(("Error(s) found", "Fatal errors found")):
                shortened = text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
                yield f"{place}: {shortened}" if place else shortened

    def _place(self, number: int) -> str:
        return self._lines[number - 1].place if 0 < number <= len(self._lines) else ""

    def _section(self, name: str, lines: Iterable[Line]) -> Iterator[Line]:
        title = {"frontend": f"frontend {FRONTEND}", "backend": f"backend {BACKEND}"}
        yield Line(title.get(name, name))
        for line in lines:
            yield Line(f"  {line.text}", line.place)
        for number, text in enumerate(self._options.get("lines", {}).get(name, ())):
            yield Line(f"  {text}", f"lines.{name}[{number}]")

    def _global(self, socket: Path) -> Iterator[Line]:
        yield Line(f"stats socket {socket} mode 600 level admin")
        yield Line(f"maxconn {self._options['limits']['clients']}", "limits.clients")

    def _defaults(self) -> Iterator[Line]:
        yield Line(f"mode {mode_of(self._options)}")
        timeouts = Schema(TIMEOUTS)(self._options.get("timeouts", {}))
        for option, name in _TIMEOUTS.items():
            yield Line(f"timeout {name} {_milliseconds(timeouts[option])}", f"timeouts.{option}")
        check = self._options["check"]["timeout"]
        yield Line(f"timeout check {_milliseconds(check)}", "check.timeout")
        # A session that does not reach its backend goes to another one at once.
        yield Line("retries 3")
        yield Line("option redispatch 1")

    def _frontend(self, descriptors: Sequence[int]) -> Iterator[Line]:
        addresses = zip(self._options["listen"], descriptors, strict=True)
        for number, (text, descriptor) in enumerate(addresses):
            bind = f"bind fd@{descriptor} {Binding.parse(text).parameters}"
            yield Line(bind.rstrip(), f"listen[{number}]")
        # Bytes of a session are counted while it lasts, not when it is over, which may be in days.
        yield Line("option contstats")
        yield Line(f"default_backend {BACKEND}")

    def _backend(self, servers: Iterable[str]) -> Iterator[Line]:
        balance = balance_of(self._options)
        yield Line(f"balance {balance}", "balance")
        if balance in {"source", "uri"}:
            yield Line("hash-type consistent")  # servers can be added at run time to no other
        if mode_of(self._options) == "http":
            yield Line("retry-on conn-failure empty-response")
            yield Line(f"http-request disable-l7-retry unless {{ method {_IDEMPOTENT} }}")
        yield from self._check()
        for server in servers:
            yield Line(server)

    def _check(self) -> Iterator[Line]:
        check = self._options["check"]
        if "path" in check:
            host = f" hdr Host {check['host']}" if "host" in check else ""
            version = " ver HTTP/1.1" if host else ""
            yield Line("option httpchk")
            request = f"http-check send meth GET uri {_quoted(check['path'])}{version}{host}"
            yield Line(request, "check.path")
            yield Line("http-check expect status 200-399")


def mode_of(options: Mapping[str, Any]) -> str:
    """The mode, where none is given too."""
    return str(options.get("mode", "http"))


def balance_of(options: Mapping[str, Any]) -> str:
    """How a backend is chosen, where that is not given too."""
    default = "leastconn" if mode_of(options) == "tcp" else "roundrobin"
    return str(options.get("balance", default))


def _milliseconds(seconds: float) -> str:
    return f"{max(round(seconds * 1000), 1)}ms"


def _quoted(word: str) -> str:
    """In strong quotes, in which nothing but their own sign has a meaning."""
    return "'" + word.replace("'", "'\\''") + "'"
