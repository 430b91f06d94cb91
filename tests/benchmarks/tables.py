"""Tables of the documentation's benchmark page."""

from __future__ import annotations

from collections.abc import Sequence

#: What was measured, isoneph's figure, the alternative's, their ratio, the aim, whether it is met.
Row = tuple[str, str, str, str, str, str]
HEADER: Row = ("what", "isoneph", "alternative", "ratio", "aim", "met")


def table(rows: Sequence[Sequence[str]], header: Sequence[str] = HEADER) -> str:
    """A reStructuredText simple table."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    rule = "  ".join("=" * width for width in widths)
    # An empty first cell would continue the row above; an empty last one needs nothing.
    body = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join([rule, body[0], rule, *body[1:], rule, ""])


def mark(*, met: bool) -> str:
    """The last cell of a row that has an aim."""
    return "yes" if met else "no"


def missed(rows: Sequence[Row]) -> bool:
    """Whether an aim was not met."""
    return any(row[5] == "no" for row in rows)
