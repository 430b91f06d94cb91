"""What a part of the relay's benchmark has found, and the file that the documentation includes."""

from __future__ import annotations

import os
import platform
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from relay_ends import LOOP
from tables import Row, missed, table

_WIDTH = 100
_MARK = re.compile(r"^\.\. part (\w+)\n", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Part:
    """A sentence on what was done, a table of figures, and rows that have an alternative or an
    aim."""

    note: str
    figures: str = ""
    rows: Sequence[Row] = ()

    @property
    def missed(self) -> bool:
        """Whether an aim was not met."""
        return missed(self.rows)

    def text(self, load: float) -> str:
        """As reStructuredText; ``load`` was on the machine before."""
        machine = (
            f"Cores: {os.cpu_count()}, nothing pinned; load at the beginning: {load:.1f}; "
            f"Python {platform.python_version()}, {LOOP}."
        )
        note = textwrap.fill(f"{self.note} {machine}", _WIDTH)
        return "\n".join(
            filter(None, [f"{note}\n", self.figures, table(self.rows) if self.rows else ""])
        )


def merge(file: Path, order: Sequence[str], fresh: Mapping[str, str]) -> None:
    """Replace those parts of the file that were measured; the others stay."""
    kept = _MARK.split(file.read_text())[1:] if file.exists() else []
    parts = {**dict(zip(kept[::2], kept[1::2], strict=True)), **fresh}
    blocks = [f".. part {name}\n\n{parts[name].strip()}\n" for name in order if name in parts]
    file.write_text("\n".join(blocks))
