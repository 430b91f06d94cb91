"""What the local driver cannot or will not do, and how it says so."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from isoneph.core.errors import (
    CloudError,
    ConfigInvalid,
    InvalidRequest,
    NoCapacity,
    OutcomeUnknown,
    QuotaExceeded,
    Unreachable,
)
from isoneph.core.model import Quota, VmState
from isoneph.core.testing import FakeClock, make_environment
from isoneph.plugins.clouds.local import LocalCloud
from isoneph.plugins.clouds.local.home import Home
from isoneph.plugins.clouds.local.start import Start
from local_vms import (
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


def test_quota_and_addresses_run_out(directory: Path) -> None:
    cloud = make_cloud(directory, network="127.90.0.0/30", max_vms=2)
    vms = [cloud.create_vm(make_request("true")) for _ in range(2)]
    assert sorted(vm.addresses["local"][0] for vm in vms) == ["127.90.0.1", "127.90.0.2"]
    assert cloud.get_limits() == {"instances": Quota(limit=2, used=2)}
    with pytest.raises(QuotaExceeded, match="2 of at most 2 VMs"):
        cloud.create_vm(make_request("true"))
    with pytest.raises(NoCapacity, match=r"all 2 addresses of 127\.90\.0\.0/30 are taken"):
        make_cloud(directory, network="127.90.0.0/30").create_vm(make_request("true"))
    cloud.delete_vm(vms[0])
    assert cloud.create_vm(make_request("true")).addresses == vms[0].addresses


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        (["no-such-program"], {}, "no executable file 'no-such-program' on the PATH"),
        (["./run"], {"working_directory": "/"}, "no executable file './run' in /"),
        (["/etc/passwd"], {}, "no executable file '/etc/passwd'"),
        (["exit", "3"], {}, "no executable file 'exit'"),
        (["sleep", "1"], {"environment": {"PATH": "/nowhere"}}, "on the PATH /nowhere"),
        (["sleep", "1"], {"working_directory": "/nowhere"}, "there is no directory /nowhere"),
    ],
)
def test_what_cannot_run_is_refused(
    directory: Path, command: list[str], options: dict[str, Any], message: str
) -> None:
    cloud = make_cloud(directory)
    with pytest.raises(InvalidRequest, match=message):
        cloud.create_vm(make_request(*command, **options))
    assert entries(directory) == ["cloud"]


def test_a_request_whose_tags_do_not_fit_is_refused(directory: Path) -> None:
    request = dataclasses.replace(make_request(), application="another")
    with pytest.raises(InvalidRequest, match="tags"):
        make_cloud(directory).create_vm(request)


def fails_with(number: int) -> Callable[..., None]:
    def run(*_args: Any, **_kwargs: Any) -> None:
        raise OSError(number, os.strerror(number), "/bin/something")

    return run


@pytest.mark.parametrize(
    ("run", "error", "message"),
    [
        (fails_with(errno.EAGAIN), NoCapacity, "temporarily unavailable: /bin/something"),
        (fails_with(errno.E2BIG), InvalidRequest, "list too long"),
        (fails_with(errno.EPERM), Unreachable, "not permitted"),
        (lambda args, **_: subprocess.CompletedProcess(args, 1), NoCapacity, "cannot start"),
    ],
)
def test_a_start_that_fails_leaves_nothing(
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: Callable[..., Any],
    error: type[CloudError],
    message: str,
) -> None:
    cloud = make_cloud(directory)
    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(error, match=message):
        cloud.create_vm(make_request())
    assert entries(directory) == ["cloud"]


def test_a_full_disk_is_no_capacity_and_leaves_nothing(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = make_cloud(directory)
    monkeypatch.setattr(os, "fsync", fails_with(errno.ENOSPC))
    with pytest.raises(NoCapacity, match="No space left on device"):
        cloud.create_vm(make_request())
    assert entries(directory) == ["cloud"]


def test_a_start_that_takes_too_long_may_have_happened(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(args: list[str], **kwargs: Any) -> None:
        raise subprocess.TimeoutExpired(args, kwargs["timeout"])

    clock = FakeClock()
    cloud = make_cloud(directory, clock)
    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(OutcomeUnknown, match="over 12 seconds"):
        cloud.create_vm(make_request())
    assert [vm.state for vm in cloud.list_vms("app")] == [VmState.BUILDING]
    clock.advance(11)
    (vm,) = cloud.list_vms("app")
    assert vm.fault == "did not start within 10 seconds"
    cloud.delete_vm(vm)
    assert entries(directory) == ["cloud"]


def test_one_directory_belongs_to_one_cloud(directory: Path) -> None:
    make_cloud(directory)
    other = LocalCloud(make_cloud(directory).options, make_environment("there"))
    with pytest.raises(ConfigInvalid, match="belongs to the cloud 'here'; give each cloud its own"):
        other.start()


def test_a_directory_that_others_may_write_to_is_refused(directory: Path) -> None:
    directory.mkdir()
    directory.chmod(0o777)
    with pytest.raises(ConfigInvalid, match="chmod 700"):
        make_cloud(directory)


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigInvalid, match=f"cloud 'here': directory: .*{tmp_path}/file"):
        make_cloud(tmp_path / "file" / "vms")


def test_a_directory_that_vanished_is_no_empty_cloud(directory: Path) -> None:
    cloud = make_cloud(directory)
    vm = cloud.create_vm(make_request("true"))
    directory.rename(directory.with_name("away"))
    directory.mkdir()
    calls: list[Callable[[], object]] = [
        lambda: cloud.list_vms("app"),
        lambda: cloud.get_vm(vm),
        lambda: cloud.create_vm(make_request()),
        cloud.get_limits,
    ]
    for call in calls:
        with pytest.raises(Unreachable, match=f"{directory}/cloud"):
            call()
    with pytest.raises(OutcomeUnknown, match=f"{directory}/cloud"):
        cloud.delete_vm(vm)


def test_a_lock_that_is_never_let_go_does_not_hang_a_create(directory: Path) -> None:
    cloud = make_cloud(directory, FakeClock())
    with (directory / "cloud").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(Unreachable, match=r"keeps .* locked"):
            cloud.create_vm(make_request())
    cloud.create_vm(make_request("true"))


def test_a_vm_that_is_deleted_while_it_is_created_is_no_success(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = make_cloud(directory)
    run = Start.run

    def run_and_delete(start: Start, home: Home, timeout: float) -> None:
        run(start, home, timeout)
        for vm in cloud.list_vms("app"):
            cloud.delete_vm(vm)

    monkeypatch.setattr(Start, "run", run_and_delete)
    with pytest.raises(OutcomeUnknown, match="was deleted while it was created"):
        cloud.create_vm(make_request())
    assert running(directory) == []
