"""Conformance suites for placement and victim policies."""
# ruff: noqa: S101 (assert is how a suite speaks)

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import pytest
from voluptuous import Schema

from isoneph.core.model import (
    CLOUD_STATES,
    Candidate,
    CloudUse,
    PlacementRequest,
    Quota,
    VictimCandidate,
    VictimRequest,
    Vm,
    VmState,
    Weight,
)
from isoneph.core.plugin import Placement, Victims
from isoneph.core.testing.schemas import undescribed_options, unfit_defaults

#: Reasons are shown in tables and logs: one short line.
LONGEST_REASON = 250
#: The size that the large scenes have.
CLOUDS = 100
VMS = 10_000


class Names(NamedTuple):
    """The names that a scene is made with."""

    clouds: Sequence[str]
    type: str
    near: str | None


class Scene(NamedTuple):
    """What a policy is given in one decision."""

    request: Any
    candidates: Sequence[Any]


#: What the suites call: a :class:`Placement` or a :class:`Victims`; what they take differs.
Judge = Any
#: What a policy said of every candidate of a scene: the reason to reject it, or its weight.
Verdicts = Sequence[str | Weight]


def judge(policy: Judge, scene: Scene) -> Verdicts:
    """Ask ``policy`` as the core does: rejected candidates are not weighed."""
    return [
        policy.reject(candidate, scene.request) or policy.weigh(candidate, scene.request)
        for candidate in scene.candidates
    ]


class _PolicyConformance(ABC):
    """What holds for both kinds of policies."""

    #: Names that the options of the policy under test know of, so that they come to bear.
    clouds: ClassVar[Sequence[str]] = ("north", "south", "east")
    type_name: ClassVar[str] = "worker"
    near: ClassVar[str | None] = None
    #: Seconds that ``reject`` and ``weigh`` may take together, on average, in the largest scene.
    call_budget: ClassVar[float] = 100e-6

    scenes: ClassVar[Mapping[str, Callable[[Names], Scene]]]

    @abstractmethod
    def make_policy(self) -> Any:
        """A new policy with the options to be tested; :func:`build_plugin` validates them."""

    @pytest.fixture
    def policy(self) -> Iterator[Judge]:
        """The policy under test, started."""
        policy: Judge = self.make_policy()
        policy.start()
        yield policy
        policy.close()

    def scene(self, name: str) -> Scene:
        """The scene of that name, made anew."""
        return self.scenes[name](Names(self.clouds, self.type_name, self.near))

    def test_has_a_summary(self) -> None:
        summary = (type(self.make_policy()).__doc__ or "").strip().partition("\n")[0]
        assert summary, "the first line of the class's docstring is its summary in lists"

    def test_every_option_is_described(self) -> None:
        policy: Judge = self.make_policy()
        assert isinstance(policy.schema, Mapping), "schema is a mapping from markers to validators"
        undescribed = undescribed_options(policy.schema)
        assert not undescribed, f"markers with a description are missing for {undescribed}"

    def test_defaults_pass_their_own_validators(self) -> None:
        problems = unfit_defaults(self.make_policy().schema)
        assert not problems, "; ".join(problems)

    def test_its_schema_accepts_its_options(self) -> None:
        policy: Judge = self.make_policy()
        assert Schema(policy.schema)(dict(policy.options)) == policy.options, (
            "validated options stay as they are when they are validated again"
        )

    def test_verdicts_are_well_formed(self, policy: Judge) -> None:
        for name in self.scenes:
            scene = self.scene(name)
            for candidate in scene.candidates:
                reason = policy.reject(candidate, scene.request)
                if reason is None:
                    weight = policy.weigh(candidate, scene.request)
                    assert isinstance(weight, Weight), f"{name}: weigh returns a Weight"
                    assert isinstance(weight.value, int | float), f"{name}: {weight}"
                    assert math.isfinite(weight.value), f"{name}: {weight} is not finite"
                    reason = weight.reason
                _check_reason(reason, name)

    def test_judging_is_pure(self, policy: Judge) -> None:
        for name in self.scenes:
            scene = self.scene(name)
            verdicts = judge(policy, scene)
            assert scene == self.scene(name), f"{name}: the arguments were changed"
            assert judge(policy, scene) == verdicts, f"{name}: another answer the second time"
            backwards = Scene(scene.request, list(reversed(scene.candidates)))
            assert judge(policy, backwards) == list(reversed(verdicts)), (
                f"{name}: the answer depends on the order of the candidates"
            )

    def test_judging_remembers_nothing(self, policy: Judge) -> None:
        verdicts = {name: judge(policy, self.scene(name)) for name in self.scenes}
        for name in reversed(list(self.scenes)):
            fresh: Judge = self.make_policy()
            fresh.start()
            try:
                assert judge(fresh, self.scene(name)) == verdicts[name], (
                    f"{name}: another answer after other decisions"
                )
            finally:
                fresh.close()

    def test_refreshing_without_a_change_changes_nothing(self, policy: Judge) -> None:
        before = {name: judge(policy, self.scene(name)) for name in self.scenes}
        policy.refresh()
        policy.refresh()
        after = {name: judge(policy, self.scene(name)) for name in self.scenes}
        assert after == before, "another answer after a refresh, with nothing changed"

    def test_judges_while_it_is_refreshed(self, policy: Judge) -> None:
        name = next(iter(self.scenes))
        scene = self.scene(name)
        verdicts = judge(policy, scene)
        with ThreadPoolExecutor(1) as threads:
            refreshes = [threads.submit(policy.refresh) for _ in range(20)]
            while not all(refresh.done() for refresh in refreshes):
                assert judge(policy, scene) == verdicts, "another answer during a refresh"
            for refresh in refreshes:
                refresh.result()

    def test_starts_and_closes_as_often_as_it_is_told(self) -> None:
        policy: Judge = self.make_policy()
        policy.close()
        policy.start()
        policy.start()
        policy.close()
        policy.close()

    def test_is_quick(self, policy: Judge) -> None:
        scene = self.scene("large")
        judge(policy, scene)
        rounds = []
        for _ in range(3):
            begin = time.perf_counter()
            judge(policy, scene)
            rounds.append((time.perf_counter() - begin) / len(scene.candidates))
        assert min(rounds) <= self.call_budget, (
            f"{min(rounds) * 1e6:.0f} us a candidate, the budget is {self.call_budget * 1e6:.0f}"
        )


