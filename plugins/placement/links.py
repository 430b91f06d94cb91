"""What was measured between clouds and places: the options, and a table to look it up in."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from operator import mul
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from voluptuous import All, Invalid, Optional, Required, Schema

from isoneph.core.errors import PluginError
from isoneph.plugins.placement.values import name, not_negative, positive

#: One measured link, as :data:`LINKS` leaves it.
Link = Mapping[str, Any]


def _check_links(links: list[dict[str, Any]]) -> list[dict[str, Any]]:
    seen = set()
    for index, link in enumerate(links):
        ends = (link["from"], link["to"])
        if ends in seen:
            raise Invalid(f"the link from '{ends[0]}' to '{ends[1]}' is given twice", path=[index])
        seen.add(ends)
        if "rtt_ms" not in link and "mbps" not in link:
            raise Invalid("expected 'rtt_ms', 'mbps' or both", path=[index])
    return links


LINKS = All(
    [
        {
            Required("from", description="a cloud or a place"): name,
            Required("to", description="a cloud or a place"): name,
            Optional("rtt_ms", description="round-trip time in milliseconds"): not_negative,
            Optional("mbps", description="throughput in Mbit/s"): positive,
        }
    ],
    _check_links,
)


class Targets(NamedTuple):
    """Where to, and the share that each place has in the mean; the shares add up to 1."""

    places: Sequence[str]
    shares: Sequence[float]


class Mean(NamedTuple):
    """A figure towards one or more targets; ``missing`` names a target without a measured one,
    which was counted as the worst."""

    value: float
    missing: str | None


class Table:
    """One figure, the lower the better, from everywhere to everywhere. Not safe for threads.

    ``layers`` are lists of links, the first has precedence; within a layer a link counts in
    both directions unless the other one is given too. ``read`` takes the figure from a link,
    or None when the link does not have it.
    """

    def __init__(
        self, layers: Sequence[Sequence[Link]], read: Callable[[Link], float | None]
    ) -> None:
        self._rows: dict[str, dict[str, float]] = {}
        for links in layers:
            known = [(link["from"], link["to"], read(link)) for link in links]
            for source, target, value in known + [(b, a, value) for a, b, value in known]:
                if value is not None:
                    self._rows.setdefault(source, {}).setdefault(target, value)
        #: The worst figure measured anywhere; 0 when nothing was.
        self.worst = max((max(row.values()) for row in self._rows.values()), default=0.0)
        self._kept_places: Sequence[str] = ()
        self._kept: dict[str, tuple[Sequence[float], str | None]] = {}

    def mean(self, cloud: str, targets: Targets) -> Mean:
        """The mean from ``cloud`` to ``targets``. To itself a cloud has 0 unless measured."""
        figures, missing = self._figures(cloud, targets.places)
        return Mean(sum(map(mul, targets.shares, figures)), missing)

    def _figures(self, cloud: str, places: Sequence[str]) -> tuple[Sequence[float], str | None]:
        """The figure to each of ``places``, and one of those that were not measured.

        They are kept until other places are asked for: which clouds have VMs changes less
        often than how many they have.
        """
        if self._kept_places != places:
            self._kept_places, self._kept = places, {}
        if cloud not in self._kept:
            row = {cloud: 0.0} | self._rows.get(cloud, {})
            missing = next((place for place in places if place not in row), None)
            self._kept[cloud] = [row.get(place, self.worst) for place in places], missing
        return self._kept[cloud]


class Tables:
    """Round-trip times in ms, and slowness in ms per kbit: what throughput is the inverse of.

    Slowness is what can be added up and averaged. ``measured`` has precedence.
    """

    def __init__(self, measured: Sequence[Link], configured: Sequence[Link]) -> None:
        layers = (measured, configured)
        self.rtt = Table(layers, lambda link: link.get("rtt_ms"))
        self.slowness = Table(layers, lambda link: 1 / link["mbps"] if "mbps" in link else None)


def parse(file: Path, content: bytes) -> Sequence[Link]:
    """The links in a measurements file. Raises PluginError saying where it is wrong."""
    try:
        data = json.loads(content) if file.suffix == ".json" else yaml.safe_load(content)
        links: Sequence[Link] = Schema(LINKS)(data)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        problem = " ".join(str(error).split())
    except Invalid as invalid:
        where = "".join(f"[{step}]" for step in invalid.path)
        problem = f"{where} {invalid.msg}".lstrip()
    else:
        return links
    raise PluginError(f"measurements file {file} is not usable: {problem}")
