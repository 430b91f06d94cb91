"""The guided tour of ``tools/demo``: real commands, a real service, real processes as VMs."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
WORKER = TOP / "tools" / "demo_worker.py"
#: Seconds between the stops of the tour, so that a person can read.
READING_TIME = 3.0
START_TIMEOUT = 30.0
HEAL_TIMEOUT = 30.0

CLOUDS = """\
clouds:
  uniform:
    driver: local
    directory: {state}/uniform
{quota}
  quebec:
    driver: local
    directory: {state}/quebec
"""

APPLICATION = """\
application: mme
clouds: [uniform, quebec]
placement:
  - count-balance
types:
  mme_worker:
    options:
      command: ["{{python}}", "{worker}"]
      ready_port: 8080
healing:
  grace: 5
"""

SERVICE = """\
[api]
port = {port}
[engine]
interval = 0.5
"""


def bold(text: str) -> str:
    """``text`` to stand out on a terminal."""
    return f"\033[1m{text}\033[0m" if sys.stdout.isatty() else text


class Tour:
    """One run of the service in a directory of its own, and what is shown of it."""

    def __init__(self, directory: Path, *, pause: float) -> None:
        self.state = directory / "state"
        self.etc = directory / "etc"
        self.log = directory / "service.log"
        self.port = _free_port()
        self._pause = pause

    @property
    def url(self) -> str:
        """The default application's base URL."""
        return f"http://127.0.0.1:{self.port}"

    def configure(self, quota: int | None = None) -> None:
        """Write the configuration; ``quota`` is the most VMs that uniform takes."""
        line = f"    max_vms: {quota}" if quota is not None else "    # max_vms: no limit yet"
        (self.etc / "applications").mkdir(parents=True, exist_ok=True)
        (self.etc / "clouds.yaml").write_text(CLOUDS.format(state=self.state, quota=line))
        (self.etc / "applications" / "mme.yaml").write_text(APPLICATION.format(worker=WORKER))
        (self.etc / "isoneph.conf").write_text(SERVICE.format(port=self.port))

    @contextlib.contextmanager
    def service(self) -> Iterator[subprocess.Popen[bytes]]:
        """The running service; it is asked to end at the end, and waited for."""
        command = [str(BIN / "isoneph"), "serve", "--config-dir", str(self.etc)]
        with self.log.open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            self._wait_until_ready(process)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(OSError):
                self.get("/health/ready")
                return
            time.sleep(0.1)
        raise SystemExit(f"the service did not start; its log:\n{self.log.read_text()}")

    def get(self, path: str) -> Any:
        """What the service answers to a GET."""
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            return json.load(answer)

    def say(self, title: str, text: str = "") -> None:
        """A stop of the tour."""
        time.sleep(self._pause)
        print(bold(f"\n--- {title}"))
        if text:
            print(textwrap.fill(" ".join(text.split()), 88))

    def run(self, command: str) -> None:
        """Show a command of ``isoneph`` and what it prints."""
        print(bold(f"\n$ {command}"), flush=True)
        environment = {**os.environ, "ISONEPH_URL": self.url}
        words = shlex.split(command)
        subprocess.run(
            [str(BIN / words[0]), *words[1:]],
            env=environment,
            stderr=subprocess.STDOUT,
            check=True,
        )

    def vms(self) -> list[dict[str, Any]]:
        """The application's VMs."""
        vms: list[dict[str, Any]] = self.get("/vm")["vms"]
        return vms


def main() -> int:
    """Run the tour; exit code 0 when all that it shows happened."""
    parser = argparse.ArgumentParser(prog="tools/demo")
    parser.add_argument("--once", action="store_true", help="end by itself, without pauses")
    once = parser.parse_args().once
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    directory = Path(tempfile.mkdtemp(prefix="isoneph-demo-"))
    tour = Tour(directory, pause=0.0 if once else READING_TIME)
    code = 0
    try:
        tour.configure()
        with tour.service() as service:
            try:
                _show(tour, service.pid)
                if not once:
                    _linger(tour)
            finally:
                _take_all_away(tour)
    except KeyboardInterrupt:
        code = 130
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print("\nThe service has ended, its VMs are gone.")
    return code


def _show(tour: Tour, pid: int) -> None:
    """The stops of the tour."""
    tour.say(
        "isoneph is running",
        f"""It listens on {tour.url} and keeps the VMs of one application, mme, balanced over two
        clouds, uniform and quebec. Both are embedded: a VM is a process on this machine, with an
        address of its own. Other clouds are a matter of configuration.""",
    )
    tour.run("isoneph cloud list")
    _show_placement(tour)
    _show_removal(tour)
    _show_failover(tour, pid)
    _show_healing(tour)


