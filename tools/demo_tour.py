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
TRAFFIC = TOP / "tools" / "demo_traffic.py"
CLIENTS = 8
#: Seconds between the stops of the tour, so that a person can read.
READING_TIME = 3.0
START_TIMEOUT = 30.0
HEAL_TIMEOUT = 30.0
#: States of a VM that is up, whatever the relay says of it.
UP = {"ACTIVE", "READY", "SERVING"}

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
      command: ["{{python}}", "{worker}", --relay, "{relay}", --secret-file, "{secret}"]
      ready_port: 8080
relay:
  driver: sctp
  listen: ["127.0.0.1:36412"]
  control: {control}
  workers: {{listen: "{relay}", secret_file: "{secret}"}}
  router: {{driver: sticky, window: 1}}
  transport: {{driver: userland, udp_port: {udp_port}}}
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


class Traffic:
    """The clients' process, and what it told last."""

    def __init__(self, process: subprocess.Popen[bytes], told: Path) -> None:
        self._process = process
        self._told = told

    @property
    def totals(self) -> dict[str, int]:
        """What the clients have seen so far."""
        whole = [line for line in self._told.read_text().splitlines() if line.endswith("}")]
        found: dict[str, int] = json.loads(whole[-1]) if whole else {}
        return found

    def end(self) -> dict[str, int]:
        """Have the clients wait for the answers that are due, and end; their last totals."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=60)
        return self.totals


class Tour:
    """One run of the service in a directory of its own, and what is shown of it."""

    def __init__(self, directory: Path, *, pause: float) -> None:
        self.state = directory / "state"
        self.etc = directory / "etc"
        self.log = directory / "service.log"
        self.port, self._workers_port = _free_port(8642), _free_port()
        self._udp_port = _free_port(9899, socket.SOCK_DGRAM)
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
        secret = self.etc / "worker.secret"
        secret.touch(0o600)
        secret.write_text("known to the relay and to its workers")
        application = APPLICATION.format(
            worker=WORKER,
            relay=f"127.0.0.1:{self._workers_port}",
            secret=secret,
            control=self.etc / "relay.sock",
            udp_port=self._udp_port,
        )
        (self.etc / "applications" / "mme.yaml").write_text(application)
        (self.etc / "isoneph.conf").write_text(SERVICE.format(port=self.port))

    @contextlib.contextmanager
    def service(self) -> Iterator[subprocess.Popen[bytes]]:
        """The running service; it is asked to end at the end, and waited for."""
        with self._running("serve") as process:
            self._wait_until_ready(process)
            yield process

    @contextlib.contextmanager
    def relay(self) -> Iterator[None]:
        """The running relay."""
        with self._running("relay", "mme", "--state", str(self.state), "--drain", "2"):
            yield

    @contextlib.contextmanager
    def traffic(self) -> Iterator[Traffic]:
        """Clients that send all the time."""
        command = [sys.executable, str(TRAFFIC), "--relay", "36412"]
        command += ["--udp-port", str(self._udp_port), "--clients", str(CLIENTS)]
        told = self.log.with_name("traffic.json")
        with told.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, start_new_session=True)
        traffic = Traffic(process, told)
        try:
            yield traffic
        finally:
            traffic.end()

    @contextlib.contextmanager
    def _running(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        command = [str(BIN / "isoneph"), *words, "--config-dir", str(self.etc)]
        with self.log.open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
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
        environment = {
            **os.environ,
            "ISONEPH_URL": self.url,
            "ISONEPH_CONFIG_DIR": str(self.etc),
        }
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
        with tour.relay(), tour.service() as service:
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
    with tour.traffic() as traffic:
        _show_traffic(tour, traffic)
        _show_removal(tour)
        _show_failover(tour, pid)
        _show_healing(tour)
        _show_totals(tour, traffic)


def _show_traffic(tour: Tour, traffic: Traffic) -> None:
    tour.say(
        "Traffic for the VMs",
        f"""isoneph relay mme stands between SCTP clients and the VMs, which have registered
        themselves there. {CLIENTS} clients are connected now; each sends a message, checks the
        answer, and sends the next, until the tour is over.""",
    )
    _until(lambda: traffic.totals.get("answered", 0) > CLIENTS, "no traffic")
    tour.run("isoneph relay status mme --once")
    tour.run("isoneph vm list -c id -c cloud -c state -c sessions")


def _show_totals(tour: Tour, traffic: Traffic) -> None:
    answered = traffic.totals["answered"]
    _until(lambda: traffic.totals["answered"] > answered, "the traffic has stopped")
    totals = traffic.end()
    tour.say(
        "What the clients saw of all this",
        """Every message had its one answer, in order: the relay keeps what a VM has not answered,
        and the state of each client, and gives both to another when a VM goes, planned or not.""",
    )
    for what in ("sent", "answered", "unanswered", "wrong", "disconnected", "slowest_ms"):
        print(f"{what:>13} {totals.get(what, 0)}")
    lost = totals["sent"] - totals["answered"]
    if lost or totals.get("wrong") or totals.get("disconnected"):
        raise SystemExit("demo: messages were lost, doubled or overtaken")


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
    tour.run("isoneph vm create mme_worker --count 5 --wait ready")
    tour.say("Each is a real process that answers on its own address")
    for vm in tour.vms()[:2]:
        address = next(iter(vm["addresses"].values()))[0]
        print(bold(f"\n$ curl http://{address}:8080/"))
        with urllib.request.urlopen(f"http://{address}:8080/", timeout=10) as answer:
            print(answer.read().decode().strip())


def _show_removal(tour: Tour) -> None:
    tour.say(
        "One VM fewer",
        """The application only says that it needs one less; the balancer picks it and says why. It
        gets no new work, and is gone as soon as it has nothing in hand.""",
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
    return int(vm["attempt"]) if vm is not None and vm["state"] in UP else 0


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


def _free_port(wanted: int = 0, kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """The port that is wanted when it is free, else any."""
    for port in (wanted, 0):
        with contextlib.suppress(OSError), socket.socket(type=kind) as probe:
            if kind is socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise SystemExit("demo: no free port on 127.0.0.1")


if __name__ == "__main__":
    sys.exit(main())
