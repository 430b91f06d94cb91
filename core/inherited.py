"""The sockets that a service manager opened for this process, by systemd's protocol
(sd_listen_fds(3)): they outlive the process, and what has come to them waits for the next."""

from __future__ import annotations

import socket

from gunicorn import systemd


def inherited_sockets() -> list[socket.socket]:
    """All of them; none when this process was started otherwise. For one call: what they are told
    by is taken out of the environment, so that child processes do not take them for theirs."""
    first = systemd.SD_LISTEN_FDS_START
    return [socket.socket(fileno=fd) for fd in range(first, first + systemd.listen_fds())]
