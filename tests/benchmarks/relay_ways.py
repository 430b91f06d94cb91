"""The ways from a client to what answers it: direct, through our relay, and through others.

Everything is a real process on this machine, started here and ended with the block.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from free_ports import free_udp_ports
from isoneph.plugins.transports.auto import kernel_refusal
from relay_ends import HOST, PATIENCE
from relay_processes import PORT, SERVER_PORT, Stage, wait_until
from web_backends import free_port, listens

HERE = Path(__file__).parent
ECHO, LOAD = str(HERE / "relay_echo.py"), str(HERE / "relay_load.py")
#: SCTP ports of the kernel; those of the userland stacks are theirs alone.
KERNEL_ECHO_PORT, KERNEL_WORKERS_PORT, KERNEL_PLAIN_PORT = 36421, 36422, 36423
DIRECT, WORKERS, PLAIN = "direct, SCTP", "isoneph relay, workers", "isoneph relay, plain"
#: What a name ends with.
NATIVE, SLEEPING = ", native", ", busy_poll 0"
DIRECT_TCP, HAPROXY = "direct, TCP", "HAProxy, TCP"
SOCAT_UDP, SOCAT_TCP = "socat, UDP packets", "socat, TCP"

HAPROXY_CONFIGURATION = """\
global
  nbthread 1
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen echo
  bind {host}:{port}
  server echo {host}:{echo_port}
"""


@dataclass(frozen=True, kw_only=True)
class Way:
    """Where a client connects to: ``driver`` is a transport, or ``tcp``. ``direct`` names the way
    without what is between, whose process is ``pid``."""

    name: str
    driver: str
    port: int
    udp_port: int = 0
    direct: str = ""
    pid: int = 0

    def busy(self) -> float:
        """Seconds of CPU that the process between has taken; 0 when there is none."""
        if not self.pid:
            return 0.0
        times = psutil.Process(self.pid).cpu_times()
        return times.user + times.system

    def memory(self) -> int:
        """Bytes that it has in memory."""
        return int(psutil.Process(self.pid).memory_info().rss)


class Program:
    """A process whose output goes to a file; ended with the block."""

    def __init__(self, directory: Path, name: str, *command: str) -> None:
        self.log_file = directory / f"{name}.log"
        self._command = command

    async def __aenter__(self) -> Self:
        with self.log_file.open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self._command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
            )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    async def says(self, text: str) -> Self:
        """Return when its output has that."""
        await wait_until(lambda: self._has(text), f"{self._command[0]} to say {text}", PATIENCE)
        return self

    def _has(self, text: str) -> bool:
        log = self.log_file.read_text(errors="replace")
        assert self.process.returncode is None, log
        return text in log


class LoadClient:
    """The client's process; see :mod:`relay_load`."""

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            LOAD,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    async def open(self, way: Way, count: int = 1) -> float:
        """Associations that go this way; the seconds that it took."""
        figures = await self._ask(
            PATIENCE + count * 0.1,
            do="open",
            name=way.name,
            driver=way.driver,
            port=way.port,
            udp_port=way.udp_port,
            count=count,
        )
        return figures["seconds"]

    async def load(self, way: Way, in_flight: int, seconds: float) -> dict[str, float]:
        """Messages on them."""
        patience = seconds + 2 * PATIENCE
        command = {"do": "load", "name": way.name, "in_flight": in_flight, "seconds": seconds}
        return await self._ask(patience, **command)

    async def close(self, way: Way) -> None:
        """Let them go."""
        await self._ask(2 * PATIENCE, do="close", name=way.name)

    async def _ask(self, patience: float, **command: Any) -> dict[str, float]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        async with asyncio.timeout(patience):
            line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the client has ended at {command}")
        figures: dict[str, float] = json.loads(line)
        return figures


