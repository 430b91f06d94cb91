"""How an association on a socket begins: with the kernel telling that it is up."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from typing import Final

from isoneph.plugins.transports.kernel import abi, notifications

#: Bytes that a first notification is shorter than: an ABORT may give reasons in it.
_READ_SIZE: Final = 65536


def take_up(sock: socket.socket) -> tuple[int, int]:
    """Read what comes first: that the association is up, even if it is over again. It does not
    come where the association is older than our settings of the socket that it was accepted
    from. Gives back how many streams come in and go out. Raises OSError when the association
    could not be set up."""
    if not _announces(sock):
        status = abi.read_status(sock)
        return status.streams_in, status.streams_out
    data, _ancillary, flags, _source = sock.recvmsg(_READ_SIZE)
    event = None
    if flags & abi.MSG_NOTIFICATION:
        with suppress(notifications.Unreadable):
            event = notifications.parse(data)
    if (
        not isinstance(event, notifications.AssociationChange)
        or event.state != notifications.AssociationState.UP
    ):
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or errno.ECONNREFUSED
        raise OSError(error, os.strerror(error))
    return event.streams_in, event.streams_out


def stillborn(sock: socket.socket) -> bool:
    """Whether an association that was taken up is over already, without a message."""
    if not _announces(sock):
        return False
    try:
        abi.read_status(sock)
    except OSError:
        return True
    return False


def _announces(sock: socket.socket) -> bool:
    """Whether a notification comes next, or the end."""
    try:
        data, _ancillary, flags, _source = sock.recvmsg(1, 0, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    return not data or bool(flags & abi.MSG_NOTIFICATION)
