"""Measures isoneph beside named alternatives in one run, and writes the table of the docs.

``tools/benchmark`` runs it. Times differ from machine to machine; the ratios hold.
"""

from __future__ import annotations

import sys
from pathlib import Path

import decisions
import http_load
from tables import Row, missed, table

TABLE = Path(__file__).parent.parent.parent / "doc" / "source" / "benchmarks-table.rst"
CHOICES_MILLISECONDS = 1.0


def main() -> int:
    """Measure, print, write; exit code 1 when an aim was missed."""
    print("measuring the service ...", flush=True)
    ours = http_load.measure_isoneph()
    print("measuring the Flask-RESTful prototype ...", flush=True)
    theirs = http_load.measure_prototype()
    print("measuring decisions ...", flush=True)
    sizes = [decisions.measure(clouds, vms) for clouds, vms in decisions.SIZES]
    largest = next(one for one in sizes if (one.clouds, one.vms) == (100, 10_000))
    rows = [
        _row(
            "create on an instant cloud, median",
            f"{ours.create * 1e3:.2f} ms",
            f"{theirs.create * 1e3:.2f} ms",
            theirs.create / ours.create,
            "under 2 ms",
            met=ours.create < 0.002,
        ),
        _row(
            f"{http_load.PARALLEL_CREATES} creates at once, {http_load.SLOW_CREATE:g} s each",
            f"{ours.parallel:.2f} s",
            f"{theirs.parallel:.0f} s",
            theirs.parallel / ours.parallel,
            "under 3 s",
            met=ours.parallel < 3,
        ),
        _row(
            "small request (GET type)",
            f"{ours.small:.0f}/s",
            f"{theirs.small:.0f}/s",
            ours.small / theirs.small,
            "3 times",
            met=ours.small / theirs.small >= 3,
        ),
        _row(
            f"GET vm, {http_load.VMS} VMs",
            f"{ours.listing:.0f}/s",
            f"{theirs.listing:.0f}/s",
            ours.listing / theirs.listing,
            "3 times",
            met=ours.listing / theirs.listing >= 3,
        ),
        _row(
            f"GET vm, {http_load.VMS} VMs, {1 / http_load.CHANGE_SECONDS:.0f} changes a second",
            f"{ours.changing:.0f}/s",
            f"{theirs.changing:.0f}/s",
            ours.changing / theirs.changing,
            "3 times",
            met=ours.changing / theirs.changing >= 3,
        ),
        *(_decision_row(one, largest) for one in sizes),
    ]
    text = table(rows)
    print(text)
    TABLE.write_text(text)
    print(f"written to {TABLE.name}")
    return 1 if missed(rows) else 0


def _row(what: str, ours: str, theirs: str, ratio: float, aim: str, *, met: bool) -> Row:
    return (what, ours, theirs, f"{ratio:.1f}", aim, "yes" if met else "no")


def _decision_row(one: decisions.Decision, largest: decisions.Decision) -> Row:
    what = f"decision, {one.clouds} clouds, {one.vms} VMs"
    ours = f"{one.default * 1e3:.3f} ms ({one.four_policies * 1e3:.3f} ms with four policies)"
    theirs = f"{one.prototype * 1e3:.3f} ms"
    aimed = one is largest
    met = ("yes" if one.default * 1e3 < CHOICES_MILLISECONDS else "no") if aimed else ""
    ratio = f"{one.prototype / one.default:.2f}"
    return (what, ours, theirs, ratio, "under 1 ms" if aimed else "", met)


if __name__ == "__main__":
    sys.exit(main())
