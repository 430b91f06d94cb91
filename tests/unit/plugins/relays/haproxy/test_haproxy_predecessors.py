from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from isoneph.core.errors import RelayUnreachable
from isoneph.core.traffic import Address
from isoneph.plugins.relays.haproxy.predecessors import PREFIX, SOCKET, Predecessors

#: Connects to every port that it is told of, says so, and waits for its end.
PROGRAM = """
import socket, sys
held = [socket.create_connection((host, int(port))) for host, port in
        (word.rsplit(":", 1) for word in sys.argv[3:])]
print(flush=True)
sys.stdin.read()
"""

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts what looks like a HAProxy with a configuration, and has connections."""
    with ExitStack() as stack:

        def start(file: Path, *addresses: str) -> subprocess.Popen[bytes]:
            command = [sys.executable, "-c", PROGRAM, "-f", str(file), *addresses]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            stack.callback(process.wait)
            stack.enter_context(process)
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline()
            return process

        yield start


@pytest.fixture
def directory() -> Iterator[Path]:
    """The directory of a HAProxy that has listened, and does no more."""
    # Not in pytest's own directory: the path of a socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix=PREFIX) as name:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"{name}/{SOCKET}")
        yield Path(name)


def test_connections_of_one_that_ends_are_counted(directory: Path, start: Start) -> None:
    file = directory / "web.cfg"
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as four,
        closing(socket.create_server(("::1", 0), family=socket.AF_INET6)) as six,
    ):
        ports = four.getsockname()[1], six.getsockname()[1]
        process = start(file, f"127.0.0.1:{ports[0]}", f"127.0.0.1:{ports[0]}", f"::1:{ports[1]}")
        predecessors = Predecessors("web")
        assert predecessors.connections() == {}
        predecessors.find()
        assert predecessors.processes == [process.pid]
        assert predecessors.connections() == {
            Address("127.0.0.1", ports[0]): 2,
            Address("::1", ports[1]): 1,
        }
        process.kill()
        process.wait()
        assert predecessors.connections() == {}
        assert predecessors.processes == []


@pytest.mark.parametrize("name", ["web-shop.cfg", "other/web.cfg"])
def test_what_has_another_file_is_none(directory: Path, start: Start, name: str) -> None:
    start(directory / name)
    predecessors = Predecessors("web")
    predecessors.find()
    assert predecessors.processes == []


def test_one_that_a_relay_has_is_none(directory: Path, start: Start) -> None:
    start(directory / "web.cfg")
    (directory / SOCKET).unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / SOCKET))
        listener.listen()
        predecessors = Predecessors("web")
        predecessors.find()
        assert predecessors.processes == []


def test_without_proc_none_are_found(tmp_path: Path) -> None:
    predecessors = Predecessors("web", tmp_path / "nowhere")
    predecessors.find()
    assert predecessors.connections() == {}


def test_what_cannot_be_counted_is_unreachable(tmp_path: Path, directory: Path) -> None:
    process = tmp_path / "7"
    process.mkdir()
    (process / "cmdline").write_bytes(f"haproxy\0-f\0{directory}/web.cfg\0".encode())
    (process / "fd").write_text("no directory")
    predecessors = Predecessors("web", tmp_path)
    predecessors.find()
    with pytest.raises(RelayUnreachable, match=r"sessions of HAProxy 7, .* cannot be counted"):
        predecessors.connections()
