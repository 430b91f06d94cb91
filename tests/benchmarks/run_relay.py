"""Measures the sctp relay beside direct traffic, socat and HAProxy; writes the docs' table.

``tools/benchmark relay`` runs it. Each part can be measured alone, and replaces its own block of
the table.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from relay_latency import measure_associations, measure_latency
from relay_part import Part, merge
from relay_soak import Failed, measure_exactly, measure_soak

TABLE = Path(__file__).parents[2] / "doc" / "source" / "benchmarks-relay-table.rst"
PARTS = ("latency", "associations", "soak", "exactly")


def main() -> int:
    """Measure, print, write; exit code 1 when an aim was missed or a message was not right."""
    arguments = parse()
    measures: dict[str, Callable[[], Coroutine[Any, Any, Part]]] = {
        "latency": lambda: measure_latency(arguments.rounds, arguments.seconds),
        "associations": lambda: measure_associations(
            arguments.associations, arguments.rounds, arguments.seconds
        ),
        "soak": lambda: measure_soak(arguments.soak, arguments.disturb),
        "exactly": lambda: measure_exactly(arguments.messages, arguments.disturb),
    }
    good = True
    fresh: dict[str, str] = {}
    for name in arguments.only:
        print(f"measuring {name} ...", flush=True)
        load, began = os.getloadavg()[0], time.monotonic()
        try:
            part = asyncio.run(measures[name]())
        except (Failed, TimeoutError) as error:
            print(f"{name}: {str(error) or 'it took too long'}", flush=True)
            good = False
            continue
        good = good and not part.missed
        fresh[name] = part.text(load)
        print(f"{fresh[name]}({time.monotonic() - began:.0f} s)\n", flush=True)
    if not arguments.print_only and fresh:
        merge(TABLE, PARTS, fresh)
        print(f"written to {TABLE.name}")
    return 0 if good else 1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tools/benchmark relay", description="measure the sctp relay"
    )
    parser.add_argument(
        "--only",
        type=_parts,
        default=PARTS,
        metavar="PARTS",
        help=f"some of {','.join(PARTS)}; by default all",
    )
    parser.add_argument(
        "--rounds", type=_positive(int), default=7, help="of latency and associations (7)"
    )
    parser.add_argument(
        "--seconds",
        type=_positive(float),
        default=1.0,
        help="of each measurement in a round (1)",
    )
    parser.add_argument("--associations", type=_positive(int), default=1000, help="at once (1000)")
    parser.add_argument(
        "--soak", type=_positive(float), default=600.0, metavar="SECONDS", help="of the soak (600)"
    )
    parser.add_argument(
        "--messages", type=_positive(int), default=10_000_000, help="of exactly (10000000)"
    )
    parser.add_argument(
        "--disturb",
        type=_positive(float),
        default=3.0,
        metavar="SECONDS",
        help="between two disturbances of the workers in soak and exactly (3)",
    )
    parser.add_argument(
        "--print-only", action="store_true", help="leave the documentation's table as it is"
    )
    return parser.parse_args()


def _parts(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(PARTS):
        raise argparse.ArgumentTypeError(f"no part {', '.join(sorted(unknown))}")
    return [name for name in PARTS if name in names]


def _positive(kind: type[float]) -> Callable[[str], float]:
    def parse_one(text: str) -> float:
        value = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError("expected a positive number")
        return value

    return parse_one


if __name__ == "__main__":
    sys.exit(main())
