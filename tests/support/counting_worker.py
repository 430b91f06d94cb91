"""A worker for tests and trials that counts: ``python counting_worker.py --relay ... --id ...``.

It keeps nothing itself: how many messages of a conversation have been handled, and a checksum
over them, travel in the conversation's state. It answers each message with one line,
``COUNT CHECKSUM WORKER``, on the same stream and with the same ppid.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import struct
import sys
import zlib
from pathlib import Path

from isoneph.core.errors import LinkRefused
from isoneph.core.link import Backoff, Dispatch, LinkAddress, Reply, Worker, read_secret

#: How many messages, and the checksum over all of them.
STATE = struct.Struct(">QI")


def count(state: bytes, data: bytes) -> tuple[int, int]:
    """What the state tells after one more message."""
    number, checksum = STATE.unpack(state) if state else (0, 0)
    return number + 1, zlib.crc32(data, checksum)


class Counting:
    """The handler: answers at once, or after ``pause`` seconds."""

    def __init__(self, vm_id: str, pause: float = 0.0) -> None:
        self._vm_id = vm_id
        self._pause = pause

    def answer(self, dispatch: Dispatch) -> Reply:
        """The next count; a message ``bye`` ends the conversation, one ``bad`` is an error."""
        data = dispatch.message.data
        if data == b"bad":
            raise ValueError("a bad message")
        number, checksum = count(dispatch.state, data)
        line = f"{number} {checksum:08x} {self._vm_id}".encode()
        message = dispatch.message._replace(data=line)
        return dispatch.reply([message], STATE.pack(number, checksum), finished=data == b"bye")

    async def answer_later(self, dispatch: Dispatch) -> Reply:
        """The same, after the pause."""
        await asyncio.sleep(self._pause)
        return self.answer(dispatch)


def make_worker(arguments: argparse.Namespace) -> Worker:
    counting = Counting(arguments.id, arguments.pause)
    return Worker(
        LinkAddress.parse(arguments.relay),
        read_secret(arguments.secret_file),
        counting.answer_later if arguments.pause else counting.answer,
        application=arguments.application,
        vm_id=arguments.id,
        capacity=arguments.capacity,
        window=arguments.window,
        backoff=Backoff(0.05, arguments.most_backoff),
    )


async def serve(worker: Worker) -> None:
    """Run until SIGTERM; then finish in order."""
    loop = asyncio.get_running_loop()
    stopping: list[asyncio.Task[None]] = []
    loop.add_signal_handler(
        signal.SIGTERM, lambda: stopping.append(loop.create_task(worker.stop()))
    )
    try:
        await worker.run()
    except LinkRefused as refusal:
        sys.exit(refusal.message)
    await asyncio.gather(*stopping)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="a worker that counts")
    parser.add_argument("--relay", required=True, help="HOST:PORT, or the path of a socket")
    parser.add_argument("--secret-file", required=True, type=Path)
    parser.add_argument("--id", required=True, help="the id of its VM")
    parser.add_argument("--application", default="demo")
    parser.add_argument("--capacity", type=int, default=1)
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--most-backoff", type=float, default=5.0, help="seconds")
    return parser.parse_args()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    asyncio.run(serve(make_worker(parse())))
