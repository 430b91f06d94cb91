"""The local driver with real processes: what a VM's life looks like from outside."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from isoneph.core.model import Quota, VmState
from isoneph.core.testing import FakeClock
from local_vms import (
    STUBBORN,
    await_log,
    await_one_session,
    await_vm,
    entries,
    make_cloud,
    make_request,
    nothing_left_running,
    running,
)

DEMO_WORKER = Path(__file__).parents[4] / "tools" / "demo_worker.py"


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    with nothing_left_running(tmp_path):
        yield tmp_path / "vms"


def test_a_vm_is_a_process_that_knows_who_it_is(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OS_PASSWORD", "secret")
    monkeypatch.setenv("LC_TIME", "C")
    cloud = make_cloud(directory)
    request = make_request(
        "sh",
        "-c",
        'env; pwd; echo "args: $*"; exec sleep 60',
        "sh",
        "{name} {{}}",
        "{address}",
        environment={"GREETING": "hello {type} of {cloud}"},
    )
    vm = await_vm(cloud, cloud.create_vm(request))
    address = vm.addresses["local"][0]
    home = str(directory / vm.cloud_id)
    lines = await_log(directory, vm, "args:").splitlines()
    assert lines[-1] == f"args: {request.name} {{}} {address}"
    assert lines[-2] == home
    environment = dict(line.partition("=")[::2] for line in lines[:-2])
    assert {key: value for key, value in environment.items() if key.startswith("ISONEPH_")} == {
        "ISONEPH_ID": request.id,
        "ISONEPH_NAME": request.name,
        "ISONEPH_APPLICATION": "app",
        "ISONEPH_TYPE": "worker",
        "ISONEPH_CLOUD": "here",
        "ISONEPH_ADDRESS": address,
        "ISONEPH_DIRECTORY": home,
    }
    assert environment["GREETING"] == "hello worker of here"
    assert environment["LC_TIME"] == "C"
    assert "OS_PASSWORD" not in environment
    assert vm.tags == {"colour": "blue"}


def test_its_process_belongs_to_nobody_and_its_files_to_us_alone(directory: Path) -> None:
    cloud = make_cloud(directory)
    vm = await_vm(cloud, cloud.create_vm(make_request()))
    assert psutil.Process().children() == []
    assert all(process.ppid() != os.getpid() for process in running(directory))
    for path in (directory, directory / vm.cloud_id):
        assert path.stat().st_mode & 0o777 == 0o700
    assert psutil.Process(os.getsid(running(directory)[0].pid)).environ()["ISONEPH_ID"] == vm.id


def test_the_demo_worker_builds_until_it_listens_and_ends_cleanly(directory: Path) -> None:
    cloud = make_cloud(directory, keep_logs=True)
    command = ["{python}", str(DEMO_WORKER), "--boot-seconds", "0.2"]
    vm = cloud.create_vm(make_request(*command, ready_port=8080))
    assert vm.state is VmState.BUILDING
    vm = await_vm(cloud, vm)
    with urllib.request.urlopen(f"http://{vm.addresses['local'][0]}:8080/", timeout=5) as answer:
        told = json.load(answer)
    assert told.pop("uptime") >= 0.2
    assert told == {"id": vm.id, "name": vm.name, "type": "worker", "cloud": "here"}
    cloud.delete_vm(vm)
    assert cloud.list_vms("app") == []
    assert "Traceback" not in (directory / "logs" / f"{vm.cloud_id}.log").read_text()


def test_what_was_ready_once_stays_active(directory: Path) -> None:
    cloud = make_cloud(directory)
    request = make_request(ready_port=9000)
    vm = cloud.create_vm(request)
    with socket.create_server((vm.addresses["local"][0], 9000)):
        await_vm(cloud, vm)
    again = make_cloud(directory).get_vm(vm)
    assert again is not None
    assert again.state is VmState.ACTIVE


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        ("echo one; echo; printf 't\\033wo  \\n\\n'; exit 3", "exited with status 3: two"),
        ("exit 0", "exited with status 0"),
        ("kill -9 $$", "exited with status 137 (SIGKILL): Killed"),
        ("kill -9 $PPID; sleep 60", "was killed"),
        (f"echo {'x' * 300}; exit 1", f"exited with status 1: {'x' * 200}"),
    ],
)
def test_a_command_that_ends_is_an_error(directory: Path, script: str, fault: str) -> None:
    cloud = make_cloud(directory)
    vm = cloud.create_vm(make_request("sh", "-c", script))
    assert await_vm(cloud, vm, VmState.ERROR).fault == fault
    cloud.delete_vm(vm)
    assert cloud.get_vm(vm) is None
    assert running(directory) == []


def test_a_restart_of_the_machine_ends_every_vm(directory: Path) -> None:
    cloud = make_cloud(directory)
    vm = await_vm(cloud, cloud.create_vm(make_request()))
    fact = directory / vm.cloud_id / "process"
    pid, started, _boot = str(fact.readlink()).split(":")
    fact.unlink()
    fact.symlink_to(f"{pid}:{started}:another-boot")
    assert await_vm(cloud, vm, VmState.ERROR).fault == "ended when the machine restarted"
    cloud.delete_vm(vm)
    assert cloud.get_vm(vm) is None
    assert running(directory)  # by that record it could be anybody's


def test_a_vm_that_stands_still_is_stopped_and_can_be_deleted(directory: Path) -> None:
    cloud = make_cloud(directory)
    vm = await_vm(cloud, cloud.create_vm(make_request()))
    await_one_session(directory)
    os.killpg(os.getpgid(running(directory)[0].pid), signal.SIGSTOP)
    await_vm(cloud, vm, VmState.STOPPED)
    cloud.delete_vm(vm)
    assert cloud.get_vm(vm) is None
    assert running(directory) == []


def test_delete_is_gentle_first(directory: Path) -> None:
    cloud = make_cloud(directory)
    said = directory / "said"
    script = f"trap 'echo bye >{said}; exit 0' TERM; echo up; while :; do sleep 0.01; done"
    vm = cloud.create_vm(make_request("sh", "-c", script))
    await_log(directory, vm, "up")
    cloud.delete_vm(vm)
    assert said.read_text() == "bye\n"
    assert cloud.get_vm(vm) is None
    assert running(directory) == []
    cloud.delete_vm(vm)


def test_delete_kills_what_does_not_listen(directory: Path) -> None:
    cloud = make_cloud(directory, stop_seconds=0.2)
    vm = cloud.create_vm(make_request(*STUBBORN))
    await_log(directory, vm, "up")
    before = time.monotonic()
    cloud.delete_vm(vm)
    assert time.monotonic() - before >= 0.2
    assert running(directory) == []
    assert entries(directory) == ["cloud"]


def test_an_overdue_delete_returns_within_the_time_of_a_call(directory: Path) -> None:
    cloud = make_cloud(directory, FakeClock(), stop_seconds=1000)
    vm = cloud.create_vm(make_request(*STUBBORN))
    await_log(directory, vm, "up")
    started = cloud.environment.clock.time()
    cloud.delete_vm(vm)
    assert cloud.environment.clock.time() - started < cloud.environment.timeout
    await_vm(cloud, vm, VmState.DELETING)


def test_each_application_sees_its_own_vms_only(directory: Path) -> None:
    cloud = make_cloud(directory)
    mine = cloud.create_vm(make_request("true"))
    cloud.create_vm(make_request("true", application="other", vm_id=mine.id))
    assert [vm.cloud_id for vm in cloud.list_vms("app")] == [mine.cloud_id]
    stranger = dataclasses.replace(mine, application="other")
    assert cloud.get_vm(stranger) is None
    cloud.delete_vm(stranger)
    cloud.delete_vm(dataclasses.replace(mine, cloud_id="../vms"))
    assert cloud.get_limits() == {"instances": Quota(limit=None, used=2)}


def test_a_long_log_begins_anew(directory: Path) -> None:
    cloud = make_cloud(directory)
    vm = cloud.create_vm(make_request("sh", "-c", "seq 1000; echo end; exec sleep 60"))
    await_log(directory, vm, "end")
    make_cloud(directory, log_bytes=1000).list_vms("app")
    home = directory / vm.cloud_id
    assert (home / "log").read_text() == ""
    assert (home / "log.old").read_text().endswith("1000\nend\n")


def test_a_long_log_begins_anew_even_when_the_disk_is_full(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    cloud = make_cloud(directory)
    vm = cloud.create_vm(make_request("sh", "-c", "seq 1000; exec sleep 60"))
    await_log(directory, vm, "1000")
    monkeypatch.setattr(shutil, "copyfile", full)
    make_cloud(directory, log_bytes=1000).list_vms("app")
    assert (directory / vm.cloud_id / "log").read_text() == ""
