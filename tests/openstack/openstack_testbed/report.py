"""What the program tells a person: progress while it works, and one sentence when it fails."""

from __future__ import annotations

import time


class Failure(Exception):
    """Something that a person has to know or to change; its text says what, and how."""


class Progress:
    """Prints what is being done, with the seconds since the program began. Thread-safe."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the program began."""
        return time.monotonic() - self._began

    def say(self, text: str) -> None:
        """Print one line."""
        print(f"{self.seconds:6.1f} s  {text}", flush=True)
