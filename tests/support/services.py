"""Real services in processes of their own, over simulated clouds in a file."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
import yaml

from isoneph.plugins.clouds.mock import Simulation

T = TypeVar("T")

PATIENCE = 15.0
PROGRAM = """
import sys
from isoneph.core.config import load_settings
from isoneph.core.service import serve
sys.exit(serve(lambda: load_settings(config_dirs=[sys.argv[1]]).settings))
"""
APPLICATION: Mapping[str, Any] = {
    "types": {"worker": {}},
    "placement": [{"policy": "count-balance"}],
    "victims": [{"policy": "largest-cloud"}],
}


def wait_for(look: Callable[[], T | None], what: str, patience: float = PATIENCE) -> T:
    """What ``look`` finds, as soon as it finds something."""
    deadline = time.monotonic() + patience
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what}: not within {patience:g} s"
        time.sleep(0.01)
    return found


class Service:
    """One service with its configuration directory; the latter may be changed while it runs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state = directory / "clouds.db"
        self.log = directory / "service.log"
        self.process: subprocess.Popen[bytes] | None = None
        (directory / "applications").mkdir(parents=True, exist_ok=True)
        self.write_clouds(uniform={}, quebec={})
        self.write_application("mme")
        self.write_service()

    def write_service(self, **sections: Mapping[str, Any]) -> None:
        """Write ``isoneph.conf``; by default on a free port."""
        content: dict[str, dict[str, Any]] = {
            "api": {"port": 0},
            "engine": {"interval": 0.2, "lease": 1},
        }
        for name, values in sections.items():
            content.setdefault(name, {}).update(values)
        lines = []
        for name, values in content.items():
            lines += [f"[{name}]", *(f"{key} = {value}" for key, value in values.items())]
        (self.directory / "isoneph.conf").write_text("\n".join(lines) + "\n")

    def write_clouds(self, **clouds: Mapping[str, Any]) -> None:
        """Write ``clouds.yaml``: simulated clouds with these options."""
        entries = {
            name: {"driver": "mock", "state": str(self.state), **options}
            for name, options in clouds.items()
        }
        (self.directory / "clouds.yaml").write_text(
            yaml.safe_dump({"clouds": entries}, sort_keys=False)
        )

    def write_application(self, name: str, **content: Any) -> None:
        """Write ``applications/NAME.yaml``."""
        path = self.directory / "applications" / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**APPLICATION, **content}, sort_keys=False))

    def cloud(self, name: str) -> Simulation:
        """The remote control of a cloud; to be closed."""
        return Simulation(self.state, name)

    def spawn(
        self,
        *,
        command: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        """Start the process, and do not wait for it."""
        arguments = [*command, sys.executable, "-c", PROGRAM, str(self.directory)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                arguments,
                stdout=log,
                stderr=log,
                env={**os.environ, **(env or {})},
                pass_fds=pass_fds,
                start_new_session=True,
            )

    def start(self, **how: Any) -> Service:
        """Start the process, and return when it serves."""
        self.spawn(**how)
        wait_for(self._ready, "ready")
        return self

    def urls(self) -> list[str]:
        """Where it said that it is ready, each time."""
        return re.findall(r'ready at ([^\s"]+)', self.said())

    def said(self) -> str:
        """Its log so far."""
        return self.log.read_text()

    def client(self, **options: Any) -> httpx.Client:
        """A client of it; to be closed."""
        return httpx.Client(base_url=self.urls()[-1], **{"timeout": PATIENCE, **options})

    @property
    def pid(self) -> int:
        """The watching process."""
        assert self.process is not None
        return self.process.pid

    def workers(self) -> list[int]:
        """The serving processes."""
        return [child.pid for child in psutil.Process(self.pid).children()]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the watching process."""
        os.kill(self.pid, number)

    def wait(self, patience: float = PATIENCE) -> int:
        """Wait for its end; the exit code."""
        assert self.process is not None
        return self.process.wait(patience)

    def stop(self) -> int:
        """Stop it; the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """Whatever it does, it is gone after this."""
        if self.process is not None and self.process.poll() is None:
            for child in psutil.Process(self.pid).children(recursive=True):
                child.kill()
            self.process.kill()
            self.process.wait()

    def _ready(self) -> list[str]:
        assert self.process is not None
        assert self.process.poll() is None, self.said()
        return self.urls()
