"""The one SCTP stack of this process.

libusrsctp keeps its state in global variables: the transports of a process share the stack, and
those that are at one address share its socket. It runs without threads: packets go in by
``usrsctp_conninput``, come out by a call, and time passes when it is told so. While the stack
runs it only notes which endpoints have news; they are read afterwards, never inside a call of
the stack.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, deque
from functools import cache
from types import TracebackType
from typing import Any, Final, Protocol

from isoneph.core.errors import TransportUnavailable
from isoneph.core.plugin import Environment
from isoneph.plugins.transports.userland.carrier import (
    ANYWHERE,
    Carrier,
    Peer,
    Place,
    Route,
    open_carrier,
)
from isoneph.plugins.transports.userland.library import load

#: Seconds between two looks at the timers while there are associations, and while there are none.
_TICK: Final = 0.01
_IDLE_TICK: Final = 1.0
#: Unread messages and chunks waiting, an association: more than its windows ever let come about,
#: so that they are what limits it.
_MOST_CHUNKS: Final = 1 << 20
RECEIVE_SIZE: Final = 65536


class Endpoint(Protocol):
    """A socket of the stack, with the number that the stack's calls name it by."""

    number: int
    pending: bool

    def on_news(self) -> None:
        """Read what there is."""

    def on_failure(self) -> None:
        """Reading raised what it must not: end it."""


class Gathering(Protocol):
    """What an association gathers to send."""

    def end_turn(self) -> None:
        """Send it."""

    def on_failure(self) -> None:
        """That raised what it must not: end the association."""


