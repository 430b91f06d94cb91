"""Placement by round-trip time and throughput."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from voluptuous import All, In, Length, Optional

from isoneph.core.errors import PluginError
from isoneph.core.model import Candidate, PlacementRequest, Weight
from isoneph.core.plugin import Environment, OptionSchema, Placement
from isoneph.plugins.placement.links import LINKS, Tables, Targets, parse
from isoneph.plugins.placement.values import name, not_negative, positive
from isoneph.plugins.placement.words import amount

#: What rounding may add to a mean before it counts as beyond a limit.
ROUNDING = 1 + 1e-9


class LatencyAware(Placement):
    """The cloud nearest to where the traffic is, by measured round-trip time and throughput.

    **Where to.** Towards the ``near`` of the request (a place, a cloud, or the cloud of the VM
    that the caller named); else towards the place in ``towards``; else towards the clouds on
    which the application has its VMs now, each with the share of the VMs that it has. Without
    any of them there is no preference.

    **Figures** come from ``links``, from the file in ``measurements``, or both, then with
    precedence for the file. A link counts in both directions unless the other one is given
    too; what counts is the figure from the candidate *to* the place. A cloud has 0 ms and
    unlimited throughput to itself unless something else is given. The file is YAML, or JSON
    when its name ends so, and holds a list of the same form as ``links``::

        - {from: oslo, to: ran1, rtt_ms: 4.2, mbps: 900}
        - {from: paris, to: ran1, rtt_ms: 31}

    It is read at the start, and again after it has changed; a broken one is reported once,
    and the figures from before stay. Write it elsewhere and rename it into place.

    **Weight.** Candidates are compared by the milliseconds that one exchange takes::

        rtt_ms + throughput_weight / mbps

    ``throughput_weight`` is the amount of data, in kbit, that moves with each round trip: 1
    kbit takes 1 ms at 1 Mbit/s. With 4000 (500 kB) a cloud at 20 ms and 400 Mbit/s counts 20 +
    10 = 30 ms and is as good as one at 26 ms and 1000 Mbit/s. With 0 only the round-trip time
    counts. Towards several clouds the mean of these times is taken.

    **Unknown figures.** A candidate without a measured figure counts as the worst figure
    measured anywhere, or is rejected with ``unknown: reject``. A hard limit always rejects it:
    what was not measured is not known to keep it. Throughput matters only with
    ``throughput_weight`` or ``min_mbps``.

    The hard limits apply to the figure towards the place; towards the application's VMs, to
    the mean of the round-trip times and the harmonic mean of the throughputs.
    """

    schema: ClassVar[OptionSchema] = {
        Optional("links", default=list, description="measured links"): LINKS,
        Optional(
            "measurements",
            description="a file with more links, absolute or relative to the service's working "
            "directory",
        ): All(str, Length(min=1), msg="expected the path of a file"),
        Optional("towards", description="the place that counts when a request names none"): name,
        Optional("max_rtt_ms", description="hard limit: no cloud above it is taken"): not_negative,
        Optional("min_mbps", description="hard limit: no cloud below it is taken"): positive,
        Optional(
            "throughput_weight",
            default=0.0,
            description="kbit that move with each round trip; their time is added to it",
        ): not_negative,
        Optional(
            "unknown",
            default="worst",
            description="whether a cloud without a measured figure is rejected ('reject') or "
            "counts as the worst measured anywhere ('worst')",
        ): In(["reject", "worst"]),
    }

    @classmethod
    def problems(cls, options: Mapping[str, Any]) -> Sequence[str]:
        """Without any figures there is nothing to go by."""
        if options.get("measurements") is None and not options["links"]:
            return ["expected 'links', 'measurements' or both"]
        return ()

    def __init__(self, options: Mapping[str, Any], environment: Environment) -> None:
        super().__init__(options, environment)
        file = options.get("measurements")
        self._file = None if file is None else Path(file)
        self._stamp: tuple[int, ...] = ()
        self._towards: str | None = options.get("towards")
        self._max_rtt: float | None = options.get("max_rtt_ms")
        self._min_mbps: float | None = options.get("min_mbps")
        self._data: float = options["throughput_weight"]
        refuse_unknown = options["unknown"] == "reject"
        self._rtt_matters = refuse_unknown or self._max_rtt is not None
        self._throughput_matters = self._min_mbps is not None or (refuse_unknown and self._data > 0)
        self._spread: tuple[PlacementRequest | None, Targets] = (None, Targets((), ()))
        self._tables = Tables([], options["links"])

    def start(self) -> None:
        """Read the measurements file. Raises PluginError when it cannot be used."""
        self._stamp = ()
        self.refresh()

    def refresh(self) -> None:
        """Read the measurements file again after a change. Raises PluginError when it cannot
        be used; the figures stay as they were."""
        if self._file is None:
            return
        try:
            status = self._file.stat()
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            if stamp == self._stamp:
                return
            content = self._file.read_bytes()
        except OSError as error:
            raise PluginError(
                f"measurements file {self._file} cannot be read: {error.strerror}"
            ) from error
        self._stamp = stamp
        self._tables = Tables(parse(self._file, content), self.options["links"])

    def reject(self, candidate: Candidate, request: PlacementRequest) -> str | None:
        """Figures beyond a hard limit, and unknown ones where they are refused."""
        if not (self._rtt_matters or self._throughput_matters):
            return None
        targets = self._targets(request)
        return self._refuse_rtt(candidate.cloud, targets) or self._refuse_throughput(
            candidate.cloud, targets
        )

    def weigh(self, candidate: Candidate, request: PlacementRequest) -> Weight:
        """The less time an exchange takes, the better."""
        targets = self._targets(request)
        if not targets.places:
            return Weight(0.0, "no VMs yet, and no place to be near")
        tables = self._tables  # a refresh in its thread may put others in their place
        rtt = tables.rtt.mean(candidate.cloud, targets)
        reason = f"{amount(rtt.value)} ms to {_words(targets)}"
        if rtt.missing:
            reason += f" ({rtt.missing} not measured, counts as {amount(tables.rtt.worst)} ms)"
        if not self._data:
            return Weight(0.0 - rtt.value, reason)
        slowness = tables.slowness.mean(candidate.cloud, targets)
        transfer = self._data * slowness.value
        reason += f", {amount(transfer)} ms for {amount(self._data)} kbit"
        if slowness.missing:
            reason += f" (throughput to {slowness.missing} not measured)"
        return Weight(0.0 - rtt.value - transfer, reason)

    def _refuse_rtt(self, cloud: str, targets: Targets) -> str | None:
        if not self._rtt_matters:
            return None
        mean = self._tables.rtt.mean(cloud, targets)
        if mean.missing:
            return f"RTT to {mean.missing} is not measured"
        if self._max_rtt is None or mean.value <= self._max_rtt * ROUNDING:
            return None
        return (
            f"RTT to {_words(targets)} is {amount(mean.value)} ms, "
            f"the limit is {amount(self._max_rtt)} ms"
        )

    def _refuse_throughput(self, cloud: str, targets: Targets) -> str | None:
        if not self._throughput_matters:
            return None
        mean = self._tables.slowness.mean(cloud, targets)
        if mean.missing:
            return f"throughput to {mean.missing} is not measured"
        if self._min_mbps is None or mean.value <= ROUNDING / self._min_mbps:
            return None
        return (
            f"throughput to {_words(targets)} is {amount(1 / mean.value)} Mbit/s, "
            f"the limit is {amount(self._min_mbps)} Mbit/s"
        )

    def _targets(self, request: PlacementRequest) -> Targets:
        place = request.near or self._towards
        if place is not None:
            return Targets((place,), (1.0,))
        # A request is judged for many candidates in a row: its fleet is gone through once.
        known, targets = self._spread
        if known is not request:
            vms = {cloud: use.vms for cloud, use in request.fleet.items() if use.vms}
            total = sum(vms.values())
            targets = Targets(tuple(vms), [count / total for count in vms.values()])
            self._spread = (request, targets)
        return targets


def _words(targets: Targets) -> str:
    places = targets.places
    return places[0] if len(places) == 1 else f"the VMs on {len(places)} clouds"
