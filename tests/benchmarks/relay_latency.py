"""The parts ``latency`` and ``associations`` of the relay's benchmark.

All ways are up at the same time and take turns, so that a busy moment of the machine hits all of
them; what a relay adds is taken within each round, and the median of the rounds is shown.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from relay_ends import SIZE
from relay_part import Part
from relay_ways import (
    DIRECT,
    HAPROXY,
    PLAIN,
    SLEEPING,
    SOCAT_TCP,
    SOCAT_UDP,
    WORKERS,
    LoadClient,
    Way,
    native_note,
    sctp_ways,
)
from tables import Row, mark, table

#: Messages on their way at once.
ONE, SOME, MANY = 1, 64, 256
MOST_ADDED = 60e-6
LEAST_RATE = 30_000
#: Seconds; the CPU that a process takes is counted in these.
CLOCK_TICK = 0.01
#: How much of the time for 1 in flight is spent for a warm-up.
WARM_UP = 0.2


@dataclass(frozen=True, kw_only=True)
class Round:
    """One measurement: seconds, round trips a second, seconds of CPU a round trip."""

    p50: float
    p99: float
    rate: float
    busy: float


class Rounds:
    """The measurements of each way and number in flight."""

    def __init__(self) -> None:
        self._all: dict[tuple[str, int], list[Round]] = {}

    async def measure(self, client: LoadClient, way: Way, in_flight: int, seconds: float) -> None:
        """One more."""
        before = way.busy()
        figures = await client.load(way, in_flight, seconds)
        trips = figures["trips"]
        one = Round(
            p50=figures["p50"],
            p99=figures["p99"],
            rate=trips / figures["seconds"],
            busy=max(way.busy() - before, CLOCK_TICK) / trips,
        )
        self._all.setdefault((way.name, in_flight), []).append(one)

    def of(self, name: str, in_flight: int) -> Round:
        """The medians."""
        rounds = self._all[name, in_flight]
        return Round(
            **{
                figure: median(getattr(one, figure) for one in rounds)
                for figure in ("p50", "p99", "rate", "busy")
            }
        )

    def added(self, way: Way, figure: str) -> float:
        """What a way adds to the direct one, in seconds, with one message in flight."""
        pairs = zip(self._all[way.name, ONE], self._all[way.direct, ONE], strict=True)
        added: list[float] = [getattr(ours, figure) - getattr(of, figure) for ours, of in pairs]
        return median(added)


async def measure_latency(rounds: int, seconds: float) -> Part:
    """Added latency, and round trips a second, with one association."""
    found = Rounds()
    async with sctp_ways() as ways, LoadClient() as client:
        await ways.open_sleeping()
        await ways.open_others()
        for way in ways.ways:
            await client.open(way)
            await client.load(way, SOME, seconds * WARM_UP)
        for _, in_flight, way in itertools.product(range(rounds), (ONE, SOME, MANY), ways.ways):
            await found.measure(client, way, in_flight, seconds)
    names = {way.name: way for way in ways.ways}
    text = table([_way_row(found, way) for way in ways.ways], WAY_HEADER)
    note = (
        f"One association or connection, messages of {SIZE} bytes which are sent back; medians of "
        f"{rounds} rounds of {seconds:g} s, all ways in turn. {native_note()}"
    )
    return Part(note=note, figures=text, rows=[*_added_rows(found, names), *_rate_rows(found)])


WAY_HEADER = (
    *("way", "p50", "p99", "added p50", "added p99"),
    *(f"trips/s, {SOME}", f"trips/s, {MANY}"),
    *(f"CPU a trip, {number}" for number in (ONE, SOME, MANY)),
)


def _way_row(found: Rounds, way: Way) -> Sequence[str]:
    one, some, many = (found.of(way.name, number) for number in (ONE, SOME, MANY))
    added = [_us(found.added(way, figure)) if way.direct else "-" for figure in ("p50", "p99")]
    busy = [f"{each.busy * 1e6:.1f} us" if way.pid else "-" for each in (one, some, many)]
    rates = [f"{some.rate:,.0f}", f"{many.rate:,.0f}"]
    return [way.name, _us(one.p50), _us(one.p99), *added, *rates, *busy]


def _added_rows(found: Rounds, ways: Mapping[str, Way]) -> Iterator[Row]:
    others = [(SOCAT_UDP, "socat, SCTP in UDP"), (HAPROXY, "HAProxy"), (SOCAT_TCP, "socat, TCP")]
    for name in (WORKERS, PLAIN, WORKERS + SLEEPING, PLAIN + SLEEPING):
        ours = found.added(ways[name], "p50")
        for number, (other, words) in enumerate(others):
            theirs = found.added(ways[other], "p50")
            aim = "at most 60 us" if name in (WORKERS, PLAIN) and not number else ""
            met = mark(met=ours <= MOST_ADDED) if aim else ""
            ratio = f"{theirs / ours:.2f}"
            yield (f"{name}: added, median", _us(ours), f"{_us(theirs)} ({words})", ratio, aim, met)


def _rate_rows(found: Rounds) -> Iterator[Row]:
    pairs = list(itertools.product((WORKERS, PLAIN), (SOME, MANY)))
    for name, number in pairs:
        ours, direct = found.of(name, number).rate, found.of(DIRECT, number).rate
        what, ratio = f"{name}: trips/s, {number} in flight", f"{ours / direct:.2f}"
        yield (what, f"{ours:,.0f}", f"{direct:,.0f} (direct)", ratio, "", "")
    for name, number in pairs:
        ours = 1 / found.of(name, number).busy
        theirs = 1 / found.of(HAPROXY, number).busy
        yield (
            f"{name}: trips/s of one core, {number} in flight",
            f"{ours:,.0f}",
            f"{theirs:,.0f} (HAProxy)",
            f"{ours / theirs:.2f}",
            f"over {LEAST_RATE:,}",
            mark(met=ours > LEAST_RATE),
        )


async def measure_associations(count: int, rounds: int, seconds: float) -> Part:
    """Many associations at once: the time to set them up, memory, latency."""
    lines = []
    async with sctp_ways() as ways, LoadClient() as client:
        for way in ways.ways:
            before = way.memory() if way.pid else 0
            took = await client.open(way, count)
            found = Rounds()
            for number in (ONE, SOME) * rounds:
                await found.measure(client, way, number, seconds)
            grown = f"{(way.memory() - before) / count / 1024:.1f} KiB" if way.pid else "-"
            await client.close(way)
            one, some = (found.of(way.name, number) for number in (ONE, SOME))
            times = [f"{took:.2f} s", f"{count / took:,.0f}/s", grown]
            lines.append([way.name, *times, _us(one.p50), _us(one.p99), f"{some.rate:,.0f}"])
    note = (
        f"{count:,} associations of one client process. What is timed begins with the first INIT "
        f"and ends with the last association. The messages go over all associations in turn, "
        f"{ONE} or {SOME} in flight; medians of {rounds} rounds of {seconds:g} s, "
        "one way after the other."
    )
    header = ["way", "set up in", "rate", "memory each", "p50", "p99", f"trips/s, {SOME}"]
    return Part(note=note, figures=table(lines, header), rows=[])


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} us"