class Stack:
    """The stack, and what all transports share. For the tasks of one event loop at a time.

    As a context manager it brackets calls into the stack that may bring news; they are handled
    at its end.
    """

    def __init__(self) -> None:
        self.ffi, self.lib = load()
        # The calls of the data path, looked up once.
        self.null = self.ffi.NULL
        self.sendv = self.lib.usrsctp_sendv
        self.recvv = self.lib.usrsctp_recvv
        self.setsockopt = self.lib.usrsctp_setsockopt
        self.get_events = self.lib.usrsctp_get_events
        self.peers: dict[int, Peer] = {}
        #: The peers by our verification tags of their associations.
        self.tags: dict[int, Peer] = {}
        self._endpoints: dict[int, Endpoint] = {}
        self._associations = 0
        ffi = self.ffi
        # Buffers for the calls of all endpoints, made once: no message needs one of its own.
        self.data = ffi.new("char[]", RECEIVE_SIZE)
        self.data_view = ffi.buffer(self.data)
        self.rcvinfo = ffi.new("struct sctp_rcvinfo *")
        self.rcvinfo_size = ffi.new("uint32_t *")
        self.info_type = ffi.new("unsigned int *")
        self.flags = ffi.new("int *")
        self.sndinfo = ffi.new("struct sctp_sndinfo *")
        self.sndinfo_view = ffi.buffer(self.sndinfo)
        self.sndinfo_size = ffi.sizeof("struct sctp_sndinfo")
        self.yes, self.no = ffi.new("int *", 1), ffi.new("int *", 0)
        self.int_size = ffi.sizeof("int")
        self._figures = ffi.new("struct sctpstat *")
        self._seen: Counter[str] = Counter()
        self._output = ffi.callback(
            "int(uintptr_t, void *, size_t, uint8_t, uint8_t)", self._on_output
        )
        self._upcall = ffi.callback("void(struct socket *, uintptr_t, int)", self._on_upcall)
        self._numbers = itertools.count(1)
        self._peer_numbers = itertools.count(1)
        self._free: deque[int] = deque()
        self._carriers: dict[Place, Carrier] = {}
        self._users: list[Environment] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news: deque[Endpoint] = deque()
        self._gathering: deque[Gathering] = deque()
        self._inside = self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._ticked = 0.0
        self._reported = 0.0
        self._initialise()

    def _initialise(self) -> None:
        lib = self.lib
        lib.usrsctp_init_nothreads(0, self._output, self.ffi.NULL)
        lib.usrsctp_sysctl_set_sctp_max_chunks_on_queue(_MOST_CHUNKS)
        # What needs more than one address, or a network that marks congestion, is left out of
        # the handshake; so is what nobody here uses.
        lib.usrsctp_sysctl_set_sctp_asconf_enable(0)
        lib.usrsctp_sysctl_set_sctp_auth_enable(0)
        lib.usrsctp_sysctl_set_sctp_ecn_enable(0)
        lib.usrsctp_sysctl_set_sctp_reconfig_enable(0)

    def next_number(self) -> int:
        """A number for an endpoint; never used twice."""
        return next(self._numbers)

    def add_peer(self, carrier: Carrier, route: Route) -> Peer:
        """A peer with a number that the stack takes for an address of ours as well, as it must.
        Numbers are used again, the longest unused first: the stack forgets none."""
        if self._free:
            number = self._free.popleft()
        else:
            number = next(self._peer_numbers)
            self.lib.usrsctp_register_address(number)
        peer = self.peers[number] = Peer(number, carrier, route)
        return peer

    def remove_peer(self, peer: Peer) -> None:
        """Nobody needs the peer any more."""
        if self.peers.get(peer.id) is peer:
            del self.peers[peer.id]
            self._free.append(peer.id)

    # Coming and going.

    def attach(self, environment: Environment) -> None:
        """A transport begins to use the stack. Raises TransportUnavailable when another event
        loop of this process uses it."""
        loop = asyncio.get_running_loop()
        if self._users and self._loop is not loop:
            raise TransportUnavailable(
                "userland SCTP is in use by another event loop of this process"
            )
        if not self._users:
            self._loop = loop
            self._ticked = self._reported = loop.time()
            self._timer = loop.call_later(_IDLE_TICK, self._tick)
        self._users.append(environment)

    def detach(self, environment: Environment) -> None:
        """A transport has ended its associations and uses the stack no more."""
        if len(self._users) == 1:
            self._report()
        self._users.remove(environment)
        if self._users or self._loop is None:
            return
        for carrier in self._carriers.values():
            carrier.close(self._loop)
        self._carriers.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._news.clear()
        self._gathering.clear()
        self._scheduled = False
        self._loop = None

    def carrier(self, place: Place) -> Carrier:
        """The carrier at ``place``, or one bound to all addresses; opened when there is none.
        Raises OSError and TransportUnavailable as :func:`open_carrier`."""
        everywhere = place._replace(host=ANYWHERE[":" in place.host])
        found = self._carriers.get(place) or self._carriers.get(everywhere)
        if found is None:
            if self._loop is None:
                raise TransportUnavailable("the transport is not started")
            found = self._carriers[place] = open_carrier(self, place)
            found.open(self._loop)
        return found

    def add(self, endpoint: Endpoint, so: Any) -> None:
        """Have the endpoint told of news."""
        self._endpoints[endpoint.number] = endpoint
        self.lib.usrsctp_set_upcall(so, self._upcall, endpoint.number)

    def remove(self, endpoint: Endpoint) -> None:
        """The endpoint's socket is closed."""
        self._endpoints.pop(endpoint.number, None)

    def add_association(self, endpoint: Endpoint, so: Any) -> None:
        """The same for an association: as long as there is one, time matters."""
        self.add(endpoint, so)
        self._associations += 1
        if self._associations == 1 and self._loop is not None and self._timer is not None:
            self._timer.cancel()
            self._ticked = self._loop.time()
            self._timer = self._loop.call_later(_TICK, self._tick)

    def remove_association(self, endpoint: Endpoint) -> None:
        """The association is over."""
        self.remove(endpoint)
        self._associations -= 1

    # The stack's calls.

    def _on_output(self, number: int, packet: Any, length: int, _tos: int, _df: int) -> int:
        peer = self.peers.get(number)
        if peer is not None:
            peer.carrier.send(packet, length, peer)
        return 0

    def _on_upcall(self, _so: Any, number: int, _flags: int) -> None:
        endpoint = self._endpoints.get(number)
        if endpoint is not None:
            self.note(endpoint)

    # News.

    def note(self, endpoint: Endpoint) -> None:
        """The endpoint is to be read, soon."""
        if not endpoint.pending:
            endpoint.pending = True
            self._news.append(endpoint)
            if not self._inside:
                self._drain_soon()

    def gather(self, outgoing: Gathering) -> None:
        """Have it told of the end of the turn: when all that has come is read, or else when the
        event loop's turn is over."""
        self._gathering.append(outgoing)
        if not self._inside:
            self._drain_soon()

    def _drain_soon(self) -> None:
        if not self._scheduled and self._loop is not None:
            self._scheduled = True
            self._loop.call_soon(self._drain)

    def __enter__(self) -> None:
        self._inside = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._drain()

    def _drain(self) -> None:
        """Read the endpoints that have news, and send what was gathered; those that get more
        meanwhile wait their turn."""
        self._inside, self._scheduled = True, False
        news, gathering = self._news, self._gathering
        try:
            for _ in range(len(news)):
                endpoint = news.popleft()
                endpoint.pending = False
                try:
                    endpoint.on_news()
                except Exception:  # noqa: BLE001 (one user's mistake must not stop the others)
                    self._failed(endpoint)
            for _ in range(len(gathering)):
                outgoing = gathering.popleft()
                try:
                    outgoing.end_turn()
                except Exception:  # noqa: BLE001 (as above)
                    self._failed(outgoing)
        finally:
            self._inside = False
            if news or gathering:
                self._drain_soon()

    def _failed(self, user: Endpoint | Gathering) -> None:
        self._users[0].logger.exception("a handler of an association failed")
        user.on_failure()

    # Time.

    def _tick(self) -> None:
        loop = self._loop
        if loop is None:
            return
        now = loop.time()
        elapsed = int((now - self._ticked) * 1000)
        self._ticked += elapsed / 1000
        with self:
            self.lib.usrsctp_handle_timers(elapsed)
        if self._loop is not loop:  # who was told of something ended it all
            return
        if now - self._reported >= _IDLE_TICK:
            self._reported = now
            self._report()
        self._timer = loop.call_later(_TICK if self._associations else _IDLE_TICK, self._tick)

    def _report(self) -> None:
        """Count what was ignored since the last time."""
        self.lib.usrsctp_get_stat(self._figures)
        seen = Counter(
            checksum=self._figures.checksumerrors, no_association=self._figures.outoftheblue
        )
        ignored, self._seen = seen - self._seen, seen
        for carrier in self._carriers.values():
            ignored += carrier.ignored
            carrier.ignored.clear()
        for reason, count in ignored.items():
            self._users[0].metrics.count("ignored_packets", count, reason=reason)


@cache
def the_stack() -> Stack:
    """The stack of this process. Raises TransportUnavailable when there is no library."""
    return Stack()
