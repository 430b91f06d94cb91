"""A sign of life on a terminal while something takes long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

#: Seconds before the first sign, so that what is quick shows none, and between two.
INTERVAL = 1.0
_CLEAR_LINE = "\r\x1b[K"


@contextmanager
def progress(stream: TextIO, text: Callable[[], str], *, enabled: bool = True) -> Iterator[None]:
    """Keep one line on ``stream`` that tells ``text`` and the seconds so far, then take it away.

    ``text`` is called from another thread. Nothing is written where ``stream`` is no terminal.
    """
    if not (enabled and stream.isatty()):
        yield
        return
    done = threading.Event()
    ticker = threading.Thread(target=_tick, args=(stream, text, done), daemon=True)
    ticker.start()
    try:
        yield
    finally:
        done.set()
        ticker.join()


def _tick(stream: TextIO, text: Callable[[], str], done: threading.Event) -> None:
    begun = time.monotonic()
    while not done.wait(INTERVAL):
        stream.write(f"{_CLEAR_LINE}{text()}: {time.monotonic() - begun:.0f} s")
        stream.flush()
    stream.write(_CLEAR_LINE)
    stream.flush()
