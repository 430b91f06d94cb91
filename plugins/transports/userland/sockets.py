"""The sockets of the stack, made with our options."""

from __future__ import annotations

import os
import random
import socket
from typing import Any, Final

from isoneph.plugins.transports.userland import library as lib_
from isoneph.plugins.transports.userland.notifications import Kind
from isoneph.plugins.transports.userland.options import Settings
from isoneph.plugins.transports.userland.stack import Stack

_BACKLOG: Final = 1024
_FIRST_PORT, _LAST_PORT = 49152, 65535  # RFC 6335, section 6: the dynamic ones
_TRIES: Final = 256
_COOKIE_LIFE: Final = 60000
_LONGEST_REASON: Final = 200


def open_socket(stack: Stack, settings: Settings, port: int) -> tuple[Any, int]:
    """A socket that is bound to ``port``, or to a free one for 0, and the port. Raises OSError,
    and OverflowError for a port that is none."""
    lib, ffi = stack.lib, stack.ffi
    null = ffi.NULL
    so = lib.usrsctp_socket(
        lib_.AF_CONN, socket.SOCK_STREAM, lib_.IPPROTO_SCTP, null, null, 0, null
    )
    if so == null:
        raise _error(ffi)
    try:
        lib.usrsctp_set_non_blocking(so, 1)
        _configure(stack, so, settings)
        return so, _bind(stack, so, port)
    except (OSError, OverflowError):
        lib.usrsctp_close(so)
        raise


def open_listener(stack: Stack, settings: Settings, port: int) -> tuple[Any, int]:
    """The same, and it listens."""
    so, port = open_socket(stack, settings, port)
    try:
        listen(stack, so, accepting=True)
    except OSError:
        close(stack, so)
        raise
    return so, port


def listen(stack: Stack, so: Any, *, accepting: bool) -> None:
    """Let INIT chunks be answered, or refused. Raises OSError."""
    if stack.lib.usrsctp_listen(so, _BACKLOG if accepting else 0) < 0:
        raise _error(stack.ffi)


def accept(stack: Stack, so: Any) -> tuple[Any, int, int] | None:
    """The next association that has come up: its socket, its peer's number and the peer's port;
    None when there is none."""
    name = _name(stack, 0, 0)
    size = stack.ffi.new("uint32_t *", stack.ffi.sizeof(name[0]))
    accepted = stack.lib.usrsctp_accept(so, name, size)
    if accepted == stack.null:
        return None
    return accepted, int(name.sconn_addr), socket.ntohs(name.sconn_port)


def connect(stack: Stack, so: Any, peer: int, port: int) -> None:
    """Begin to set an association up to ``port`` of the peer of that number. Raises OSError."""
    name = _name(stack, peer, port)
    if stack.lib.usrsctp_connect(so, name, stack.ffi.sizeof(name[0])) < 0:
        error = _error(stack.ffi)
        if not isinstance(error, BlockingIOError):
            raise error


def send_abort(stack: Stack, so: Any, reason: str) -> None:
    """Break an association off with the reason (RFC 9260, section 3.3.10.12)."""
    info = stack.sndinfo
    info.snd_sid, info.snd_flags, info.snd_ppid = 0, lib_.SEND_ABORT, 0
    text = reason.encode("ascii", "replace")[:_LONGEST_REASON]
    null = stack.null
    stack.sendv(so, text, len(text), null, 0, info, stack.sndinfo_size, lib_.SENDV_SNDINFO, 0)


def close(stack: Stack, so: Any) -> None:
    """Close a socket; an association that it still has is aborted."""
    linger = stack.ffi.new("struct linger *", {"l_onoff": 1, "l_linger": 0})
    _set(stack, so, socket.SOL_SOCKET, socket.SO_LINGER, linger)
    stack.lib.usrsctp_set_upcall(so, stack.null, 0)
    stack.lib.usrsctp_close(so)


