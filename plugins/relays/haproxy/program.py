"""HAProxy's program: where it is, its version, and what it says of a configuration."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from isoneph.core.errors import RelayRefused
from isoneph.plugins.relays.haproxy.runtime import check_version, shown

#: Where it may be although a user's PATH does not say so.
_SYSTEM_DIRECTORIES = "/usr/local/sbin:/usr/sbin:/sbin"


class ProgramUnfit(Exception):
    """There is no HAProxy that could be used; says why."""


class Program:
    """A program of the given name or path. All that it does takes at most ``timeout`` seconds."""

    def __init__(self, name: str, timeout: float) -> None:
        self._name = name
        self._timeout = timeout

    def command(self, file: Path) -> Sequence[str]:
        """What runs it in the foreground. When the one who runs it dies without a word it ends
        gently, and makes room for the next."""
        guard = _find("setpriv")
        ending = [guard, "--pdeathsig", "SIGUSR1"] if guard else []
        return [*ending, self._path, "-db", "-f", str(file)]

    async def version(self) -> str:
        """Its version. Raises ProgramUnfit when it is too old, or is no HAProxy."""
        status, output = await self._run("-v")
        words = output.split()
        if status or words[1:2] != ["version"]:
            raise ProgramUnfit(f"{self._path} does not seem to be HAProxy: {shown(output)}")
        try:
            return check_version(words[2])
        except RelayRefused as error:
            raise ProgramUnfit(str(error)) from None

    async def check(self, file: Path, descriptors: Sequence[int]) -> str:
        """What it prints when it does not take a configuration; nothing when it does."""
        status, output = await self._run("-c", "-f", str(file), descriptors=descriptors)
        return output if status else ""

    @property
    def _path(self) -> str:
        found = _find(self._name)
        if found is None:
            raise ProgramUnfit(f"there is no program {self._name}")
        return found

    async def _run(self, *arguments: str, descriptors: Sequence[int] = ()) -> tuple[int, str]:
        """Its exit status and all that it prints."""
        try:
            process = await asyncio.create_subprocess_exec(
                self._path,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                pass_fds=descriptors,
            )
        except OSError as error:
            raise ProgramUnfit(f"{self._path}: {error.strerror}") from error
        try:
            async with asyncio.timeout(self._timeout):
                output, _ = await process.communicate()
        except TimeoutError:
            raise ProgramUnfit(f"{self._path} does not end within {self._timeout:g} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return process.returncode or 0, output.decode(errors="replace")


def _find(program: str) -> str | None:
    path = f"{os.environ.get('PATH', os.defpath)}:{_SYSTEM_DIRECTORIES}"
    return shutil.which(program, path=path)
