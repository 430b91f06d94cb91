"""What the tests of the local driver are made of: real clouds, requests and processes."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from voluptuous import Schema

from isoneph.core import identity
from isoneph.core.clock import SystemClock
from isoneph.core.model import Vm, VmRequest, VmState, VmType
from isoneph.core.plugin import Clock
from isoneph.core.testing import make_environment
from isoneph.plugins.clouds.local import LocalCloud

SLEEP = ["sleep", "60"]
#: Ignores SIGTERM.
STUBBORN = ["sh", "-c", "trap '' TERM; sleep 60 & echo up; wait; sleep 60"]


def running(directory: Path) -> list[psutil.Process]:
    """All living processes of the VMs in ``directory``."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            home = process.environ().get("ISONEPH_DIRECTORY", "")
            if home.startswith(f"{directory}/") and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def await_one_session(directory: Path) -> None:
    """See that the processes in ``directory`` are one VM's, once launchers that lost are gone."""
    until = time.monotonic() + 10
    while len(sessions := _sessions(directory)) != 1:
        assert time.monotonic() < until, sessions
        time.sleep(0.005)


def _sessions(directory: Path) -> set[int]:
    found = set()
    for process in running(directory):
        with contextlib.suppress(ProcessLookupError):
            found.add(os.getsid(process.pid))
    return found


@contextlib.contextmanager
def nothing_left_running(directory: Path) -> Iterator[None]:
    """Kill whatever VM runs in ``directory`` when the block is left."""
    try:
        yield
    finally:
        for process in running(directory):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def make_cloud(directory: Path, clock: Clock | None = None, **options: Any) -> LocalCloud:
    schema = Schema(LocalCloud.schema)
    validated = schema({"directory": str(directory), "stop_seconds": 2, **options})
    cloud = LocalCloud(validated, make_environment("here", clock=clock or SystemClock()))
    cloud.start()
    return cloud


def make_request(
    *command: str, vm_id: str | None = None, application: str = "app", **options: Any
) -> VmRequest:
    vm_id = vm_id or identity.new_id()
    validated = Schema(LocalCloud.type_schema)({"command": list(command or SLEEP), **options})
    return VmRequest(
        id=vm_id,
        application=application,
        type=VmType(name="worker", options=validated),
        name=identity.name_of(application, "worker", vm_id),
        tags={
            identity.TAG_APPLICATION: application,
            identity.TAG_ID: vm_id,
            identity.TAG_TYPE: "worker",
            identity.TAG_ATTEMPT: "1",
            "colour": "blue",
        },
    )


def entries(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def await_vm(cloud: LocalCloud, vm: Vm, state: VmState = VmState.ACTIVE) -> Vm:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        now = cloud.get_vm(vm)
        assert now is not None
        if now.state is state:
            return now
        time.sleep(0.005)
    pytest.fail(f"{now} is not {state}")


def await_log(directory: Path, vm: Vm, text: str) -> str:
    log = directory / vm.cloud_id / "log"
    until = time.monotonic() + 10
    while text not in log.read_text() and time.monotonic() < until:
        time.sleep(0.005)
    assert text in log.read_text()
    return log.read_text()
