"""A file on its way to Glance."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from isoneph.plugins.clouds.openstack.preparing.run import Run

_BLOCK = 1 << 20
_MIB = 1 << 20
#: Seconds between two lines of the log about it.
_TELL_SECONDS = 5.0


class Upload:
    """Reads a file as an HTTP library wants to, and logs how far it has come."""

    def __init__(self, path: Path, run: Run) -> None:
        self._file = path.open("rb")
        self._name = path.name
        self._run = run
        self._size = path.stat().st_size
        self._sent = 0
        self._tell_at = run.clock.monotonic() + _TELL_SECONDS

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        while block := self.read(_BLOCK):
            yield block

    def read(self, size: int = -1) -> bytes:
        """The next bytes, at most ``size``."""
        block = self._file.read(size)
        self._sent += len(block)
        now = self._run.clock.monotonic()
        if now >= self._tell_at:
            self._tell_at = now + _TELL_SECONDS
            self._run.logger.info(
                "cloud %s: %s: %.0f of %.0f MiB sent",
                self._run.cloud,
                self._name,
                self._sent / _MIB,
                self._size / _MIB,
            )
        return block
