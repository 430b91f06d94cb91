"""Plays scenarios of :mod:`chaos` by seed: ``play_chaos.py FIRST LAST memory|sqlite``."""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
import traceback
from pathlib import Path

from chaos import Chaos

#: Seconds after which a scenario counts as stuck.
TIMEOUT = 60.0


def play(seed: int, store: str) -> bool:
    """One scenario in a directory of its own; whether what must hold held."""
    with tempfile.TemporaryDirectory(prefix="isoneph-chaos-") as directory:
        scenario = Chaos(seed, Path(directory), store=store)
        try:
            asyncio.run(asyncio.wait_for(scenario.run(), TIMEOUT))
        except Exception:  # noqa: BLE001 (whatever it is, the seed has failed)
            print(f"seed {seed} with the {store} store:")
            traceback.print_exc(file=sys.stdout)
            return False
    return True


def main() -> int:
    """Play them all; exit code 1 when one failed."""
    first, last, store = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    logging.disable(logging.CRITICAL)  # thousands of deaths are noisy
    failed = [seed for seed in range(first, last + 1) if not play(seed, store)]
    if failed:
        print(f"failed seeds: {failed}")
        return 1
    print(f"{last - first + 1} scenarios with the {store} store: each key has exactly one VM")
    return 0


if __name__ == "__main__":
    sys.exit(main())
