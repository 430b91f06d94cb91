from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from isoneph.plugins.clouds.local import processes
from isoneph.plugins.clouds.local.processes import Leader

MARKER = "ISONEPH_DIRECTORY=/nowhere/app-1"


@pytest.fixture
def innocent() -> Iterator[subprocess.Popen[bytes]]:
    """A process with a session of its own that is none of ours."""
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def leader_of(pid: int) -> Leader:
    process = processes.read(pid)
    assert process is not None
    return Leader(pid, process.started, processes.boot_id())


def test_a_leader_is_its_pid_start_and_boot(innocent: subprocess.Popen[bytes]) -> None:
    leader = leader_of(innocent.pid)
    found = processes.find(leader)
    assert found is not None
    assert found.session == innocent.pid
    assert [member.pid for member in processes.members(leader, MARKER)] == [innocent.pid]


@pytest.mark.parametrize("change", [{"started": 1}, {"boot": "another"}])
def test_a_pid_that_was_given_out_again_is_nobody_of_ours(
    innocent: subprocess.Popen[bytes], change: dict[str, int | str]
) -> None:
    leader = leader_of(innocent.pid)._replace(**change)  # type: ignore[arg-type]  # either field
    assert processes.find(leader) is None
    assert processes.members(leader, MARKER) == []


def test_a_signal_never_reaches_a_successor(innocent: subprocess.Popen[bytes]) -> None:
    process = processes.read(innocent.pid)
    assert process is not None
    processes.send(process._replace(started=process.started - 1), signal.SIGKILL)
    with pytest.raises(subprocess.TimeoutExpired):
        innocent.wait(0.05)
    processes.send(process, signal.SIGKILL)
    assert innocent.wait(5) == -signal.SIGKILL
    processes.send(process, signal.SIGKILL)  # gone: nothing to do


@pytest.mark.parametrize(
    ("environment", "count"), [({}, 0), ({"ISONEPH_DIRECTORY": "/nowhere/app-1"}, 1)]
)
def test_a_session_without_its_leader_is_ours_by_its_marker(
    environment: dict[str, str], count: int
) -> None:
    with subprocess.Popen(
        ["/bin/sh", "-c", "sleep 60 & echo $!; read line"],
        start_new_session=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PATH": os.environ["PATH"], **environment},
    ) as first:
        assert first.stdout is not None
        orphan = int(first.stdout.readline())
        try:
            leader = leader_of(first.pid)
            assert len(processes.members(leader, MARKER)) == 2
            first.kill()
            first.wait()
            assert len(processes.members(leader, MARKER)) == count
        finally:
            os.kill(orphan, signal.SIGKILL)


def test_a_zombie_is_dead() -> None:
    child = subprocess.Popen(["true"])
    until = time.monotonic() + 5
    while processes.read(child.pid) is not None and time.monotonic() < until:
        time.sleep(0.002)
    assert child.returncode is None
    assert processes.read(child.pid) is None
    child.wait()


@pytest.mark.parametrize("text", ["", "cancelled", "1:2", "1:x:boot", "-1:2:boot", "1:2:b:c"])
def test_what_names_no_leader(text: str) -> None:
    assert Leader.parse(text) is None


def test_a_leader_is_read_as_it_was_written() -> None:
    assert Leader.parse("12:345:boot-id") == Leader(12, 345, "boot-id")
