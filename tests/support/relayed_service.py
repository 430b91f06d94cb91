"""A real service and a real relay process, over VMs that are processes of this machine."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from relay_plugin.echo_vm import PORT
from services import wait_for

PLUGIN = Path(__file__).parent / "relay_plugin"
ISONEPH = str(Path(sys.executable).parent / "isoneph")
PATIENCE = 20.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Session:
    """One connection through the relay."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._file = self._socket.makefile("rwb")
        #: The id of the VM that has it; empty when the relay took it to none.
        self.vm = self._file.readline().decode().strip()

    def echo(self, text: str) -> str:
        """What comes back; empty when the session is over."""
        try:
            self._file.write(text.encode() + b"\n")
            self._file.flush()
            return self._file.readline().decode().strip()
        except OSError:
            return ""

    def close(self) -> None:
        self._file.close()
        self._socket.close()


class RelayedService:
    """``isoneph serve`` and ``isoneph relay web`` with one configuration."""

    def __init__(self, directory: Path, **relay: Any) -> None:
        self.directory = directory
        self.clouds = directory / "clouds"
        self.port, self.api_port = free_port(), free_port()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._sessions: list[Session] = []
        control = {"control": str(directory / "relay.sock")}
        self._write(control | {"drain": 60} | relay)
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{self.api_port}", timeout=PATIENCE)

    def _write(self, relay: Mapping[str, Any]) -> None:
        etc = self.directory / "etc"
        (etc / "applications").mkdir(parents=True)
        clouds = {
            name: {"driver": "local", "directory": str(self.clouds / name), "stop_seconds": 1}
            for name in ("here", "there")
        }
        application = {
            "types": {"web": {"options": {"command": ["{python}", str(PLUGIN / "echo_vm.py")]}}},
            "relay": {"driver": "tcp", "listen": self.port, "port": PORT, **relay},
            "healing": {"grace": 1},
        }
        # JSON is YAML.
        (etc / "clouds.yaml").write_text(json.dumps({"clouds": clouds}))
        (etc / "applications" / "web.yaml").write_text(json.dumps(application))
        (etc / "isoneph.conf").write_text(
            f"[api]\nport = {self.api_port}\n[engine]\ninterval = 0.2\nlease = 1\n"
        )

    def start(self, *names: str) -> None:
        """Start these, or both, and return when they serve."""
        for name in names or ("serve", "relay"):
            self.spawn(name)
            wait_for(lambda name=name: self._is_ready(name), f"{name} is ready")  # type: ignore[misc]  # mypy takes no default here

    def spawn(self, name: str) -> subprocess.Popen[bytes]:
        """Start one, and do not wait for it."""
        command = {"serve": ["serve"], "relay": ["relay", "web", "--state", self._state]}[name]
        with self._log(name).open("wb") as log:
            self._processes[name] = subprocess.Popen(
                [ISONEPH, *command, "--config-dir", str(self.directory / "etc")],
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )
        return self._processes[name]

    def kill(self, *names: str) -> None:
        """As ``kill -9`` does it, all at the same moment; the service with its worker."""
        for name in names:
            os.killpg(self._processes[name].pid, signal.SIGKILL)
        for name in names:
            self._processes.pop(name).wait()

    def stop(self, name: str) -> subprocess.Popen[bytes]:
        """Tell it to end; the process."""
        self._processes[name].terminate()
        return self._processes[name]

    def said(self, name: str) -> str:
        """Its log since it was started last."""
        return self._log(name).read_text()

    def close(self) -> None:
        for session in self._sessions:
            session.close()
        self._http.close()
        for process in self._processes.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command with the same configuration."""
        return subprocess.run(
            [ISONEPH, *arguments, "--config-dir", str(self.directory / "etc")],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def create(self) -> str:
        """The id of a new VM that is ready for sessions."""
        answer = self._http.post("/vm?wait=READY&timeout=15", json={"type": "web"})
        assert answer.status_code == 201, answer.text + self.said("serve") + self.said("relay")
        assert answer.json()["state"] in ("READY", "SERVING")
        return str(answer.json()["id"])

    def delete(self, vm_id: str, **query: str) -> httpx.Response:
        return self._http.delete(f"/vm/{vm_id}", params=query)

    def session(self) -> Session:
        """A new session; its VM is known."""
        self._sessions.append(Session(self.port))
        return self._sessions[-1]

    def states(self) -> dict[str, str]:
        """The VMs' states by id."""
        return {vm["id"]: vm["state"] for vm in self._http.get("/vm").json()["vms"]}

    def relay_of(self, vm_id: str) -> Mapping[str, Any]:
        """What the relay says of a VM."""
        found: Mapping[str, Any] = self._http.get(f"/vm/{vm_id}").json()["relay"]
        return found

    def await_states(self, **expected: str) -> None:
        """Until the VMs' states are these and there is no other VM; the ids are the names."""
        deadline = time.monotonic() + PATIENCE
        while (found := self.states()) != expected:
            assert time.monotonic() < deadline, (found, self.said("serve"), self.said("relay"))
            time.sleep(0.05)

    @property
    def _state(self) -> str:
        return str(self.directory / "state")

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(PLUGIN)}

    def _log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def _is_ready(self, name: str) -> bool:
        assert self._processes[name].poll() is None, self.said(name)
        word = {"serve": "ready at", "relay": "ready: tcp relay of web"}[name]
        return word in self.said(name)
