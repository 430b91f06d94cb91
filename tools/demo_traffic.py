"""The demonstration's clients: SCTP associations that send numbered messages and check answers.

Each client sends a message, waits for its answer, and sends the next. The answer must have the
count and the checksum of all that this client has sent, so one message that was lost, doubled
or overtaken shows. Once a second a line of JSON with the totals goes to standard output; SIGTERM
ends it when every answer that is due has come.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import time
import zlib
from collections import Counter
from typing import cast

from voluptuous import Schema

from isoneph.core.clock import SystemClock
from isoneph.core.metrics import PrometheusMetrics
from isoneph.core.plugin import Association, Environment, Transport
from isoneph.core.registry import Registry
from isoneph.core.traffic import Address, Ending, Message, Notification

#: Seconds between an answer and the next message.
PAUSE = 0.005
#: Seconds in which the last answers have to come.
PATIENCE = 10.0
#: S1AP's payload protocol identifier, as a base station would use.
PPID = 18


class Client:
    """One association; what its answers show goes into ``totals``."""

    def __init__(self, number: int, totals: Counter[str]) -> None:
        self._number = number
        self._totals = totals
        self._sent = 0
        self._checksum = 0
        self._since = 0.0
        self.association: Association | None = None
        self.waits = False
        self.stopped = False
        #: Whether no answer is due, and none will be.
        self.settled = asyncio.Event()

    def opened(self, association: Association) -> None:
        """Begin."""
        self.association = association
        self._next()

    def received(self, message: Message) -> None:
        """Check an answer."""
        count, checksum, worker = message.data.decode().split(" ")
        right = self.waits and (int(count), int(checksum, 16)) == (self._sent, self._checksum)
        self._totals["answered" if right else "wrong"] += 1
        self._totals[f"by {worker}"] += 1
        slowest = round((time.monotonic() - self._since) * 1000)
        self._totals["slowest_ms"] = max(self._totals["slowest_ms"], slowest)
        self.waits = False
        if self.stopped:
            self.settled.set()
        else:
            asyncio.get_running_loop().call_later(PAUSE, self._next)

    def writable_changed(self, writable: bool) -> None:
        """One message at a time never fills a queue."""

    def notified(self, notification: Notification) -> None:
        """Nothing of this matters here."""

    def closed(self, ending: Ending, reason: str) -> None:
        """A relay that works ends no association."""
        self._totals["disconnected"] += not self.stopped
        self.stopped = True
        self.settled.set()

    def stop(self) -> None:
        """Send nothing more."""
        self.stopped = True
        if not self.waits:
            self.settled.set()

    def _next(self) -> None:
        if self.stopped or self.association is None:
            return
        self._sent += 1
        data = f"client {self._number} message {self._sent}".encode()
        self._checksum = zlib.crc32(data, self._checksum)
        self._since = time.monotonic()
        self.waits = True
        self.association.send(Message(data, stream=1, ppid=PPID))
        self._totals["sent"] += 1


def make_transport(relay_udp_port: int) -> Transport:
    """Userland SCTP, which every machine has, to a relay that listens on this UDP port."""
    plugin = Registry().load("transports", "userland")
    given = {"udp_port": 0, "remote_udp_port": relay_udp_port}
    environment = Environment(
        name="userland",
        clock=SystemClock(),
        logger=logging.getLogger("demo"),
        metrics=PrometheusMetrics().bound(kind="transports", plugin="userland"),
        timeout=10.0,
    )
    return cast("Transport", plugin(Schema(plugin.schema)(given), environment))


async def run(relay: Address, udp_port: int, count: int) -> None:
    """Send until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    totals: Counter[str] = Counter()
    clients = [Client(number, totals) for number in range(1, count + 1)]
    transport = make_transport(udp_port)
    await transport.start()
    for client in clients:
        await transport.connect([relay], client)
    while not stop.is_set():
        print(json.dumps(totals), flush=True)
        try:
            await asyncio.wait_for(stop.wait(), 1.0)
        except TimeoutError:
            continue
    for client in clients:
        client.stop()
    await asyncio.wait(
        [asyncio.create_task(client.settled.wait()) for client in clients], timeout=PATIENCE
    )
    totals["unanswered"] = sum(client.waits for client in clients)
    print(json.dumps(totals), flush=True)
    await transport.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--relay", required=True, metavar="PORT", type=int)
    parser.add_argument("--udp-port", required=True, type=int)
    parser.add_argument("--clients", default=8, type=int)
    arguments = parser.parse_args()
    asyncio.run(run(Address("127.0.0.1", arguments.relay), arguments.udp_port, arguments.clients))
