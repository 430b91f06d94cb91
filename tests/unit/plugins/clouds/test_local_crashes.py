"""The local driver among crashes, replicas and what others left in its directory."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from isoneph.core import identity
from isoneph.core.errors import CloudError, InvalidRequest, OutcomeUnknown
from isoneph.core.model import VmState
from isoneph.core.testing import FakeClock
from isoneph.plugins.clouds.local.directory import Directory
from isoneph.plugins.clouds.local.home import Home
from isoneph.plugins.clouds.local.start import Start
from local_vms import (
    SLEEP,
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


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    with nothing_left_running(tmp_path):
        yield tmp_path / "vms"


def test_the_same_request_again_is_the_same_vm(directory: Path) -> None:
    request = make_request()
    clouds = [make_cloud(directory) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        vms = list(pool.map(lambda cloud: cloud.create_vm(request), clouds))
    assert len({(vm.cloud_id, *vm.addresses["local"]) for vm in vms}) == 1
    await_vm(clouds[0], vms[0])
    assert len(clouds[0].list_vms("app")) == 1
    await_one_session(directory)


def test_a_deletion_goes_on_without_who_asked_for_it(directory: Path) -> None:
    clock = FakeClock()
    cloud = make_cloud(directory, clock, stop_seconds=50)
    vm = cloud.create_vm(make_request(*STUBBORN))
    await_log(directory, vm, "up")
    (directory / vm.cloud_id / "deleting").symlink_to(str(clock.time() + 50))
    assert [each.state for each in cloud.list_vms("app")] == [VmState.DELETING]
    assert (directory / vm.cloud_id / "terminated").is_symlink()
    assert len(running(directory)) >= 2
    clock.advance(51)
    until = time.monotonic() + 10
    while cloud.list_vms("app") and time.monotonic() < until:
        time.sleep(0.005)
    assert running(directory) == []


@pytest.mark.parametrize("content", [b"", b"{", b'{"name": 3}', b"\xff"])
def test_a_record_that_cannot_be_read_is_left_alone(
    directory: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    cloud = make_cloud(directory)
    request = make_request("true")
    broken = cloud.create_vm(request)
    cloud.create_vm(make_request("true"))
    record = directory / broken.cloud_id / "vm.json"
    record.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert len(cloud.list_vms("app")) == 1
        assert len(cloud.list_vms("app")) == 1
    assert [message for message in caplog.messages if str(record) in message] == caplog.messages
    assert len(caplog.messages) == 1
    seen = cloud.get_vm(broken)
    assert seen is not None
    assert seen.state is VmState.ERROR
    assert str(record) in str(seen.fault)
    for call in (lambda: cloud.delete_vm(broken), lambda: cloud.create_vm(request)):
        with pytest.raises(InvalidRequest, match=r"vm\.json"):
            call()
    assert record.read_bytes() == content


def test_what_is_not_ours_is_not_touched(directory: Path) -> None:
    cloud = make_cloud(directory)
    stranger = directory / f"app-{identity.new_id()}-1"
    stranger.mkdir()
    (directory / "notes").write_text("mine")
    assert cloud.list_vms("app") == []
    assert cloud.get_limits()["instances"].used == 0
    assert stranger.is_dir()


def test_a_reused_pid_is_never_signalled(directory: Path) -> None:
    cloud = make_cloud(directory)
    vm = await_vm(cloud, cloud.create_vm(make_request()))
    fact = directory / vm.cloud_id / "process"
    pid, started, boot = str(fact.readlink()).split(":")
    with subprocess.Popen(SLEEP, start_new_session=True) as innocent:
        try:
            fact.unlink()
            fact.symlink_to(f"{innocent.pid}:{started}:{boot}")
            assert await_vm(cloud, vm, VmState.ERROR).fault == "was killed"
            cloud.delete_vm(vm)
            assert cloud.get_vm(vm) is None
            assert innocent.poll() is None
            assert psutil.pid_exists(int(pid))
        finally:
            innocent.kill()


def test_a_deletion_that_the_kernel_refuses_is_finished_once_it_does_not(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_args: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    cloud = make_cloud(directory)
    vm = await_vm(cloud, cloud.create_vm(make_request()))
    with monkeypatch.context() as patch:
        patch.setattr(signal, "pidfd_send_signal", refuse)
        with pytest.raises(OutcomeUnknown, match="Operation not permitted"):
            cloud.delete_vm(vm)
        assert [each.state for each in cloud.list_vms("app")] == [VmState.DELETING]
    assert f"cannot delete VM {vm.cloud_id} yet" in caplog.text
    cloud.delete_vm(vm)
    assert running(directory) == []


def test_a_file_by_the_name_of_a_fact_counts_as_that_fact(directory: Path) -> None:
    cloud = make_cloud(directory)
    vm = await_vm(cloud, cloud.create_vm(make_request()))
    (directory / vm.cloud_id / "deleting").touch()
    cloud.delete_vm(vm)
    assert running(directory) == []
    assert entries(directory) == ["cloud"]


def test_a_cloud_id_can_be_had_again_after_a_delete(directory: Path) -> None:
    cloud = make_cloud(directory)
    request = make_request()
    vm = await_vm(cloud, cloud.create_vm(request))
    cloud.delete_vm(vm)
    again = cloud.create_vm(request)
    assert again.cloud_id == vm.cloud_id
    await_vm(cloud, again)


#: A fork keeps what the test has changed, and its death is as sudden as isoneph's.
FORK = multiprocessing.get_context("fork")


def killed_at(moment: str, owner: object, name: str, run: Callable[[], object]) -> None:
    """Have another process do ``run``, and kill it before or after it calls ``owner.name``."""
    real = getattr(owner, name)

    def fatal(*args: object, **kwargs: object) -> None:
        if moment == "after":
            real(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    def dying() -> None:
        setattr(owner, name, fatal)
        run()

    process = FORK.Process(target=dying)
    process.start()
    process.join(20)
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("moment", "owner", "name", "there"),
    [
        ("before", Directory, "add", 0),
        ("before", Path, "rename", 0),
        ("after", Path, "rename", 1),
        ("before", subprocess.Popen, "communicate", 1),
        ("after", Start, "run", 1),
    ],
)
def test_a_create_that_was_killed_is_one_vm_when_it_is_repeated(
    directory: Path, moment: str, owner: object, name: str, there: int
) -> None:
    request = make_request()
    killed_at(moment, owner, name, lambda: make_cloud(directory).create_vm(request))
    cloud = make_cloud(directory)
    found = cloud.list_vms("app")
    assert [vm.id for vm in found] == [request.id] * there
    vm = await_vm(cloud, cloud.create_vm(request))
    assert [each.addresses for each in found] in ([], [vm.addresses])
    assert [each.id for each in cloud.list_vms("app")] == [request.id]
    assert sorted(entries(directory)) == [vm.cloud_id, "cloud"]
    await_one_session(directory)


@pytest.mark.parametrize(
    ("moment", "owner", "name"),
    [
        ("before", Home, "advance_deletion"),
        ("before", signal, "pidfd_send_signal"),
        ("after", signal, "pidfd_send_signal"),
        ("before", Directory, "retire"),
        ("before", shutil, "rmtree"),
    ],
)
def test_a_delete_that_was_killed_is_finished_by_the_next_listing(
    directory: Path, moment: str, owner: object, name: str
) -> None:
    cloud = make_cloud(directory)
    vm = await_vm(cloud, cloud.create_vm(make_request()))
    killed_at(moment, owner, name, lambda: cloud.delete_vm(vm))
    cloud = make_cloud(directory)
    until = time.monotonic() + 10
    while cloud.list_vms("app") and time.monotonic() < until:
        time.sleep(0.005)
    assert running(directory) == []
    assert entries(directory) == ["cloud"]


def create_six(directory: Path, said: Path) -> None:
    """Write the address of each VM, or why there is none."""
    cloud = make_cloud(directory, max_vms=8)
    for _ in range(6):
        try:
            word = cloud.create_vm(make_request()).addresses["local"][0]
        except CloudError as error:
            word = error.code
        with said.open("a") as file:
            file.write(f"{word}\n")


def test_replicas_share_the_quota_and_give_each_vm_an_address(
    directory: Path, tmp_path: Path
) -> None:
    files = [tmp_path / "first", tmp_path / "second"]
    replicas = [FORK.Process(target=create_six, args=(directory, file)) for file in files]
    for replica in replicas:
        replica.start()
    for replica in replicas:
        replica.join(20)
    said = [word for file in files for word in file.read_text().split()]
    assert len(said) == 12
    assert said.count("quota_exceeded") == 4
    addresses = set(said) - {"quota_exceeded"}
    assert len(addresses) == 8
    cloud = make_cloud(directory)
    vms = cloud.list_vms("app")
    assert {vm.addresses["local"][0] for vm in vms} == addresses
    for vm in vms:
        await_vm(cloud, vm)
