"""What HAProxy is told so that its servers are the backends: pure, from wanted and found to steps.

A server of HAProxy in the life that the steps lead it through::

    add server ──> maintenance ──> drain, health down ──> ready ⇄ drain
                        │                                   │      │
    del server <────────┴──────────── maintenance <─────────┴──────┘

HAProxy takes a server that leaves maintenance for healthy until a check has failed. A new one is
therefore set down on the way, where it gets nothing yet: only good checks bring it up.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from isoneph.core.traffic import Backend
from isoneph.plugins.relays.haproxy.runtime import Server

#: What the backend with the largest weight gets; HAProxy takes 0 to 256.
FULL_WEIGHT = 100

_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


class Target(NamedTuple):
    """A backend as HAProxy is to have it."""

    name: str
    host: str
    port: int
    weight: int
    draining: bool

    @property
    def address(self) -> str:
        """As HAProxy writes it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Step(NamedTuple):
    """A command, and what its answer begins with when it is done (nothing: it is empty).

    When it begins with ``pending`` instead, this and what follows has to wait.
    """

    command: str
    answer: str = ""
    pending: str | None = None

    def is_done(self, answer: str) -> bool:
        """Whether HAProxy says with ``answer`` that it has been done."""
        return answer.startswith(self.answer) if self.answer else not answer

    def is_pending(self, answer: str) -> bool:
        """Whether HAProxy says with ``answer`` that it cannot be done yet."""
        return self.pending is not None and answer.startswith(self.pending)


def name_of(application: str, backend_id: str) -> str:
    """What the server of an application's backend is called."""
    return f"{_prefix_of(application)}{backend_id}"


def unfit(backend: Backend) -> str | None:
    """Why a backend cannot be a server, if it cannot."""
    if not _ID.fullmatch(backend.id):
        return "HAProxy cannot call a server by its id"
    if not backend.addresses:
        return "it has no address"
    try:
        text = str(ipaddress.ip_address(backend.addresses[0]))
    except ValueError:
        text = "%"
    if "%" in text:  # HAProxy takes no zone index
        return f"{backend.addresses[0][:64]!r} is no address"
    return None


def targets(backends: Sequence[Backend], port: int, application: str) -> Mapping[str, Target]:
    """The fit ones of ``backends`` by the names of their servers.

    The largest weight becomes ``FULL_WEIGHT``; only a weight of nothing becomes none.
    """
    fit = [backend for backend in backends if unfit(backend) is None]
    largest = max((backend.weight for backend in fit), default=0.0)
    return {
        (name := name_of(application, backend.id)): Target(
            name=name,
            host=str(ipaddress.ip_address(backend.addresses[0])),
            port=port,
            weight=math.ceil(FULL_WEIGHT * backend.weight / largest) if largest > 0 else 0,
            draining=backend.draining,
        )
        for backend in fit
    }


def parameters(check: Mapping[str, Any], limits: Mapping[str, Any]) -> str:
    """What is said of every server beside its address and weight.

    A server that is added at run time takes nothing from ``default-server``, and without the
    two ``pool`` parameters HAProxy would close its connections after each request.
    """
    interval = max(round(check["interval"] * 1000), 1)
    quick = max(interval // 2, 1)
    words = [
        f"check inter {interval} fastinter {quick} downinter {quick}",
        f"rise {check['rise']} fall {check['fall']}",
        "pool-max-conn -1 pool-purge-delay 5s",
    ]
    if "port" in check:
        words.append(f"port {check['port']}")
    if "backend" in limits:
        words.append(f"maxconn {limits['backend']}")
    return " ".join(words)


def config_lines(wanted: Mapping[str, Target], how: str) -> Iterator[str]:
    """The servers that a HAProxy begins with. It takes them for healthy until a check fails;
    those that drain wait in maintenance for the step to drain."""
    for target in wanted.values():
        state = " disabled" if target.draining else ""
        yield f"server {target.name} {target.address} weight {target.weight} {how}{state}"


def steps(
    backend: str,
    wanted: Mapping[str, Target],
    found: Mapping[str, Server],
    how: str,
    application: str,
) -> Iterator[Sequence[Step]]:
    """What has to be done for each server; nothing, when all is as it should be. What others have
    in the backend is left alone.

    New ones come first, so that there is always one to go to.
    """
    for name, target in wanted.items():
        server = found.get(name)
        if server is None:
            yield [*_add(f"{backend}/{name}", target, how)]
        elif (server.host, server.port) != (target.host, target.port):
            # Another address is another server, with its own health.
            path = f"{backend}/{name}"
            yield [*_remove(path, server), *_add(path, target, how)]
        elif todo := [*_change(f"{backend}/{name}", target, server)]:
            yield todo
    for name, server in found.items():
        if name.startswith(_prefix_of(application)) and name not in wanted:
            yield [*_remove(f"{backend}/{name}", server)]


def _prefix_of(application: str) -> str:
    return f"isoneph-{application}:"  # an application's own name has no colon


def _add(path: str, target: Target, how: str) -> Iterator[Step]:
    server = f"{path} {target.address} weight {target.weight} {how}"
    yield Step(f"add server {server}", "New server registered")
    yield from _bring_up(path, target)


def _bring_up(path: str, target: Target) -> Iterator[Step]:
    """From maintenance to where good checks bring it up."""
    yield Step(f"enable health {path}")
    yield Step(f"set server {path} state drain")
    yield Step(f"set server {path} health down")
    if not target.draining:
        yield Step(f"set server {path} state ready")


def _change(path: str, target: Target, server: Server) -> Iterator[Step]:
    if server.weight != target.weight:
        yield Step(f"set server {path} weight {target.weight}")
    if server.maintenance or not server.checked:
        yield from _bring_up(path, target)
    elif server.draining != target.draining:
        yield Step(f"set server {path} state {'drain' if target.draining else 'ready'}")


def _remove(path: str, server: Server) -> Iterator[Step]:
    """In maintenance HAProxy lets go of idle connections; the last sessions need a moment."""
    if not server.maintenance:
        yield Step(f"set server {path} state maint")
    yield Step(f"shutdown sessions server {path}")
    yield Step(f"del server {path}", "Server deleted", pending="Server still has connections")
