"""A plain SCTP server that sends back what comes: ``python sctp_server.py HOST UDP_PORT PORT``.

``listening`` is printed when it listens. Further words change it: ``--greeting TEXT`` is sent to
each client first, ``--name`` puts the server's address before each answer.
"""

from __future__ import annotations

import argparse
import asyncio

from isoneph.core.clock import SystemClock
from isoneph.core.plugin import Association
from isoneph.core.testing import build_plugin, make_environment
from isoneph.core.traffic import Address, Ending, Message, Notification
from isoneph.plugins.transports.userland import UserlandTransport


class Echo:
    """One client; what it does not take is not read from it meanwhile."""

    def __init__(self, prefix: bytes, greeting: bytes) -> None:
        self._prefix = prefix
        self._greeting = greeting

    def opened(self, association: Association) -> None:
        """Greet it."""
        self._association = association
        if self._greeting:
            association.send(Message(self._greeting))

    def received(self, message: Message) -> None:
        """Send it back."""
        if self._prefix:
            message = message._replace(data=self._prefix + message.data)
        self._association.send(message)

    def writable_changed(self, writable: bool) -> None:
        """Hold it up while it does not read."""
        if writable:
            self._association.resume_reading()
        else:
            self._association.pause_reading()

    def notified(self, notification: Notification) -> None:
        """Nothing to do."""

    def closed(self, ending: Ending, reason: str) -> None:
        """Nothing to do."""


async def main() -> None:
    parser = argparse.ArgumentParser(description="an SCTP server that sends back what comes")
    parser.add_argument("host")
    parser.add_argument("udp_port", type=int)
    parser.add_argument("port", type=int)
    parser.add_argument("--greeting", default="")
    parser.add_argument("--name", action="store_true")
    arguments = parser.parse_args()
    transport = build_plugin(
        UserlandTransport,
        {"udp_port": arguments.udp_port},
        environment=make_environment("server", clock=SystemClock()),
    )
    await transport.start()
    prefix = arguments.host.encode() + b" " if arguments.name else b""
    await transport.listen(
        [Address(arguments.host, arguments.port)],
        lambda _association: Echo(prefix, arguments.greeting.encode()),
    )
    print("listening", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
