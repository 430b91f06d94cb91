"""The pages on relays that need no SCTP: their sessions, played, print what they show."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from doc_session import Shell, comparable, steps
from services import wait_for
from web_backends import free_port

DOC = Path(__file__).parents[2] / "doc"
#: What else differs from run to run.
_FIGURE = re.compile(r"\d+(\.\d+)*")
_DIRECTORY = re.compile(r"/\S+/isoneph-haproxy-\w+")
_VERSION = re.compile(r"(?m)^HAProxy: .*")

Start = Callable[..., str]


@pytest.fixture
def runtime() -> Iterator[Path]:
    # Not in pytest's own directory: the path of a socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="isoneph-doc-") as directory:
        yield Path(directory)


@pytest.fixture
def environment(tmp_path: Path, runtime: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
    changes = {"HOME": str(tmp_path), "PATH": path, "TZ": "UTC", "XDG_RUNTIME_DIR": str(runtime)}
    return {**os.environ, **changes}


@pytest.fixture
def start(tmp_path: Path, environment: dict[str, str]) -> Iterator[Start]:
    """Starts the programs of the other terminals, and returns what they say of being ready."""
    with ExitStack() as running:

        def begin(directory: Path, ready: str, *command: str) -> str:
            log = tmp_path / f"{Path(command[0]).name}-{command[1].strip('-')}.log"
            with log.open("wb") as output:
                process = subprocess.Popen(
                    command, cwd=directory, env=environment, stdout=output, stderr=output
                )
            running.callback(process.wait, timeout=30)
            running.callback(process.send_signal, signal.SIGTERM)
            return str(wait_for(lambda: re.findall(ready, log.read_text()), ready)[0])

        yield begin


def put(example: str, home: Path, shown: str, port: int) -> Path:
    """The files of an example where its page wants them, with another port."""
    shutil.copytree(DOC / "examples" / example, home / "etc")
    for file in [path for path in (home / "etc").rglob("*") if path.is_file()]:
        file.write_text(file.read_text().replace(shown, str(port)))
    (home / "etc" / "clouds.yaml").chmod(0o600)
    return home / "etc"


def told(text: str) -> str:
    """What is comparable, where all figures differ."""
    text = _VERSION.sub("HAProxy: N", _DIRECTORY.sub("DIRECTORY", comparable(text)))
    return re.sub(r"web-web-\w+", "NAME", _FIGURE.sub("N", text))


def play(page: str, shown: str, port: int, home: Path, environment: dict[str, str]) -> int:
    """Play the sessions of a page; the number of commands."""
    text = (DOC / "source" / "relays" / page).read_text()
    script = list(steps(text.replace(shown, str(port))))
    shell = Shell(home, environment)
    try:
        for step in script:
            shell.check(step, told)
    finally:
        shell.run("isoneph vm list -f value -c id | xargs -r isoneph vm delete --now")
        shell.close()
    return len(script)


def test_the_page_on_haproxy(tmp_path: Path, environment: dict[str, str], start: Start) -> None:
    home, port = tmp_path / "isoneph-web", free_port()
    put("relay-haproxy", home, "8000", port)
    service = ("isoneph", "serve", "--config-dir", "etc", "--port", "0")
    url = start(home, r"ready at (\S+)", *service)
    relay = ("isoneph", "relay", "web", "--config-dir", "etc", "--state", "state")
    start(home, r"(ready): haproxy relay", *relay)
    assert play("haproxy.rst", "8000", port, tmp_path, {**environment, "ISONEPH_URL": url}) == 8


def test_the_page_on_dns(tmp_path: Path, environment: dict[str, str], start: Start) -> None:
    home, port = tmp_path / "isoneph-names", free_port()
    etc = put("relay-dns", home, "5300", port)
    for name in ("knot.conf", "example.test.zone"):
        (etc / name).rename(home / name)
    make_key = "keymgr -t relay hmac-sha256 > relay.key && chmod 600 relay.key"
    subprocess.run(["sh", "-c", make_key], cwd=home, env=environment, check=True)
    start(home, r"loaded, serial none -> (1)", "knotd", "-c", "knot.conf")
    service = ("isoneph", "serve", "--config-dir", "etc", "--port", "0")
    url = start(home, r"ready at (\S+)", *service)
    assert play("dns.rst", "5300", port, tmp_path, {**environment, "ISONEPH_URL": url}) == 7
