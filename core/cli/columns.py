"""Columns that read well in a table and stay data in JSON and YAML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cliff.columns import FormattableColumn

from isoneph.core.model import HEALTH

Json = Mapping[str, Any]


class Optional(FormattableColumn[Any]):
    """A value that may be missing: null in data, nothing in a table."""

    def human_readable(self) -> str:
        """For a table."""
        return "" if self._value is None else str(self._value)


class Time(FormattableColumn[float | None]):
    """Seconds since the epoch: the local time in a table."""

    def human_readable(self) -> str:
        """For a table."""
        if self._value is None:
            return ""
        local = datetime.fromtimestamp(self._value, UTC).astimezone()
        return local.isoformat(sep=" ", timespec="seconds")


class Names(FormattableColumn[Sequence[str]]):
    """A list of words."""

    def human_readable(self) -> str:
        """For a table."""
        return ", ".join(self._value)


class Pairs(FormattableColumn[Json]):
    """A mapping: ``name=value``, one a line."""

    def human_readable(self) -> str:
        """For a table."""
        return "\n".join(f"{name}={value}" for name, value in self._value.items())


class Addresses(FormattableColumn[Mapping[str, Sequence[str]]]):
    """Addresses by network, one network a line."""

    def human_readable(self) -> str:
        """For a table."""
        return "\n".join(f"{net}={', '.join(found)}" for net, found in self._value.items())


class Limits(FormattableColumn[Mapping[str, Json] | None]):
    """A cloud's limits and what is used of them."""

    def human_readable(self) -> str:
        """For a table."""
        if self._value is None:
            return "not known"
        return "\n".join(
            f"{name}: {quota['used']:g} used of "
            + ("no limit" if quota["limit"] is None else f"{quota['limit']:g}")
            for name, quota in self._value.items()
        )


class RelayedBy(FormattableColumn[Json | None]):
    """How the relay sees a VM; nothing where there is none."""

    def human_readable(self) -> str:
        """For a table."""
        if self._value is None:
            return ""
        seen = self._value
        sessions = "not known" if seen["sessions"] is None else seen["sessions"]
        lines = [f"ready={str(seen['ready']).lower()}", f"sessions={sessions}"]
        lines += [
            f"{name}={Time(seen[name]).human_readable()}"
            for name in ("draining_since", "drain_deadline")
            if seen[name] is not None
        ]
        lines += [seen["text"]] if seen["text"] else []
        return "\n".join([*lines, *(["the relay does not answer"] if seen["stale"] else [])])


class Reasons(FormattableColumn[Sequence[Json]]):
    """What the policies said of a candidate, one a line."""

    def human_readable(self) -> str:
        """For a table."""
        return "\n".join(map(_reason, self._value))


class Score(FormattableColumn[float | None]):
    """A candidate's score; none when it was rejected."""

    def human_readable(self) -> str:
        """For a table."""
        return "" if self._value is None else f"{self._value:.3f}"


class Placement(FormattableColumn[Json]):
    """How a VM came to be where it is: the ranking, and who refused it."""

    def human_readable(self) -> str:
        """For a table."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        for verdict in self._value["ranking"]:
            score = verdict["score"]
            yield f"{verdict['candidate']}: " + ("rejected" if score is None else f"{score:.3f}")
            for reason in verdict["reasons"]:
                yield f"  {_reason(reason)}"
        for refusal in self._value["refusals"]:
            yield f"refused by {refusal['cloud']}: {refusal['code']}: {refusal['text']}"


class Why(Placement):
    """The same in short: what spoke for the cloud, who refused before, and who was not asked."""

    def _lines(self) -> Iterator[str]:
        ranking, refusals = self._value["ranking"], self._value["refusals"]
        if ranking:
            yield "; ".join(reason["text"] for reason in ranking[0]["reasons"])
        for refusal in refusals:
            yield f"{refusal['cloud']} refused: {refusal['code']}: {refusal['text']}"
        refused = {refusal["cloud"] for refusal in refusals}
        for verdict in ranking:
            for reason in verdict["reasons"]:
                if reason["policy"] == HEALTH and verdict["candidate"] not in refused:
                    yield f"{verdict['candidate']} left out: {reason['text']}"


def _reason(reason: Json) -> str:
    share = "" if reason["share"] is None else f" ({reason['share']:+.3f})"
    return f"{reason['policy']}: {reason['text']}{share}"
