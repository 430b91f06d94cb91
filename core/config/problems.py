"""What is wrong with a configuration, gathered over all files: one line for each mistake."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from isoneph.core.config.masking import mask_urls
from isoneph.core.errors import ConfigInvalid

#: Where a value stands in a file: the keys and list positions that lead to it.
KeyPath = tuple[str | int, ...]

_PLAIN_KEY = re.compile(r"[\w.@/:+-]+")
_LONGEST_KEY = 80
_LONGEST_TEXT = 1000


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake and its place; ``str`` gives the line that an operator reads."""

    file: str
    text: str
    line: int | None = None
    path: KeyPath = ()

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        where = f"{show_path(self.path)}: " if self.path else ""
        return f"{place}: {where}{_one_line(self.text)}"


class Problems:
    """A growing collection of problems, in the order of the files and their lines."""

    def __init__(self) -> None:
        self._found: dict[Problem, None] = {}

    def __len__(self) -> int:
        return len(self._found)

    def add(self, file: str, text: str, *, line: int | None = None, path: KeyPath = ()) -> None:
        """Note a problem; the same one twice counts once."""
        self._found[Problem(file, text, line, path)] = None

    def lines(self) -> Sequence[str]:
        """One line for each problem: files as they were first met, lines in order."""
        files: dict[str, int] = {}
        for problem in self._found:
            files.setdefault(problem.file, len(files))
        found = sorted(self._found, key=lambda each: (files[each.file], each.line or 0))
        return tuple(map(str, found))

    def raise_any(self) -> None:
        """Raise :class:`ConfigInvalid` with every problem, if there is one."""
        if self._found:
            raise ConfigInvalid(self.lines())


def show_path(path: KeyPath) -> str:
    """``path`` as operators write it: ``placement[0].weight``."""
    shown = ""
    for key in path:
        if isinstance(key, int):
            shown += f"[{key}]"
        else:
            plain = _PLAIN_KEY.fullmatch(key) and len(key) <= _LONGEST_KEY
            shown += ("." if shown else "") + (key if plain else json.dumps(key[:_LONGEST_KEY]))
    return shown


def unknown(what: str, word: str, known: Iterable[str]) -> str:
    """That ``word`` is none of ``known``, which it could be instead, and the nearest of them."""
    names = [str(name) for name in known]
    text = f"unknown {what}"
    if names:
        text += f"; expected one of {', '.join(names)}"
    near = nearest(word, names)
    return f"{text}; did you mean '{near}'?" if near else text


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The one of ``known`` that ``word`` was most likely meant to be, if any is near."""
    by_folded = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(word[:_LONGEST_KEY].casefold(), by_folded, n=1)
    return by_folded[near[0]] if near else None


def _one_line(text: str) -> str:
    printable = "".join(char if char.isprintable() else " " for char in text)
    return mask_urls(" ".join(printable.split()))[:_LONGEST_TEXT]