class Ways:
    """Starts what is between; all of it ends with the block."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self.ways: list[Way] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def open_sctp(self, driver: str = "userland") -> None:
        """An SCTP server, alone and behind the relay, and a worker behind the relay."""
        native = driver == "kernel"
        made = tempfile.TemporaryDirectory(prefix="isoneph-ways-")
        directory = Path(self._stack.enter_context(made))
        port = KERNEL_ECHO_PORT if native else SERVER_PORT
        udp = 0 if native else free_udp_ports(1)[0]
        await self._echo(directory, "sctp", driver, str(port), str(udp))
        direct = Way(
            name=DIRECT + (NATIVE if native else ""), driver=driver, port=port, udp_port=udp
        )
        self.ways.append(direct)
        await self.open_relays(direct)

    async def open_relays(self, direct: Way, note: str = "", **limits: Any) -> None:
        """The relay before a worker, and before the SCTP server of a direct way."""
        driver, udp = direct.driver, direct.udp_port
        workers_udp, plain_udp = free_udp_ports(2) if udp else (0, 0)
        suffix = direct.name.removeprefix(DIRECT) + note
        stage = await self._stage(driver, KERNEL_WORKERS_PORT, workers_udp, 0, workers={}, **limits)
        secret = str(stage.directory / "secret")
        await stage.name("vm-1")
        await self._echo(stage.directory, "worker", str(stage.workers_at), secret, "vm-1")
        await stage.await_ready("vm-1")
        self._relay(WORKERS + suffix, direct, stage, KERNEL_WORKERS_PORT, workers_udp)
        plain = {"port": direct.port}
        stage = await self._stage(driver, KERNEL_PLAIN_PORT, plain_udp, udp, plain=plain, **limits)
        await stage.name("vm-1")
        await stage.await_ready("vm-1")
        self._relay(PLAIN + suffix, direct, stage, KERNEL_PLAIN_PORT, plain_udp)

    async def open_sleeping(self) -> None:
        """The relay that does not look for messages before they are there."""
        direct = next(way for way in self.ways if way.name == DIRECT)
        await self.open_relays(direct, SLEEPING, busy_poll=0)

    async def open_others(self) -> None:
        """socat before the SCTP server that is there, and TCP with HAProxy and socat."""
        server = next(way for way in self.ways if way.name == DIRECT)
        made = tempfile.TemporaryDirectory(prefix="isoneph-ways-")
        directory = Path(self._stack.enter_context(made))
        echo_port, haproxy_port, socat_port = free_port(), free_port(), free_port()
        command = [sys.executable, ECHO, "tcp", str(echo_port)]
        await self._program(directory, "echo-tcp", "listening", *command)
        self.ways.append(Way(name=DIRECT_TCP, driver="tcp", port=echo_port))
        configuration = directory / "haproxy.cfg"
        configuration.write_text(
            HAPROXY_CONFIGURATION.format(host=HOST, port=haproxy_port, echo_port=echo_port)
        )
        command = ["haproxy", "-db", "-f", str(configuration)]
        haproxy = await self._program(directory, "haproxy", "", *command)
        await wait_until(lambda: listens(HOST, haproxy_port), "HAProxy to listen", PATIENCE)
        self._between(HAPROXY, DIRECT_TCP, "tcp", haproxy, port=haproxy_port)
        listen = f"TCP4-LISTEN:{socat_port},bind={HOST},nodelay"
        command = ["socat", "-d", "-d", listen, f"TCP4:{HOST}:{echo_port},nodelay"]
        socat = await self._program(directory, "socat-tcp", "listening on", *command)
        self._between(SOCAT_TCP, DIRECT_TCP, "tcp", socat, port=socat_port)
        (udp,) = free_udp_ports(1)
        listen = f"UDP4-LISTEN:{udp},bind={HOST}"
        command = ["socat", "-d", "-d", listen, f"UDP4:{HOST}:{server.udp_port}"]
        socat = await self._program(directory, "socat-udp", "listening on", *command)
        self._between(SOCAT_UDP, DIRECT, "userland", socat, port=server.port, udp_port=udp)

    def _relay(self, name: str, direct: Way, stage: Stage, port: int, udp_port: int) -> None:
        self.ways.append(
            Way(
                name=name,
                driver=direct.driver,
                port=PORT if udp_port else port,
                udp_port=udp_port,
                direct=direct.name,
                pid=stage.processes["relay"].pid,
            )
        )

    def _between(self, name: str, direct: str, driver: str, program: Program, **at: int) -> None:
        pid = program.process.pid
        self.ways.append(Way(name=name, driver=driver, direct=direct, pid=pid, **at))

    async def _stage(
        self, driver: str, port: int, own_udp: int, server_udp: int, **form: Any
    ) -> Stage:
        """A relay, with the timers that are usual."""
        transport: dict[str, Any] = {"driver": driver}
        if driver == "userland":
            port = PORT
            transport["udp_port"] = own_udp
            if server_udp:
                transport["remote_udp_port"] = server_udp
        listen = [f"{HOST}:{port}"]
        limits = {"max_clients_per_address": 10_000}
        stage = Stage(transport=transport, listen=listen, **limits, **form)
        return await self._stack.enter_async_context(stage)

    async def _echo(self, directory: Path, kind: str, *arguments: str) -> None:
        command = (sys.executable, ECHO, kind, *arguments)
        await self._program(directory, f"echo-{kind}", "listening", *command)

    async def _program(self, directory: Path, name: str, says: str, *command: str) -> Program:
        program = Program(directory, name, *command)
        await self._stack.enter_async_context(program)
        return await program.says(says)


@asynccontextmanager
async def sctp_ways() -> AsyncIterator[Ways]:
    """Those of SCTP: in userland, and natively where this kernel has it."""
    async with Ways() as ways:
        await ways.open_sctp()
        if kernel_refusal() is None:
            await ways.open_sctp("kernel")
        yield ways


def native_note() -> str:
    """What is said of native SCTP."""
    refusal = kernel_refusal()
    if refusal is None:
        return "Native: SCTP of this machine's kernel."
    return f"Native SCTP is left out: this machine's kernel has none ({refusal})."