def _check_reason(reason: object, scene: str) -> None:
    assert isinstance(reason, str), f"{scene}: {reason!r} is not a reason in words"
    assert reason.strip() == reason, f"{scene}: {reason!r} has blanks around it"
    assert reason, f"{scene}: an empty reason"
    assert reason.isprintable(), f"{scene}: {reason!r} is not one line of printable text"
    assert len(reason) <= LONGEST_REASON, f"{scene}: {reason!r} is too long"


def _use(vms: int, type_name: str, *, limit: float | None = None) -> CloudUse:
    return CloudUse(
        vms=vms,
        in_flight=min(vms, 1),
        by_type={type_name: vms} if vms else {},
        limits={"instances": Quota(limit=limit, used=vms), "cores": Quota(limit=None, used=vms)},
        planned={"instances": 1} if vms else {},
    )


RESOURCES: Mapping[str, float] = {"instances": 1, "cores": 2, "ram": 2048}


def _placement(names: Names, uses: Mapping[str, CloudUse], **changes: Any) -> Scene:
    given: dict[str, Any] = {
        "type": names.type,
        "near": names.near,
        "fleet": uses,
    }
    request = PlacementRequest(application="conformance", **(given | changes))
    candidates = [
        Candidate(cloud=cloud, position=position, use=use, resources=RESOURCES)
        for position, (cloud, use) in enumerate(uses.items())
    ]
    return Scene(request, candidates)


def _busy(names: Names) -> Mapping[str, CloudUse]:
    return {c: _use(7 * i, names.type, limit=8 * i) for i, c in enumerate(names.clouds)}


