from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from openstack_testbed import preflight
from openstack_testbed.main import main
from openstack_testbed.processes import Processes
from openstack_testbed.report import Failure
from openstack_testbed.settings import Settings
from testbed import PROGRAM

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """Runs the program in this process; its exit code, and what it says."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    mask = os.umask(0o022)
    monkeypatch.setenv("ISONEPH_TESTBED_DIR", str(tmp_path))
    monkeypatch.setenv("ISONEPH_TESTBED_PORT", "31400")  # a testbed may be up at the usual one
    monkeypatch.delenv("ISONEPH_TESTBED_CLOUDS", raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        return code, *capsys.readouterr()

    yield run
    os.umask(mask)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_help_names_every_command_and_variable() -> None:
    said = subprocess.run([PROGRAM, "--help"], capture_output=True, text=True, check=True).stdout
    for word in ("up", "down", "status", "wipe", "install", "env", "start", "stop", "faults"):
        assert f"    {word} " in said
    assert "ISONEPH_TESTBED_DIR" in said


def test_what_was_never_up_is_down(run: Run) -> None:
    code, said, _ = run("status")
    assert code == 1
    assert "uniform-nova-api         down" in said
    assert "quebec: no answer from keystone" in said


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_who_reads_only_the_first_lines_gets_no_traceback(tmp_path: Path, unbuffered: str) -> None:
    environment = {
        **os.environ,
        "ISONEPH_TESTBED_DIR": str(tmp_path),
        "PYTHONUNBUFFERED": unbuffered,
    }
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as unread:
        ended = subprocess.run(
            [PROGRAM, "status"], env=environment, stdout=unread, stderr=subprocess.PIPE, check=False
        )
    assert (ended.returncode, ended.stderr) == (141, b"")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("up --port x", "port x: expected a number"),
        ("start uniform-nova-api", "the clouds have never been up: `up` first"),
        ("stop uniform-nova", "process uniform-nova: expected one of uniform-keystone"),
        ("faults uniform nova-api [{]", "faults: expected JSON"),
        ("faults uniform --clear", "faults: name the cloud and the service"),
    ],
)
def test_mistakes_are_said_in_one_line(run: Run, arguments: str, message: str) -> None:
    code, _, error = run(*arguments.split())
    assert code == 1
    assert error.startswith(f"openstack-testbed: {message}")
    assert error.count("\n") == 1


def test_a_directory_of_something_else_is_left_alone(run: Run, tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    for command in ("wipe", "up", "install", "down"):
        code, _, error = run(command)
        assert code == 1
        assert f"{tmp_path} is no testbed's directory, for it has log" in error
    assert (tmp_path / "log").exists()


def test_wiping_what_is_not_there_is_harmless(run: Run, tmp_path: Path) -> None:
    assert run("wipe")[0] == 0
    assert run("wipe")[0] == 0


def test_faults_are_set_shown_and_cleared(run: Run, tmp_path: Path) -> None:
    (tmp_path / "uniform" / "faults").mkdir(parents=True)
    assert run("faults", "uniform", "neutron", '[{"delay": 2}]') == (0, "", "")
    assert run("faults") == (0, 'uniform neutron {"delay": 2}\n', "")
    assert run("faults", "uniform", "neutron", "--clear") == (0, "", "")
    assert run("faults") == (0, "", "")


def test_env_points_clients_at_the_clouds(run: Run, tmp_path: Path) -> None:
    assert f"export OS_CLIENT_CONFIG_FILE={tmp_path}/clouds.yaml" in run("env")[1]


def test_a_port_that_is_taken_is_named_with_a_way_out(tmp_path: Path) -> None:
    with socket.socket() as taken:
        # Not one that the system picks: next to it others may be in use for a moment.
        taken.bind(("127.0.0.1", 31400 + 100))
        taken.listen()
        settings = Settings(tmp_path, 31400)
        with pytest.raises(Failure, match=r"port \d+ .*uniform-keystone, is taken.*--port"):
            preflight.require_ports(settings, Processes(tmp_path))
