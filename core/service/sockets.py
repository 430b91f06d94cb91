"""What the service listens on, and whether others can reach it."""

from __future__ import annotations

import errno
import ipaddress
import socket
import time
from collections.abc import Sequence

from isoneph.core.errors import ConfigInvalid
from isoneph.core.inherited import inherited_sockets
from isoneph.core.settings import ServiceSettings, Settings

BACKLOG = 1024
#: Seconds that an address which is in use is waited for: what a killed master has left behind
#: lets go of it as soon as it notices.
TAKEN_PATIENCE = 2.0
_TAKEN_PAUSE = 0.1


def open_sockets(service: ServiceSettings, patience: float = TAKEN_PATIENCE) -> list[socket.socket]:
    """Listen as configured, or take over the sockets that systemd opened for us.

    An address in use is tried again for ``patience`` seconds. Raises OSError with a message that
    names the address.
    """
    if given := inherited_sockets():
        return given
    deadline = time.monotonic() + patience
    while True:
        try:
            return [_listen(service)]
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() >= deadline:
                reason = (error.strerror or str(error)).lower()
                address = f"{service.host} port {service.port}"
                raise OSError(f"cannot listen on {address}: {reason}") from error
        time.sleep(_TAKEN_PAUSE)


def _listen(service: ServiceSettings) -> socket.socket:
    sock: socket.socket | None = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            service.host, service.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError:
        if sock is not None:
            sock.close()
        raise
    return sock


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
