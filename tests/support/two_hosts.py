"""Two hosts with two cables between them, and associations from one to the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from hosts import Host
from isoneph.core.plugin import Transport
from isoneph.core.testing.associations import Door, RecordingHandler
from isoneph.core.traffic import Address

#: So that a path or a peer is given up after some tenths of a second.
QUICK: Final = {
    "rto_initial": 0.1,
    "rto_min": 0.1,
    "rto_max": 0.2,
    "heartbeat": 0.1,
    "max_retransmissions": 6,
    "path_max_retransmissions": 2,
}
#: Seconds in which all that is waited for happens.
SOON: Final = 20.0


class Ends(NamedTuple):
    """The two ends of one association."""

    server: RecordingHandler
    client: RecordingHandler


class TwoHosts(NamedTuple):
    """The left one has 10.0.1.1 at ``right1`` and 10.0.2.1 at ``right2``; the right one the same
    addresses with a 2 at the end, at ``left1`` and ``left2``."""

    left: Host
    right: Host

    async def join(
        self, transport: Transport, door: Door, cables: tuple[int, ...] = (1,), port: int = 0
    ) -> Ends:
        """A new association from left to right, over these cables."""
        before = len(door.handlers)
        with self.right.here():
            at = [Address(f"10.0.{cable}.2", 0) for cable in cables]
            listener = await transport.listen(at, door)
        client = await self.call(transport, listener.addresses, port)
        await door.until(before + 1, SOON)
        return Ends(door.handlers[before], client)

    async def call(
        self, transport: Transport, remote: Sequence[Address], port: int = 0
    ) -> RecordingHandler:
        """Connect from left to a listener on the right, over the cables that it listens at."""
        client = RecordingHandler()
        local = [Address(f"{address.host[:-1]}1", port) for address in remote]
        with self.left.here():
            await transport.connect(remote, client, local)
        return client
