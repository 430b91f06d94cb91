"""What isoneph adds to a request, beside a Flask-RESTful app on gunicorn's sync worker.

Both run as real services on loopback, one process each, one after the other, in one run.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
VMS = 1000
#: Seconds of load for each figure; connections of the load generator.
LOAD_SECONDS = 4
CONNECTIONS = 16
#: Seconds between two changes, in the test with changes.
CHANGE_SECONDS = 0.02
SEQUENTIAL_CREATES = 300
PARALLEL_CREATES = 100
#: Seconds that a cloud's create call takes in the parallel test.
SLOW_CREATE = 2.0
#: Creates of the prototype that are timed; it takes them one at a time.
PROTOTYPE_CREATES = 3

CLOUDS = """\
clouds:
  uniform: {{driver: mock, latency: {{create: {create}}}}}
  quebec: {{driver: mock, latency: {{create: {create}}}}}
"""
APPLICATION = "application: mme\ntypes: {worker: {}}\n"


@dataclass(frozen=True)
class Figures:
    """One service: requests a second, and seconds."""

    small: float
    listing: float
    changing: float
    create: float
    parallel: float


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(command: list[str], url: str, **environment: str) -> Iterator[str]:
    """A service that answers at ``url``, ended at the end."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )
    try:
        for _ in range(300):
            with contextlib.suppress(httpx.TransportError):
                httpx.get(url + "/type").raise_for_status()
                break
            if process.poll() is not None:
                raise RuntimeError(f"{command[0]} ended with {process.returncode}")
            time.sleep(0.1)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


@contextlib.contextmanager
def isoneph(create_seconds: float = 0.0) -> Iterator[str]:
    """The service over two simulated clouds."""
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        etc = Path(directory)
        (etc / "applications").mkdir()
        (etc / "applications" / "mme.yaml").write_text(APPLICATION)
        (etc / "clouds.yaml").write_text(CLOUDS.format(create=create_seconds))
        (etc / "isoneph.conf").write_text(f"[DEFAULT]\nlog_level = WARNING\n[api]\nport = {port}\n")
        command = [str(BIN / "isoneph"), "serve", "--config-dir", directory]
        with running(command, f"http://127.0.0.1:{port}") as url:
            yield url


@contextlib.contextmanager
def prototype(vms: int = 0, create_seconds: float = 0.0) -> Iterator[str]:
    """The Flask-RESTful app on gunicorn's sync worker."""
    port = free_port()
    command = [
        *(sys.executable, "-m", "gunicorn", "--workers", "1", "--worker-class", "sync"),
        *("--chdir", str(HERE), "--bind", f"127.0.0.1:{port}", "prototype:app"),
    ]
    url = f"http://127.0.0.1:{port}"
    environment = {
        "PROTOTYPE_VMS": str(vms),
        "PROTOTYPE_CREATE_SECONDS": str(create_seconds),
    }
    with running(command, url, **environment):
        yield url


def requests_per_second(url: str) -> float:
    """What wrk gets from one GET address."""
    arguments = ["-t1", f"-c{CONNECTIONS}", f"-d{LOAD_SECONDS}", url]
    output = subprocess.run(["wrk", *arguments], capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in output:
        raise RuntimeError(f"{url} answered errors:\n{output}")
    found = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if found is None:
        raise RuntimeError(f"wrk said:\n{output}")
    return float(found.group(1))


@contextlib.contextmanager
def changing(url: str) -> Iterator[None]:
    """One VM more, again and again, all the time: no answer can be the same for long."""
    done = threading.Event()

    def create() -> None:
        with httpx.Client(base_url=url, timeout=30) as client:
            while not done.wait(CHANGE_SECONDS):
                client.post("/vm", json={"type": "worker"}).raise_for_status()

    thread = threading.Thread(target=create)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def sequential_creates(url: str, count: int = SEQUENTIAL_CREATES) -> float:
    """Median seconds of a create, one after the other over one connection.

    The client is the plainest there is, for its own time counts too.
    """
    times = []
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    headers = {"Content-Type": "application/json"}
    for _ in range(count):
        begun = time.perf_counter()
        connection.request("POST", "/vm", '{"type": "worker"}', headers)
        answer = connection.getresponse()
        answer.read()
        times.append(time.perf_counter() - begun)
        if answer.status != 201:
            raise RuntimeError(f"{url}/vm answered {answer.status}")
    connection.close()
    return statistics.median(times)


async def parallel_creates(url: str, count: int) -> float:
    """Seconds until ``count`` creates, asked for at once, are all answered."""
    limits = httpx.Limits(max_connections=count)
    async with httpx.AsyncClient(base_url=url, timeout=300, limits=limits) as client:
        begun = time.perf_counter()
        answers = await asyncio.gather(
            *(client.post("/vm", json={"type": "worker"}) for _ in range(count))
        )
        seconds = time.perf_counter() - begun
    for answer in answers:
        answer.raise_for_status()
    clouds = [answer.json()["cloud"] for answer in answers]
    if abs(clouds.count("uniform") - clouds.count("quebec")) > 1:
        raise RuntimeError("the creates are not balanced")
    return seconds


def measure_isoneph() -> Figures:
    """isoneph's figures."""
    with isoneph() as url:
        small = requests_per_second(f"{url}/type")
        create = sequential_creates(url)
    with isoneph() as url:
        httpx.post(f"{url}/vm", json={"type": "worker", "count": VMS}, timeout=60)
        listing = requests_per_second(f"{url}/vm?limit={VMS}")
        with changing(url):
            changes = requests_per_second(f"{url}/vm?limit={VMS}")
    with isoneph(SLOW_CREATE) as url:
        parallel = asyncio.run(parallel_creates(url, PARALLEL_CREATES))
    return Figures(small=small, listing=listing, changing=changes, create=create, parallel=parallel)


def measure_prototype() -> Figures:
    """The prototype's; its parallel creates are a few, and as many more times that."""
    with prototype(vms=VMS) as url:
        small = requests_per_second(f"{url}/type")
        listing = requests_per_second(f"{url}/vm")
        with changing(url):
            changes = requests_per_second(f"{url}/vm")
    with prototype() as url:
        create = sequential_creates(url)
    with prototype(create_seconds=SLOW_CREATE) as url:
        few = asyncio.run(parallel_creates(url, PROTOTYPE_CREATES))
    parallel = few / PROTOTYPE_CREATES * PARALLEL_CREATES
    return Figures(small=small, listing=listing, changing=changes, create=create, parallel=parallel)
