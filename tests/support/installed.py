"""isoneph as its users have it: built from a copy of the checkout, installed in a virtualenv."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]

#: Variables by which the environment of the tests would reach into what they start.
_OURS = ("PYTHON", "PYTEST", "ISONEPH_", "OS_", "VIRTUAL_ENV", "COV_")


def run(command: Sequence[str | Path], cwd: Path, expect: int = 0) -> str:
    """What a program prints on standard output; it must end with the exit code ``expect``."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(_OURS)}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == expect, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


class Distributions:
    """The sdist of a copy of the checkout, the wheel made of that, and one made directly."""

    def __init__(self, directory: Path) -> None:
        #: Built in the checkout itself, setuptools would leave files in it.
        self.source = directory / "source"
        left_out = shutil.ignore_patterns(".*", "*.egg-info", "build", "dist")
        shutil.copytree(CHECKOUT, self.source, symlinks=True, ignore=left_out)
        build = [sys.executable, "-m", "build", "--no-isolation", str(self.source), "--outdir"]
        run([*build, directory / "dist"], cwd=directory)
        (self.sdist,) = (directory / "dist").glob("*.tar.gz")
        (self.wheel,) = (directory / "dist").glob("*.whl")
        run([*build, directory / "direct", "--wheel"], cwd=directory)
        (self.direct_wheel,) = (directory / "direct").glob("*.whl")


class Virtualenv:
    """A virtualenv of its own, without anything of the one that the tests run in."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        run([sys.executable, "-m", "venv", "--without-pip", directory], cwd=directory.parent)
        self.python = directory / "bin" / "python"

    def install(self, *requirements: str) -> None:
        """Install from where pip is configured to, dependencies too."""
        run([*self._pip(), "install", "--quiet", *requirements], cwd=self.directory)

    def check(self) -> None:
        """Have pip check that all dependencies are there and fit."""
        run([*self._pip(), "check"], cwd=self.directory)

    def run(self, program: str, *arguments: str | Path, expect: int = 0) -> str:
        """What a program of the virtualenv prints; it must end with the exit code ``expect``."""
        command = [self.directory / "bin" / program, *arguments]
        return run(command, cwd=self.directory.parent, expect=expect)

    def _pip(self) -> list[str | Path]:
        return [sys.executable, "-m", "pip", "--python", self.python]
