"""A client that numbers what it sends and checks what comes back, as a process of its own.

    python relay_numbered.py keyed UDP_PORT SCTP_PORT --messages 100000
    python relay_numbered.py echo UDP_PORT SCTP_PORT --seconds 60 --churn

``keyed``: the answers come from counting workers behind the keyed router. Each has the number of
the key's messages that were counted before it, and the checksum over them all, so that a message
which is lost, doubled or out of turn makes every later answer of its key wrong. ``echo``: what
comes back is what was sent, in the order of each stream.

Each second, and in the end, it prints a line of JSON: messages ``answered``; ``wrong``, the first
answers that were not the one that was due; ``slowest``, in seconds; with ``--churn`` how many
further associations came and ``went``; and whether it is ``done``.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import time
import zlib
from collections import deque
from collections.abc import Sequence
from typing import Final

from isoneph.core.plugin import Transport
from isoneph.core.traffic import Address, Ending, Message
from relay_ends import HOST, PATIENCE, PPID, SIZE, End, make_transport, run

STREAMS: Final = 16
#: Bytes in front of a message that say which conversation it belongs to.
KEY_BYTES: Final = 8
#: Seconds to wait, in the end, for an answer too many.
LINGER: Final = 1.0
_MOST_WRONG: Final = 10
#: Messages of each association that comes and goes, and seconds between two of them.
_VISIT, _PAUSE = 20, 0.05
_ASSOCIATIONS, _AT_ONCE = 4, 2


class Key:
    """The messages of one key: what was sent, and which answers are due, since when."""

    def __init__(self, name: bytes, *, counted: bool) -> None:
        self.name = name
        self.stream = zlib.crc32(name) % STREAMS
        self.sent = 0
        self.due: deque[tuple[bytes, float]] = deque()
        self._counted = counted
        self._checksum = 0

    def next(self) -> Message:
        """The next message."""
        self.sent += 1
        data = (b"%012d " % self.sent).ljust(SIZE - KEY_BYTES, b".")
        if self._counted:
            self._checksum = zlib.crc32(data, self._checksum)
            answer = b"%d %08x " % (self.sent, self._checksum)
        else:
            answer = data
        self.due.append((answer, time.monotonic()))
        return Message(self.name + data, self.stream, PPID)


class Tally:
    """What all associations of this process have seen; ``wanted`` bounds what they send, None
    until :meth:`stop`."""

    def __init__(self, wanted: int | None) -> None:
        self.wanted = wanted
        self.sent = self.answered = self.went = 0
        self.slowest = 0.0
        self.wrong: list[str] = []
        self.finished = asyncio.Event()

    def take(self) -> bool:
        """Whether one more message is to be sent."""
        if self.wrong or (self.wanted is not None and self.sent >= self.wanted):
            return False
        self.sent += 1
        return True

    def stop(self) -> None:
        """Nothing more is to be sent."""
        self.wanted = self.sent
        self._look()

    def complain(self, text: str) -> None:
        """Something is not as it should be."""
        if len(self.wrong) < _MOST_WRONG:
            self.wrong.append(text)
        self.finished.set()

    def count(self, since: float) -> None:
        """An answer has come."""
        self.answered += 1
        self.slowest = max(self.slowest, time.monotonic() - since)
        self._look()

    def _look(self) -> None:
        if self.answered == self.wanted:
            self.finished.set()

    def tell(self, *, done: bool) -> None:
        """Print it."""
        figures = {
            "answered": self.answered,
            "wrong": self.wrong,
            "slowest": self.slowest,
            "went": self.went,
            "done": done,
        }
        print(json.dumps(figures), flush=True)


class Numbered(End):
    """An association whose keys have some messages on their way each."""

    def __init__(self, tally: Tally, keys: Sequence[Key]) -> None:
        self._tally = tally
        self._keys = {key.name: key for key in keys}
        self.over = asyncio.Event()
        self._leaving = False

    def begin(self) -> None:
        """Send the first ones."""
        for key in itertools.chain.from_iterable([self._keys.values()] * _AT_ONCE):
            self._send(key)

    def leave(self) -> None:
        """Close it, in order."""
        self._leaving = True
        self.association.close()

    def received(self, message: Message) -> None:
        key = self._keys.get(message.data[:KEY_BYTES])
        if key is None or not key.due:
            self._tally.complain(f"an answer to nothing: {message}")
            return
        expected, since = key.due.popleft()
        good = message.data.startswith(expected, KEY_BYTES)
        if not good or message.stream != key.stream or message.ppid != PPID:
            self._tally.complain(f"{message}, expected {expected!r} on stream {key.stream}")
            return
        self._tally.count(since)
        self._send(key)

    def closed(self, ending: Ending, reason: str) -> None:
        self.over.set()
        if not self._leaving:
            self._tally.complain(f"an association has ended: {ending}, {reason}")

    def _send(self, key: Key) -> None:
        if self._tally.take():
            self.association.send(key.next())


class Client:
    """The process."""

    def __init__(self, arguments: argparse.Namespace, transport: Transport) -> None:
        self._arguments = arguments
        self._transport = transport
        self._numbers = itertools.count(1)

    async def run(self) -> None:
        arguments = self._arguments
        tally = Tally(arguments.messages)
        standing = [await self._connect(tally, arguments.keys) for _ in range(_ASSOCIATIONS)]
        tasks = [asyncio.create_task(self._tell(tally))]
        if arguments.churn:
            tasks.append(asyncio.create_task(self._visit(tally)))
        if arguments.seconds:
            asyncio.get_running_loop().call_later(arguments.seconds, tally.stop)
        for end in standing:
            end.begin()
        await tally.finished.wait()
        await asyncio.sleep(LINGER)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        tally.tell(done=True)

    async def _tell(self, tally: Tally) -> None:
        while True:
            await asyncio.sleep(1)
            tally.tell(done=False)

    async def _visit(self, tally: Tally) -> None:
        """Associations that come, send something, and go; each counts for itself."""
        while not tally.finished.is_set():
            own = Tally(_VISIT)
            try:
                end = await self._connect(own, 2)
                end.begin()
                async with asyncio.timeout(PATIENCE):
                    await own.finished.wait()
                    end.leave()
                    await end.over.wait()
            except Exception as error:  # noqa: BLE001 (whatever it is, it ends the measurement)
                own.complain(f"an association that came and went: {error!r}")
            for text in own.wrong:
                tally.complain(text)
            tally.went += 1
            await asyncio.sleep(_PAUSE)

    async def _connect(self, tally: Tally, keys: int) -> Numbered:
        counted = self._arguments.kind == "keyed"
        names = (b"%08d" % next(self._numbers) for _ in range(keys))
        end = Numbered(tally, [Key(name, counted=counted) for name in names])
        await self._transport.connect([Address(HOST, self._arguments.port)], end)
        return end


async def main(arguments: argparse.Namespace) -> None:
    transport = make_transport("userland", udp_port=0, remote_udp_port=arguments.udp_port)
    await transport.start()
    await Client(arguments, transport).run()
    await transport.close()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="a client that checks what comes back")
    parser.add_argument("kind", choices=["keyed", "echo"])
    parser.add_argument("udp_port", type=int)
    parser.add_argument("port", type=int)
    parser.add_argument("--keys", type=int, default=64, help="of each association")
    parser.add_argument("--churn", action="store_true")
    ends = parser.add_mutually_exclusive_group(required=True)
    ends.add_argument("--messages", type=int)
    ends.add_argument("--seconds", type=float)
    return parser.parse_args()


if __name__ == "__main__":
    run(main(parse()))
