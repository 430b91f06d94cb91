"""How a VM's process is started: from its type's options to the launcher's command line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from isoneph.core.errors import InvalidRequest, NoCapacity, OutcomeUnknown
from isoneph.core.model import VmRequest
from isoneph.plugins.clouds.local import launch, processes
from isoneph.plugins.clouds.local.home import Home, Record

#: What a VM gets of isoneph's own environment, besides LC_*: nothing that holds secrets.
PASSED_ON = frozenset({"PATH", "HOME", "LANG", "TZ", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV"})


@dataclass(frozen=True, slots=True)
class Start:
    """All that a VM's process is started with, placeholders filled in."""

    command: Sequence[str]
    environment: Mapping[str, str]
    working_directory: Path

    @classmethod
    def of(cls, request: VmRequest, home: Home, record: Record, cloud: str) -> Start:
        """The start of one VM. Raises InvalidRequest when it is sure to fail."""
        options = request.type.options
        own = {
            "id": request.id,
            "name": request.name,
            "application": request.application,
            "type": request.type.name,
            "cloud": cloud,
            "address": record.address,
            "directory": str(home.path),
        }
        places = own | {"python": sys.executable}
        environment = {
            **_passed_on(),
            **{name: text.format(**places) for name, text in options["environment"].items()},
            **{f"ISONEPH_{name.upper()}": value for name, value in own.items()},
        }
        working = Path(options["working_directory"].format(**places)).expanduser().absolute()
        if working != home.path and not working.is_dir():
            raise InvalidRequest(f"working_directory: there is no directory {working}")
        program, *arguments = (word.format(**places) for word in options["command"])
        program = _find_program(program, working, environment["PATH"])
        return cls([program, *arguments], environment, working)

    def run(self, home: Home, timeout: float) -> None:
        """Have the process started, unless somebody did before.

        Raises OSError or NoCapacity when this start surely failed, OutcomeUnknown when the
        launcher does not come back within ``timeout`` seconds.
        """
        launcher = [sys.executable, "-I", "-S", launch.__file__, processes.boot_id()]
        try:
            with home.log.open("ab") as log:
                done = subprocess.run(  # noqa: S603 (running what is configured is the point)
                    [*launcher, str(self.working_directory), *self.command],
                    cwd=home.path,
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    timeout=timeout,
                    check=False,
                )
        except subprocess.TimeoutExpired:
            raise OutcomeUnknown(f"starting a process took over {timeout:g} seconds") from None
        if done.returncode:
            raise NoCapacity(f"cannot start a process: {home.last_line()}")


def _passed_on() -> dict[str, str]:
    passed = {
        name: value
        for name, value in os.environ.items()
        if name in PASSED_ON or name.startswith("LC_")
    }
    return {"PATH": os.defpath} | passed


def _find_program(program: str, working: Path, path: str) -> str:
    """The file to execute: the shell in charge must not take it for a word of its own."""
    by_path = "/" in program
    found = shutil.which(str(working / program) if by_path else program, path=path)
    if found is None:
        where = f"in {working}" if by_path else f"on the PATH {path}"
        raise InvalidRequest(f"command: there is no executable file '{program}' {where}")
    return found