def _many(names: Names) -> Mapping[str, CloudUse]:
    clouds = [*names.clouds, *(f"cloud-{number}" for number in range(CLOUDS))][:CLOUDS]
    return {cloud: _use(VMS // CLOUDS, names.type, limit=VMS) for cloud in clouds}


def _strange_limits(names: Names) -> Mapping[str, CloudUse]:
    limits: Sequence[Mapping[str, Quota] | None] = [
        None,
        {},
        {"instances": Quota(limit=2, used=5)},
        {"instances": Quota(limit=0), "licences": Quota(limit=1.5, used=0.75)},
    ]
    return {
        f"{names.clouds[0]}-{number}": CloudUse(vms=1, limits=limit, planned={"licences": 1})
        for number, limit in enumerate(limits)
    }


class PlacementConformance(_PolicyConformance):
    """What every placement policy keeps to.

    Inherit it in a class whose name begins with ``Test`` and say how the policy is made; set
    ``clouds``, ``type_name`` and ``near`` to names that its options know::

        class TestMyPolicy(PlacementConformance):
            clouds = ("oslo", "paris")

            def make_policy(self):
                return build_plugin(MyPolicy, {"favourite": "oslo"})
    """

    scenes: ClassVar[Mapping[str, Callable[[Names], Scene]]] = {
        "first VM": lambda names: _placement(names, {c: CloudUse() for c in names.clouds}),
        "fleet unknown": lambda names: Scene(
            PlacementRequest(application="conformance", type=names.type),
            [Candidate(cloud=names.clouds[0], position=0, use=CloudUse())],
        ),
        "busy": lambda names: _placement(names, _busy(names)),
        "near nothing": lambda names: _placement(names, _busy(names), near=None),
        "near the unknown": lambda names: _placement(names, _busy(names), near="nowhere"),
        "near itself": lambda names: _placement(names, _busy(names), near=names.clouds[0]),
        "unknown type": lambda names: _placement(names, _busy(names), type="unheard-of"),
        "unknown clouds": lambda names: _placement(names, {"x": _use(1, "y"), "z": CloudUse()}),
        "strange limits": lambda names: _placement(names, _strange_limits(names)),
        "large": lambda names: _placement(names, _many(names)),
    }

    @abstractmethod
    def make_policy(self) -> Placement:
        """A new policy with the options to be tested; :func:`build_plugin` validates them."""


def _victims(uses: Mapping[str, CloudUse], vms: Sequence[Vm]) -> Scene:
    positions = {cloud: position for position, cloud in enumerate(uses)}
    return Scene(
        VictimRequest(application="conformance", fleet=uses),
        [VictimCandidate(vm=vm, position=positions[vm.cloud], use=uses[vm.cloud]) for vm in vms],
    )


def _vm(number: int, cloud: str, type_name: str, **changes: Any) -> Vm:
    given: dict[str, Any] = {"state": VmState.ACTIVE, "placed_at": 1_700_000_000.0 + number}
    return Vm(
        id=f"00000000-0000-4000-8000-{number:012}",
        application="conformance",
        type=type_name,
        cloud=cloud,
        cloud_id=str(number),
        name=f"conformance-{number}",
        **(given | changes),
    )


def _even(names: Names, uses: Mapping[str, CloudUse]) -> Scene:
    owners = [cloud for cloud, use in uses.items() for _ in range(use.vms)]
    return _victims(uses, [_vm(i, cloud, names.type) for i, cloud in enumerate(owners)])


def _every_state(names: Names) -> Scene:
    cloud = names.clouds[0]
    states = sorted(CLOUD_STATES)
    uses = {cloud: _use(len(states), names.type)}
    return _victims(uses, [_vm(i, cloud, names.type, state=s) for i, s in enumerate(states)])


def _with_sessions(names: Names) -> Scene:
    request, candidates = _even(names, _busy(names))
    counts = (None, 0, 1, 10**9)
    return Scene(
        request,
        [replace(one, sessions=counts[i % len(counts)]) for i, one in enumerate(candidates)],
    )


def _mangled(names: Names) -> Scene:
    cloud = names.clouds[0]
    times = (0.0, -1.0, 1e300, 1_700_000_000.000001)
    uses = {cloud: CloudUse()}
    return _victims(uses, [_vm(i, cloud, "", placed_at=at) for i, at in enumerate(times)])


class VictimsConformance(_PolicyConformance):
    """What every victim policy keeps to; inherit it as :class:`PlacementConformance`."""

    scenes: ClassVar[Mapping[str, Callable[[Names], Scene]]] = {
        "one VM": lambda names: _even(names, {names.clouds[0]: _use(1, names.type)}),
        "busy": lambda names: _even(names, _busy(names)),
        "every state": _every_state,
        "with sessions": _with_sessions,
        "mangled tags": _mangled,
        "fleet unknown": lambda _: Scene(
            VictimRequest(application="conformance"),
            [VictimCandidate(vm=_vm(1, "x", "y"), position=0, use=CloudUse())],
        ),
        "large": lambda names: _even(names, _many(names)),
    }

    @abstractmethod
    def make_policy(self) -> Victims:
        """A new policy with the options to be tested; :func:`build_plugin` validates them."""