def status(stack: Stack, so: Any) -> Any:
    """The stack's ``struct sctp_status`` of an association; zeros when it has none."""
    return _get(stack, so, lib_.SCTP_STATUS, "struct sctp_status *")


def local_tag(stack: Stack, so: Any) -> int:
    """The verification tag that the peer's packets carry; 0 when there is no association."""
    tags = _get(stack, so, lib_.SCTP_GET_NONCE_VALUES, "struct sctp_nonces *")
    return int(tags.local_tag)


def _configure(stack: Stack, so: Any, settings: Settings) -> None:
    new = stack.ffi.new

    def milliseconds(seconds: float) -> int:
        return int(seconds * 1000)

    buffers = {
        socket.SO_SNDBUF: settings.send_queue,
        socket.SO_RCVBUF: settings.receive_buffer,
    }
    for name, size in buffers.items():
        _set(stack, so, socket.SOL_SOCKET, name, new("int *", size))
    streams, longest = settings.streams, milliseconds(settings.rto_max)
    options = {
        lib_.SCTP_NODELAY: new("int *", 1),
        lib_.SCTP_RECVRCVINFO: new("int *", 1),
        lib_.SCTP_INITMSG: new(
            "struct sctp_initmsg *",
            (streams, streams, settings.init_attempts, min(longest, 65535)),
        ),
        lib_.SCTP_RTOINFO: new(
            "struct sctp_rtoinfo *",
            (0, milliseconds(settings.rto_initial), longest, milliseconds(settings.rto_min)),
        ),
        lib_.SCTP_ASSOCINFO: new(
            "struct sctp_assocparams *",
            {
                "sasoc_asocmaxrxt": settings.max_retransmissions,
                "sasoc_cookie_life": _COOKIE_LIFE,
            },
        ),
        lib_.SCTP_PEER_ADDR_PARAMS: new(
            "struct sctp_paddrparams *",
            {
                "spp_hbinterval": milliseconds(settings.heartbeat),
                "spp_pathmaxrxt": settings.max_retransmissions,
                "spp_pathmtu": settings.mtu,
                "spp_flags": lib_.SPP_PMTUD_DISABLE
                | (lib_.SPP_HB_ENABLE if settings.heartbeat else lib_.SPP_HB_DISABLE),
            },
        ),
    }
    for name, value in options.items():
        _set(stack, so, lib_.IPPROTO_SCTP, name, value)
    for kind in Kind:
        event = new("struct sctp_event *", {"se_type": kind, "se_on": 1})
        _set(stack, so, lib_.IPPROTO_SCTP, lib_.SCTP_EVENT, event)


def _bind(stack: Stack, so: Any, port: int) -> int:
    """Bind the socket; the stack would not tell which port it gave out for 0."""
    tries = [port] if port else random.sample(range(_FIRST_PORT, _LAST_PORT + 1), _TRIES)
    for number in tries:
        name = _name(stack, 0, number)
        if stack.lib.usrsctp_bind(so, name, stack.ffi.sizeof(name[0])) == 0:
            return number
    raise _error(stack.ffi)


def _name(stack: Stack, peer: int, port: int) -> Any:
    return stack.ffi.new("struct sockaddr_conn *", (lib_.AF_CONN, socket.htons(port), peer))


def _set(stack: Stack, so: Any, level: int, name: int, value: Any) -> None:
    size = stack.ffi.sizeof(stack.ffi.typeof(value).item)
    if stack.lib.usrsctp_setsockopt(so, level, name, value, size) < 0:
        raise _error(stack.ffi)


def _get(stack: Stack, so: Any, name: int, kind: str) -> Any:
    value = stack.ffi.new(kind)
    size = stack.ffi.new("uint32_t *", stack.ffi.sizeof(value[0]))
    stack.lib.usrsctp_getsockopt(so, lib_.IPPROTO_SCTP, name, value, size)
    return value


def _error(ffi: Any) -> OSError:
    return OSError(ffi.errno, os.strerror(ffi.errno))
