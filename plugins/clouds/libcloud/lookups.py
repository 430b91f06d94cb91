"""Finding what the options name in a cloud: by id or by name, and remembered."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from isoneph.core.plugin import Clock
from isoneph.plugins.clouds.libcloud.values import WrongOption

#: Seconds for which a name that is not there is not looked for again.
PATIENCE = 60.0
_SHOWN = 8


class Entry(NamedTuple):
    """Something in a cloud that options can name; ``thing`` is libcloud's object for it."""

    id: str
    name: str
    thing: Any = None


class Catalogue:
    """All things of one kind in one cloud, read when the first of them is looked for.

    Safe for threads; two that look at once may both read.
    """

    def __init__(self, kind: str, option: str, clock: Clock) -> None:
        self._kind = kind
        self._option = option
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: Sequence[Entry] = ()
        self._read_at = float("-inf")

    def find(self, wanted: str, read: Callable[[], Iterable[Entry]]) -> Entry:
        """What is called ``wanted``; ``read`` lists everything, and is only called when it is
        not known.

        Raises WrongOption when there is no such thing, or several.
        """
        found = self._called(wanted)
        if not found:
            self._take(read())
            found = self._called(wanted)
        if not found:
            text = f"there is no {self._kind} '{wanted}'{self._hint(wanted)}"
            raise WrongOption(self._option, text)
        if len(found) > 1:
            ids = ", ".join(entry.id for entry in found[:_SHOWN])
            text = f"{len(found)} are called '{wanted}': say which one by its id: {ids}"
            raise WrongOption(self._option, text)
        return found[0]

    def name_of(self, cloud_id: str, read: Callable[[], Iterable[Entry]]) -> str:
        """The name of what has this id, or the id when it has none that tells it from others."""
        with self._lock:
            names = {entry.id: entry.name for entry in self._entries}
            due = self._clock.monotonic() - self._read_at > PATIENCE
        if cloud_id not in names and due:
            self._take(read())
            return self.name_of(cloud_id, read)
        name = names.get(cloud_id) or cloud_id
        return name if list(names.values()).count(name) == 1 else cloud_id

    def forget(self) -> None:
        """Read everything anew the next time that something is looked for."""
        with self._lock:
            self._entries, self._read_at = (), float("-inf")

    def _take(self, entries: Iterable[Entry]) -> None:
        taken = tuple(entries)
        with self._lock:
            self._entries, self._read_at = taken, self._clock.monotonic()

    def _called(self, wanted: str) -> Sequence[Entry]:
        with self._lock:
            entries = self._entries
        by_id = [entry for entry in entries if entry.id == wanted]
        return by_id or [entry for entry in entries if entry.name == wanted]

    def _hint(self, wanted: str) -> str:
        names = sorted({entry.name or entry.id for entry in self._entries})
        near = difflib.get_close_matches(wanted, names, n=1)
        if near:
            return f"; did you mean '{near[0]}'?"
        return f"; there are {', '.join(names[:_SHOWN])}" if names else ""