def _show_placement(tour: Tour) -> None:
    tour.say(
        "Where would a VM go, and why?",
        "Every cloud gets a verdict with a score and a reason. Nothing is created yet.",
    )
    tour.run("isoneph explain mme_worker")
    tour.say(
        "Five VMs, placed as if one by one",
        "The cloud with the fewest gets the next; ties go to the first configured.",
    )
    tour.run("isoneph vm create mme_worker --count 5 --wait")
    tour.say("Each is a real process that answers on its own address")
    for vm in tour.vms()[:2]:
        address = next(iter(vm["addresses"].values()))[0]
        print(bold(f"\n$ curl http://{address}:8080/"))
        with urllib.request.urlopen(f"http://{address}:8080/", timeout=10) as answer:
            print(answer.read().decode().strip())


def _show_removal(tour: Tour) -> None:
    tour.say(
        "One VM fewer",
        "The application only says that it needs one less; the balancer picks it and says why.",
    )
    tour.run("isoneph vm delete --any")
    tour.run("isoneph vm list")


def _show_failover(tour: Tour, pid: int) -> None:
    held = sum(vm["cloud"] == "uniform" for vm in tour.vms())
    tour.say(
        "Now uniform refuses",
        f"""Its configuration gets a limit of {held} VMs, just what it holds, and the service is
        told to reload (SIGHUP). Two more VMs: uniform says no to the one it was to get, quebec
        takes it, and the answer keeps the refusal.""",
    )
    tour.configure(quota=held)
    reloads = _reloads(tour)
    os.kill(pid, signal.SIGHUP)
    _until(lambda: _reloads(tour) > reloads, "the configuration was not reloaded")
    tour.run("isoneph vm create mme_worker --wait")
    tour.run("isoneph vm create mme_worker --wait")
    tour.run("isoneph cloud list")


def _show_healing(tour: Tour) -> None:
    victim = next(vm for vm in tour.vms() if vm["cloud"] == "quebec")
    tour.say(
        "A VM dies behind isoneph's back",
        f"""The process of {victim["name"]} is killed. Within moments the engine sees it, places
        the VM again under the same id, and removes what was left of it.""",
    )
    _kill(victim)
    _until(lambda: _attempt(tour, victim["id"]) > victim["attempt"], "the VM was not replaced")
    tour.run(f"isoneph vm show {victim['id']}")


def _reloads(tour: Tour) -> float:
    """How many reloads the service counts."""
    with urllib.request.urlopen(tour.url + "/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(
        float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("isoneph_reloads_total")
    )


def _attempt(tour: Tour, vm_id: str) -> int:
    vms = {vm["id"]: vm for vm in tour.vms()}
    vm = vms.get(vm_id)
    return int(vm["attempt"]) if vm is not None and vm["state"] == "ACTIVE" else 0


def _kill(vm: dict[str, Any]) -> None:
    """End the process that is this VM, by the address in its environment, from outside."""
    marker = f"ISONEPH_ID={vm['id']}".encode()
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            words = (process / "environ").read_bytes().split(b"\0")
            if marker in words:
                os.kill(int(process.name), signal.SIGKILL)


def _until(condition: Any, otherwise: str) -> None:
    deadline = time.monotonic() + HEAL_TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"demo: {otherwise} within {HEAL_TIMEOUT:g} s")
        time.sleep(0.2)


def _linger(tour: Tour) -> None:
    """Leave the service to the person until Ctrl-C."""
    tour.say(
        "That was the tour. The service goes on until Ctrl-C",
        "In another terminal try these; then Ctrl-C here ends the service and its VMs.",
    )
    print(
        f"""
  export ISONEPH_URL={tour.url} PATH={BIN}:$PATH
  isoneph vm list
  curl -s -X POST $ISONEPH_URL/vm -H 'Content-Type: application/json' \\
       -d '{{"type": "mme_worker"}}'
  curl -s $ISONEPH_URL/metrics | grep isoneph_placed

  its log: {tour.log}""",
        flush=True,
    )
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()
    print()


def _take_all_away(tour: Tour) -> None:
    """Delete every VM of the demo, so that no process of it is left."""
    with contextlib.suppress(OSError):
        for vm in tour.vms():
            request = urllib.request.Request(f"{tour.url}/vm/{vm['id']}", method="DELETE")
            urllib.request.urlopen(request, timeout=30).close()


def _free_port() -> int:
    """The usual port when it is free, else any."""
    for port in (8642, 0):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise SystemExit("demo: no free port on 127.0.0.1")


if __name__ == "__main__":
    sys.exit(main())
