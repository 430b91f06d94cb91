"""What the service listens on, and whether others can reach it."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

from isoneph.core.errors import ConfigInvalid
from isoneph.core.inherited import inherited_sockets
from isoneph.core.settings import ServiceSettings, Settings

BACKLOG = 1024


def open_sockets(service: ServiceSettings) -> list[socket.socket]:
    """Listen as configured, or take over the sockets that systemd opened for us.

    Raises OSError with a message that names the address.
    """
    if given := inherited_sockets():
        return given
    sock: socket.socket | None = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            service.host, service.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        if sock is not None:
            sock.close()
        reason = (error.strerror or str(error)).lower()
        raise OSError(f"cannot listen on {service.host} port {service.port}: {reason}") from error
    return [sock]


def url_of(sock: socket.socket) -> str:
    """Where clients find a listening socket."""
    name = sock.getsockname()
    if not isinstance(name, tuple):
        return f"unix:{name}"
    host = f"[{name[0]}]" if sock.family == socket.AF_INET6 else name[0]
    return f"http://{host}:{name[1]}"


def check_exposure(settings: Settings, sockets: Sequence[socket.socket]) -> None:
    """Raise ConfigInvalid when other machines could use an application without a token and
    nobody said that they may."""
    exposed = [url_of(sock) for sock in sockets if not _is_local(sock)]
    if settings.service.allow_unauthenticated or not exposed:
        return
    problems = [
        f"application {name} has no tokens, and other machines can reach {exposed[0]}: add a "
        "token, listen on 127.0.0.1, or set allow_unauthenticated"
        for name, application in settings.applications.items()
        if not application.tokens
    ]
    if problems:
        raise ConfigInvalid(problems)


def _is_local(sock: socket.socket) -> bool:
    name = sock.getsockname()
    return not isinstance(name, tuple) or ipaddress.ip_address(name[0]).is_loopback
