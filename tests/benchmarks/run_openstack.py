"""Measures the OpenStack driver beside openstacksdk alone, and writes the table of the docs.

``tools/benchmark openstack`` runs it, on the cloud ``uniform`` of the testbed. Everything is
measured in one run, both sides in turn.
"""

from __future__ import annotations

import sys
from pathlib import Path

from openstack_calls import LISTED, measure
from tables import Row, missed, table

TABLE = Path(__file__).parent.parent.parent / "doc" / "source" / "benchmarks-openstack-table.rst"
CLOUD = "uniform"


def main(clouds: Path) -> int:
    """Measure, print, write; exit code 1 when an aim was missed."""
    print(f"measuring on {CLOUD}, with {LISTED} VMs in the end (some minutes) ...", flush=True)
    figures = measure(clouds, CLOUD)
    rows = [
        _times(
            figures, "create, until it is accepted", "create", "sdk", "under 5 % more", 1 / 1.05
        ),
        _times(figures, f"list {LISTED} VMs: compute.servers()", "list", "sdk", "", 0),
        _times(
            figures, f"list {LISTED} VMs: list_servers()", "list", "sdk_cloud_layer", "5 times", 5
        ),
        _busy(figures, "create, our own CPU", "create", ""),
        _busy(figures, f"list {LISTED} VMs, our own CPU", "list", "5 times"),
        _calls(figures),
    ]
    text = table(rows)
    print(text)
    TABLE.write_text(text)
    print(f"written to {TABLE.name}")
    return 1 if missed(rows) else 0


def _times(
    figures: dict[str, float], what: str, call: str, other: str, aim: str, least: float
) -> Row:
    """A row of seconds; ``least`` is the ratio that meets the aim."""
    ours, theirs = figures[f"{call}_driver_seconds"], figures[f"{call}_{other}_seconds"]
    met = ("yes" if theirs / ours >= least else "no") if aim else ""
    return (what, f"{ours:.2f} s", f"{theirs:.2f} s", f"{theirs / ours:.2f}", aim, met)


def _busy(figures: dict[str, float], what: str, call: str, aim: str) -> Row:
    ours, theirs = figures[f"{call}_driver_busy_seconds"], figures[f"{call}_sdk_busy_seconds"]
    met = ("yes" if theirs / ours >= 5 else "no") if aim else ""
    return (
        what,
        f"{ours * 1e3:.1f} ms",
        f"{theirs * 1e3:.1f} ms",
        f"{theirs / ours:.1f}",
        aim,
        met,
    )


def _calls(figures: dict[str, float]) -> Row:
    """Requests in the life of a VM, beside listings."""
    counts = [figures[f"{kind}_per_vm"] for kind in ("creates", "deletes", "other_calls")]
    told = f"{counts[0]:g} create, {counts[1]:g} delete, {counts[2]:g} other"
    met = "yes" if counts == [1, 1, 0] else "no"
    return ("requests in a VM's life", told, "", "", "1 create, 1 delete", met)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
