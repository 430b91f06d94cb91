"""What sends back whatever comes, as a process of its own, until it is killed.

    python relay_echo.py sctp DRIVER PORT UDP_PORT    (UDP_PORT: 0 for the kernel's SCTP)
    python relay_echo.py tcp PORT
    python relay_echo.py worker SOCKET SECRET_FILE ID

``listening`` is printed when it is ready.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast

from isoneph.core.link import Dispatch, LinkAddress, Reply, Worker, read_secret
from isoneph.core.traffic import Address, Message
from relay_ends import HOST, End, make_transport, run


class SctpEcho(End):
    """Reads no more from a client that does not take its answers."""

    def received(self, message: Message) -> None:
        self.association.send(message)

    def writable_changed(self, writable: bool) -> None:
        if writable:
            self.association.resume_reading()
        else:
            self.association.pause_reading()


class TcpEcho(asyncio.Protocol):
    """The same for TCP."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()


def answer(dispatch: Dispatch) -> Reply:
    return dispatch.reply([dispatch.message])


async def serve_sctp(driver: str, port: str, udp_port: str) -> None:
    options = {"udp_port": int(udp_port)} if int(udp_port) else {}
    transport = make_transport(driver, **options)
    await transport.start()
    await transport.listen([Address(HOST, int(port))], lambda _association: SctpEcho())
    print("listening", flush=True)
    await asyncio.Event().wait()


async def serve_tcp(port: str) -> None:
    server = await asyncio.get_running_loop().create_server(TcpEcho, HOST, int(port))
    print("listening", flush=True)
    await server.serve_forever()


async def work(socket: str, secret_file: str, vm_id: str) -> None:
    secret = read_secret(Path(secret_file))
    worker = Worker(LinkAddress(path=socket), secret, answer, application="mme", vm_id=vm_id)
    serving = asyncio.create_task(worker.run())
    await worker.up.wait()
    print("listening", flush=True)
    await serving


if __name__ == "__main__":
    kinds: dict[str, Callable[..., Coroutine[Any, Any, None]]]
    kinds = {"sctp": serve_sctp, "tcp": serve_tcp, "worker": work}
    run(kinds[sys.argv[1]](*sys.argv[2:]))
