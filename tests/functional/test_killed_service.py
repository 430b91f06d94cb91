"""The real service, killed again and again in the middle of its work, over faulty clouds."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from isoneph.core import identity
from isoneph.plugins.clouds.mock import Simulation

CLOUDS = ("uniform", "quebec")
KEYS = [f"key-{n}" for n in range(120)]
CLIENTS = 8
KILLS = 8
#: Seconds in which every client has its answer, and in which the engine tidies up.
PATIENCE = 90.0
FAULTS = [
    {"fault": "timeout_after", "call": "create", "probability": 0.1, "visible_after": 1},
    {"fault": "timeout_before", "call": "create", "probability": 0.1},
    {"fault": "error_after_accept", "call": "create", "probability": 0.1},
    {"fault": "no_capacity", "call": "create", "probability": 0.05},
    {"fault": "throttle", "call": "any", "probability": 0.02, "retry_after": 0.1},
    {"fault": "leave_port", "call": "delete", "probability": 0.3},
]


class MortalService:
    """The service in a process group that can be killed at once, master and worker."""

    def __init__(self, etc: Path, port: int) -> None:
        self._command = [str(Path(sys.executable).parent / "isoneph"), "serve"]
        self._command += ["--config-dir", str(etc)]
        self._log = etc.parent / "service.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{port}"

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> int:
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(timeout=40)

    def log(self) -> str:
        return self._log.read_text()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[MortalService]:
    etc = tmp_path / "etc"
    (etc / "applications").mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    cloud = {
        "driver": "mock",
        "state": str(tmp_path / "clouds.db"),
        "boot_seconds": 0.1,
        "latency": {"create": 0.15, "any": 0.003},
        "faults": FAULTS,
        "isoneph": {"breaker_pause": 0.5},
    }
    # JSON is YAML.
    clouds = {name: {**cloud, "seed": n} for n, name in enumerate(CLOUDS)}
    (etc / "clouds.yaml").write_text(json.dumps({"clouds": clouds}))
    (etc / "applications" / "mme.yaml").write_text(
        "types: {worker: {}}\nhealing: {grace: 1, attempts: 20}\n"
    )
    (etc / "isoneph.conf").write_text(f"[api]\nport = {port}\n[engine]\ninterval = 0.2\n")
    made = MortalService(etc, port)
    made.start()
    yield made
    with contextlib.suppress(ProcessLookupError):
        made.kill()


def ask_until_answered(url: str, key: str, deadline: float) -> str:
    """What a client does that must have its VM: ask with one key until the answer comes."""
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            answer = httpx.post(
                f"{url}/vm",
                json={"type": "worker"},
                headers={"Idempotency-Key": key},
                timeout=20,
            )
            if answer.status_code in (200, 201):
                return str(answer.json()["id"])
            assert answer.status_code == 503, answer.text
        time.sleep(0.05)
    raise AssertionError(f"{key} was not answered in time")


def kill_now_and_then(service: MortalService, done: threading.Event) -> int:
    rng = random.Random(2015)
    kills = 0
    while kills < KILLS and not done.wait(rng.uniform(0.9, 1.6)):
        service.kill()
        service.start()
        kills += 1
    return kills


@pytest.mark.timeout(300)
def test_each_key_has_exactly_one_vm_though_the_service_is_killed_again_and_again(
    service: MortalService, tmp_path: Path
) -> None:
    deadline = time.monotonic() + PATIENCE
    done = threading.Event()
    with ThreadPoolExecutor(CLIENTS + 1) as pool:
        killer = pool.submit(kill_now_and_then, service, done)
        ids = list(pool.map(lambda key: ask_until_answered(service.url, key, deadline), KEYS))
        done.set()
    assert ids == [identity.id_of_key("mme", key, 0) for key in KEYS]
    assert killer.result() >= 3, service.log()
    with contextlib.ExitStack() as stack:
        clouds = [stack.enter_context(Simulation(tmp_path / "clouds.db", name)) for name in CLOUDS]
        for cloud in clouds:
            cloud.clear_faults()
        wait_until_tidy(clouds, set(ids))
    assert ask_until_answered(service.url, KEYS[0], deadline + PATIENCE) == ids[0]
    assert service.stop() == 0


def wait_until_tidy(clouds: list[Simulation], ids: set[str]) -> None:
    """Until the clouds hold each VM once, and nothing else of ours."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = sorted(vm.tags[identity.TAG_ID] for cloud in clouds for vm in cloud.vms())
        ports = [port for cloud in clouds for port in cloud.ports()]
        states = {vm.state.value for cloud in clouds for vm in cloud.vms()}
        if found == sorted(ids) and not ports and states == {"ACTIVE"}:
            return
        assert time.monotonic() < deadline, (len(found), len(ids), ports, states)
        time.sleep(0.2)
