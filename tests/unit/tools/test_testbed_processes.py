from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from openstack_testbed import proc
from openstack_testbed.processes import Processes, Stopped
from openstack_testbed.report import Failure

SLEEP = ["sleep", "60"]
#: Ignores SIGTERM, and has a child.
STUBBORN = ["sh", "-c", "trap '' TERM; sleep 60 & echo ready; wait; sleep 60"]


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    made = Processes(tmp_path)
    yield made
    for name in made.recorded():
        made.end(name, grace=0)


def pid_of(processes: Processes, name: str) -> int:
    record = processes.alive(name)
    assert record is not None
    return record.pid


def test_a_process_is_started_once_and_ended(processes: Processes) -> None:
    assert processes.spawn("one", SLEEP, {})
    pid = pid_of(processes, "one")
    assert not processes.spawn("one", SLEEP, {})
    assert pid_of(processes, "one") == pid
    assert processes.end("one")
    assert processes.alive("one") is None
    assert not processes.end("one")


def test_another_program_finds_it_again(processes: Processes, tmp_path: Path) -> None:
    processes.spawn("one", SLEEP, {})
    other = Processes(tmp_path)
    assert other.recorded() == ["one"]
    assert other.started == []
    assert other.alive("one") == processes.alive("one")


def test_a_pid_that_is_somebody_elses_now_is_left_alone(
    processes: Processes, tmp_path: Path
) -> None:
    processes.spawn("one", SLEEP, {})
    record = tmp_path / "run" / "one.json"
    mine = pid_of(processes, "one")
    (tmp_path / "run" / "two.json").write_text(f'{{"pid": {mine}, "start": "1", "began": 1}}')
    assert processes.alive("two") is None
    assert not processes.end("two")
    assert pid_of(processes, "one") == mine
    assert record.exists()


def test_who_does_not_end_is_killed_with_its_children(processes: Processes) -> None:
    processes.spawn("one", STUBBORN, {})
    processes.wait_for("both", lambda: "ready" in processes.tail("one"), "one", seconds=5)
    family = proc.session(pid_of(processes, "one"))
    assert len(family) == 2
    assert processes.end("one", grace=0.1)
    assert not any(proc.start_time(pid) for pid in family)


def test_a_process_is_killed_at_once(processes: Processes) -> None:
    processes.spawn("one", STUBBORN, {})
    assert processes.kill("one")
    assert processes.alive("one") is None
    assert not processes.kill("one")


def test_a_frozen_process_goes_on_or_is_ended(processes: Processes) -> None:
    processes.spawn("one", SLEEP, {})
    pid = pid_of(processes, "one")
    assert processes.freeze("one")
    processes.wait_for("stop", lambda: proc.frozen(pid), "one", seconds=5)
    assert processes.thaw("one")
    processes.wait_for("go on", lambda: not proc.frozen(pid), "one", seconds=5)
    processes.freeze("one")
    assert processes.end("one", grace=5)


def test_a_process_that_ends_by_itself_shows_what_it_said(processes: Processes) -> None:
    processes.spawn("one", ["sh", "-c", "echo no such database"], {})
    with pytest.raises(Failure, match=r"one ended by itself(.|\n)*no such database"):
        processes.wait_for("one", lambda: False, "one", seconds=5)


def test_waiting_ends_after_its_time(processes: Processes) -> None:
    processes.spawn("one", SLEEP, {})
    with pytest.raises(Failure, match="port: not ready after 0 s"):
        processes.wait_for("port", lambda: False, "one", seconds=0)


def test_a_command_that_fails_shows_what_it_said(processes: Processes) -> None:
    processes.run(["true"], "fine")
    with pytest.raises(Failure, match=r"exit code 3(.|\n)*no space"):
        processes.run(["sh", "-c", "echo no space; exit 3"], "failing")


def test_foreign_variables_do_not_reach_the_programs(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OS_CLOUD", "somebody")
    show = "import os; print(os.environ.get('OS_CLOUD'), os.environ['OWN'])"
    processes.run([sys.executable, "-c", show], "shown", {"OWN": "yes"})
    assert processes.tail("shown").split() == ["None", "yes"]


def test_work_is_given_up_when_that_is_wanted(processes: Processes) -> None:
    stop = threading.Timer(0.2, processes.stop_working)
    stop.start()
    began = time.monotonic()
    with pytest.raises(Stopped):
        processes.run(SLEEP, "long")
    with pytest.raises(Stopped):
        processes.wait_for("nothing", lambda: False)
    assert time.monotonic() - began < 5
    stop.join()
