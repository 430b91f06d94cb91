"""Installs what the testbed needs: Debian packages, and OpenStack in a virtualenv of its own."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import sys
import sysconfig
from pathlib import Path

from .processes import Processes
from .report import Failure, Progress
from .settings import Settings

HERE = Path(__file__).resolve().parent.parent
REQUIREMENTS = HERE / "requirements.txt"
RABBITMQ_SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
_APT = ("apt-get", "--quiet", "-o", "DPkg::Lock::Timeout=600")
#: Bytes for the virtualenv and for the data, with something to spare.
_VIRTUALENV_SPACE = 1_500_000_000
_DATA_SPACE = 600_000_000


class Installation:
    """The programs of a testbed."""

    def __init__(self, settings: Settings, processes: Processes, progress: Progress) -> None:
        self._directory = settings.directory
        self._processes = processes
        self._progress = progress
        self.digest = _digest()
        #: Named after what is in it: with other requirements it is another one.
        self.virtualenv = self._directory / f"venv-{self.digest}"
        self._mark = self.virtualenv / "complete"

    @property
    def bin(self) -> Path:
        """The directory of OpenStack's programs."""
        return self.virtualenv / "bin"

    def install(self) -> None:
        """Install what is missing.

        Raises:
            Failure: It cannot be installed; with what a person can do.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        complete = self._mark.exists()
        self._require_space(_DATA_SPACE if complete else _VIRTUALENV_SPACE + _DATA_SPACE)
        self._install_packages(_missing_packages(with_compiler=not complete))
        if not complete:
            self._install_virtualenv()
        link = self._directory / "venv"
        if link.resolve() != self.virtualenv:
            link.unlink(missing_ok=True)
            link.symlink_to(self.virtualenv.name)

    def _require_space(self, wanted: int) -> None:
        free = shutil.disk_usage(self._directory).free
        if free < wanted:
            raise Failure(
                f"{self._directory} has {free / 1e9:.1f} GB of free disk space, and the testbed "
                f"needs {wanted / 1e9:.1f} GB: make room, or choose another place with --dir"
            )

    def _install_packages(self, packages: list[str]) -> None:
        if not packages:
            return
        names = " ".join(packages)
        if shutil.which("apt-get") is None:
            raise Failure(f"this is not Debian or its like: install what it calls {names}")
        rights: list[str] = []
        if os.geteuid() != 0:
            if shutil.which("sudo") is None:
                raise Failure(f"you are not root and have no sudo: let root install {names}")
            rights = ["sudo"]
        self._progress.say(f"installing Debian packages: {names}")
        apt = [*rights, "env", "DEBIAN_FRONTEND=noninteractive", *_APT]
        self._processes.run([*apt, "update"], "apt", terminal=True)
        install = [*apt, "install", "--yes", "--no-install-recommends", *packages]
        self._processes.run(install, "apt", terminal=True)

    def _install_virtualenv(self) -> None:
        if self._processes.recorded():
            raise Failure(
                "the requirements have changed, and the clouds of the old ones are up: `down` first"
            )
        self._progress.say(f"installing OpenStack into {self.virtualenv}; this takes minutes")
        began = self._progress.seconds
        self._processes.run([sys.executable, "-m", "venv", self.virtualenv], "pip")
        pip = [self.bin / "python", "-m", "pip", "--disable-pip-version-check", "install"]
        options = ["--quiet", "--no-deps", "--requirement", REQUIREMENTS]
        self._processes.run([*pip, *options], "pip")
        for old in self._directory.glob("venv-*"):
            if old != self.virtualenv:
                shutil.rmtree(old)
        self._mark.touch()
        self._progress.say(f"OpenStack is installed, in {self._progress.seconds - began:.0f} s")


def _digest() -> str:
    """Of what decides what is in the virtualenv, and so of the databases' schema too."""
    python = f"{sys.base_prefix} {sys.version}".encode()
    return hashlib.sha256(REQUIREMENTS.read_bytes() + python).hexdigest()[:12]


def _missing_packages(*, with_compiler: bool) -> list[str]:
    """Debian's names of what is not there; uWSGI has to be compiled."""
    missing = []
    if shutil.which("mariadbd") is None:
        missing.append("mariadb-server")
    if not RABBITMQ_SERVER.exists():
        missing.append("rabbitmq-server")
    if with_compiler:
        if shutil.which("cc") is None:
            missing += ["gcc", "libc6-dev"]
        if not Path(sysconfig.get_path("include"), "Python.h").exists():
            missing.append("python3-dev")
        if importlib.util.find_spec("ensurepip") is None:
            missing.append("python3-venv")
    return missing
