"""Bringing single things to how they are described, whatever kind of thing they are."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from isoneph.core.errors import InvalidRequest, NoCapacity, QuotaExceeded
from isoneph.core.model import Finding, Outcome
from isoneph.plugins.clouds.openstack.errors import Conflict
from isoneph.plugins.clouds.openstack.preparing.run import Found, Run

#: What concerns one thing and not the whole cloud.
REFUSALS = (InvalidRequest, QuotaExceeded, NoCapacity)
#: How often something is made again after another run made the same at the same moment.
_ATTEMPTS = 5
_LONGEST_PAUSE = 1.0


class Failure(Exception):
    """Something that cannot be as it is described; the message says why."""


class Difference(NamedTuple):
    """What an attribute is, and what it should be."""

    found: Any
    wanted: Any


class Thing(ABC):
    """One described thing, of which nothing can be changed once it is there."""

    kind: ClassVar[str]
    #: Whether the cloud never has a second one.
    unique: ClassVar[bool] = False

    def __init__(self, run: Run, name: str) -> None:
        self.run = run
        self.name = name

    @property
    def wanted(self) -> Mapping[str, Any]:
        """What the description says of its attributes, by their names in the cloud's API."""
        return {}

    @abstractmethod
    def find(self) -> Sequence[Found]:
        """All that could be meant."""

    @abstractmethod
    def make(self) -> Found:
        """Make it."""

    @abstractmethod
    def remove(self, found: Found) -> None:
        """Remove what :meth:`make` has just made."""

    def complete(self, found: Found) -> Found:
        """Do what belongs to making it, once it is sure that nobody else made it too."""
        return found

    def is_incomplete(self, found: Found) -> bool:
        """Whether a run broke off between :meth:`make` and :meth:`complete`."""
        return False

    def state(self, found: Found) -> Mapping[str, Any]:
        """Those of the wanted attributes that can be seen, comparable with the wanted."""
        return {name: found.get(name) for name in self.wanted}

    def differences(self, found: Found) -> dict[str, Difference]:
        """The attributes that are not as they are wanted."""
        return {
            name: Difference(value, self.wanted[name])
            for name, value in self.state(found).items()
            if value != self.wanted[name]
        }

    def remark(self, found: Found) -> str:
        """What should be known of it even when it is right."""
        return ""


class Changeable(Thing):
    """One whose attributes can be changed, but for those in ``fixed``."""

    fixed: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def change(self, found: Found, attributes: Mapping[str, Any]) -> None:
        """Set attributes, of those that are not fixed."""


def settle(thing: Thing) -> Generator[Finding, None, Found | None]:
    """Compare one thing with its description and, if the run may, make it so: one finding.

    Returns the thing that is there, for others to build on; None when there is none, or it could
    not be made right. Raises the CloudErrors that concern the whole cloud.
    """
    run = thing.run
    try:
        found, outcome, text = _settled(thing)
    except (Failure, *REFUSALS) as error:
        found, outcome, text = None, Outcome.FAILED, str(error)
    except OSError as error:
        found, outcome, text = None, Outcome.FAILED, f"{error.filename}: {error.strerror}"
    if outcome in {Outcome.MADE, Outcome.CHANGED}:
        run.logger.info("cloud %s: %s %s %s", run.cloud, thing.kind, thing.name, outcome)
    yield run.finding(thing.kind, thing.name, outcome, text)
    return None if outcome is Outcome.FAILED else found


def _only_one(thing: Thing) -> Found | None:
    """The thing, None when it is not there; when there are several, other runs that have made
    it at the same time are given time to take theirs away."""
    for _ in range(_ATTEMPTS if thing.run.change else 1):
        found = thing.find()
        if len(found) <= 1:
            return found[0] if found else None
        _pause(thing)
    ids = ", ".join(str(each.get("id")) for each in found)
    raise Failure(f"there are {len(found)} of this name; remove or rename all but one: {ids}")


def _pause(thing: Thing) -> None:
    if thing.run.change:
        thing.run.clock.pause(random.uniform(0.0, _LONGEST_PAUSE))


def _settled(thing: Thing) -> tuple[Found | None, Outcome, str]:
    found, made = _only_one(thing), False
    if found is None:
        if not thing.run.change:
            return None, Outcome.MISSING, ""
        found, made = _made(thing)
    if made or thing.is_incomplete(found):
        if not thing.run.change:
            return None, Outcome.MISSING, "a run that was to make it broke off"
        return thing.complete(found), Outcome.MADE, ""
    if thing.run.change:
        found = thing.complete(found)
    outcome, text = _compared(thing, found)
    return found, outcome, text


def _made(thing: Thing) -> tuple[Found, bool]:
    """The thing, and whether it was this run that made it.

    Most things in OpenStack need not be unique, and where they must be Neutron looks before it
    makes: whoever sees that another run has made the same in the same moment takes its own away
    again.
    """
    refusal: Exception = Failure("other runs try to make it too; run this again when they are done")
    for _ in range(_ATTEMPTS):
        try:
            made = thing.make()
        except InvalidRequest as error:
            refusal = error
        else:
            if thing.unique or len(thing.find()) <= 1:
                return made, True
            thing.remove(made)
        found = _only_one(thing)
        if found is not None:
            return found, False
        if isinstance(refusal, InvalidRequest) and not isinstance(refusal, Conflict):
            break
        _pause(thing)
    raise refusal


def _compared(thing: Thing, found: Found) -> tuple[Outcome, str]:
    differences = thing.differences(found)
    if not differences:
        return Outcome.RIGHT, thing.remark(found)
    if not thing.run.change:
        return Outcome.DIFFERS, _told(differences)
    changed: dict[str, Difference] = {}
    if isinstance(thing, Changeable):
        changed = {name: each for name, each in differences.items() if name not in thing.fixed}
        if changed:
            thing.change(found, {name: each.wanted for name, each in changed.items()})
    fixed = {name: each for name, each in differences.items() if name not in changed}
    if fixed:
        return Outcome.FAILED, f"{_told(fixed)}; that cannot be changed: remove it by hand"
    return Outcome.CHANGED, _told(changed, done=True)


def _told(differences: Mapping[str, Difference], *, done: bool = False) -> str:
    was, now = ("was", "now") if done else ("is", "should be")
    return "; ".join(
        f"{name.rpartition(':')[2]} {was} {_shown(each.found)}, {now} {_shown(each.wanted)}"
        for name, each in differences.items()
    )


def _shown(value: Any) -> str:
    """A value of the cloud's API in words: pairs as ranges or routes, nothing as ``none``."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join("-".join(each) if isinstance(each, tuple) else each for each in value) or (
            "none"
        )
    return "none" if value is None else str(value)
