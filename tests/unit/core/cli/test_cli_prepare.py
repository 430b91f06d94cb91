"""``isoneph cloud prepare`` with a driver that has a list of what is there."""

from __future__ import annotations

import csv
import io
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
from voluptuous import Optional

from cli_runs import Isoneph
from configured import BareCloud, FakeRegistry
from isoneph.core.cli import preparing
from isoneph.core.errors import PlacementFailed, Unreachable
from isoneph.core.model import Finding, Outcome, Preparation, Ranking
from isoneph.core.plugin import Cloud, OptionSchema, Plugin


@dataclass
class World:
    """What is there and what goes wrong, by cloud; what an administrator alone may make begins
    with ``admin``. ``seen`` are the preparations begun, and whether with an administrator."""

    there: dict[str, set[str]] = field(default_factory=dict)
    faults: dict[str, Exception] = field(default_factory=dict)
    seen: list[tuple[str, Preparation, bool]] = field(default_factory=list)
    open: list[str] = field(default_factory=list)


world = World()


class HouseCloud(BareCloud):
    """Things are houses; nothing more is known of them than their names."""

    prepare_schema: ClassVar[OptionSchema] = {Optional("houses", default=list): [str]}

    @classmethod
    def preparation_problems(
        cls, options: Mapping[str, Any], clouds: Sequence[str]
    ) -> Sequence[str]:
        return ()

    def start(self) -> None:
        world.open.append(self.environment.name)

    def close(self) -> None:
        world.open.remove(self.environment.name)

    def prepare(self, preparation: Preparation, admin: Cloud | None = None) -> Iterator[Finding]:
        name = self.environment.name
        world.seen.append((name, preparation, admin is not None))
        there = world.there.setdefault(name, set())
        for house in preparation.options.get("houses", ()):
            yield self._finding(house, self._settled(house, preparation, there, admin))
        if name in world.faults:
            raise world.faults[name]
        for house in sorted(there - set(preparation.options.get("houses", ()))):
            if preparation.prune:
                there.remove(house)
            yield self._finding(house, Outcome.REMOVED if preparation.prune else Outcome.EXTRA)

    def _settled(
        self, house: str, preparation: Preparation, there: set[str], admin: Cloud | None
    ) -> Outcome:
        if house in there:
            return Outcome.RIGHT
        if not preparation.change:
            return Outcome.MISSING
        if house.startswith("admin") and admin is None:
            return Outcome.FAILED
        there.add(house)
        return Outcome.MADE

    def _finding(self, house: str, outcome: Outcome) -> Finding:
        text = {Outcome.FAILED: "no right", Outcome.EXTRA: "not described"}.get(outcome, "")
        if house == "noted":
            text = "mind the step"
        return Finding(
            cloud=self.environment.name, kind="house", name=house, outcome=outcome, text=text
        )


class Houses(FakeRegistry):
    plugins: ClassVar[Mapping[str, Mapping[str, type[Plugin]]]] = {
        **FakeRegistry.plugins,
        "clouds": {"house": HouseCloud, "bare": BareCloud},
    }


CLOUDS = "clouds:\n  uniform: {driver: house}\n  quebec: {driver: house}\n  old: {driver: bare}\n"
APPLICATION = """\
types: {worker: {options: {script: s}}}
clouds: [quebec, uniform]
prepare: {house: {houses: [red, admin-blue]}}
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    world.__init__()  # type: ignore[misc]  # everything as in the beginning
    monkeypatch.setattr(preparing, "Registry", Houses)
    directory = tmp_path / "etc"
    (directory / "applications").mkdir(parents=True)
    (directory / "clouds.yaml").write_text(CLOUDS)
    (directory / "applications" / "mme.yaml").write_text(APPLICATION)
    (tmp_path / "admin.yaml").write_text(CLOUDS)
    monkeypatch.setenv("ISONEPH_CONFIG_DIR", str(directory))
    return directory


def rows(out: str) -> list[str]:
    return [" ".join(each.values()).strip() for each in json.loads(out or "[]")]


def test_a_check_shows_what_is_missing_and_changes_nothing(isoneph: Isoneph, site: Path) -> None:
    world.there["uniform"] = {"red"}
    result = isoneph("cloud", "prepare", "mme", "--check", "-f", "json")
    assert result.code == 1
    assert rows(result.out) == [
        "quebec house red missing",
        "quebec house admin-blue missing",
        "uniform house admin-blue missing",
    ]
    assert result.err == ("isoneph: quebec: 2 missing\nisoneph: uniform: 1 right, 1 missing\n")
    assert world.there == {"uniform": {"red"}, "quebec": set()}
    name, preparation, _ = world.seen[0]
    assert name in {"quebec", "uniform"}
    assert (preparation.application, preparation.change, preparation.prune) == ("mme", False, False)
    assert preparation.types["worker"].options == {"script": "s"}
    assert world.open == []


def test_what_could_not_be_made_fails_and_an_administrator_makes_it(
    isoneph: Isoneph, site: Path
) -> None:
    result = isoneph("cloud", "prepare", "mme", "-f", "json")
    assert (result.code, rows(result.out)[:2]) == (
        1,
        ["quebec house red made", "quebec house admin-blue failed no right"],
    )
    admin = str(site.parent / "admin.yaml")
    result = isoneph("cloud", "prepare", "mme", "--admin", admin, "-f", "json")
    assert (result.code, rows(result.out)) == (
        0,
        ["quebec house admin-blue made", "uniform house admin-blue made"],
    )
    again = isoneph("cloud", "prepare", "mme", "--check", "-f", "json")
    assert (again.code, rows(again.out)) == (0, [])
    assert world.open == []


def test_what_is_right_is_shown_when_asked_for_or_when_there_is_something_to_say(
    isoneph: Isoneph, site: Path
) -> None:
    (site / "applications" / "mme.yaml").write_text(APPLICATION.replace("red", "noted"))
    world.there.update(quebec={"noted", "admin-blue"}, uniform={"noted", "admin-blue"})
    some = isoneph("cloud", "prepare", "mme", "-f", "json", "--cloud", "quebec")
    assert rows(some.out) == ["quebec house noted right mind the step"]
    everything = isoneph("cloud", "prepare", "mme", "-f", "csv", "--all")
    assert len(list(csv.reader(io.StringIO(everything.out)))) == 5
    assert everything.code == 0


def test_what_is_extra_does_not_fail_and_is_pruned_when_asked_for(
    isoneph: Isoneph, site: Path
) -> None:
    world.there.update(quebec={"red", "admin-blue", "old"}, uniform={"red", "admin-blue"})
    result = isoneph("cloud", "prepare", "mme", "-f", "json")
    assert (result.code, rows(result.out)) == (0, ["quebec house old extra not described"])
    assert "--prune removes of what is extra all that isoneph made" in result.err
    result = isoneph("cloud", "prepare", "mme", "--prune", "-f", "json")
    assert (result.code, rows(result.out)) == (0, ["quebec house old removed"])
    assert "--prune" not in result.err


def test_one_cloud_that_is_down_does_not_keep_the_other_from_being_prepared(
    isoneph: Isoneph, site: Path
) -> None:
    world.faults["quebec"] = Unreachable("nobody there")
    result = isoneph(
        "cloud", "prepare", "mme", "--cloud", "quebec", "--cloud", "uniform", "-f", "json"
    )
    assert result.code == 1
    assert "quebec cloud quebec failed unreachable: nobody there" in rows(result.out)
    assert world.there["uniform"] == {"red"}
    assert world.open == []


def test_a_driver_s_own_fault_is_told_without_a_traceback(isoneph: Isoneph, site: Path) -> None:
    world.faults["quebec"] = PlacementFailed("x", ranking=Ranking(verdicts=()), refusals=())
    result = isoneph("cloud", "prepare", "mme", "-f", "json", "--log-file", str(site / "log"))
    assert "quebec cloud quebec failed the driver failed: PlacementFailed" in rows(result.out)
    assert "Traceback" in (site / "log").read_text()


def test_clouds_without_anything_to_prepare_are_named(isoneph: Isoneph, site: Path) -> None:
    (site / "applications" / "bare.yaml").write_text("types: {worker: {}}\nclouds: [old]\n")
    admin = str(site.parent / "admin.yaml")
    result = isoneph("cloud", "prepare", "bare", "-f", "json", "--admin", admin)
    assert (result.code, rows(result.out)) == (0, [])
    assert result.err == "isoneph: old: driver bare has nothing to prepare\n"


def test_without_a_description_the_driver_is_asked_all_the_same(
    isoneph: Isoneph, site: Path
) -> None:
    (site / "applications" / "mme.yaml").write_text("types: {worker: {}}\nclouds: [quebec]\n")
    result = isoneph("cloud", "prepare", "mme", "-f", "json")
    assert (result.code, result.err) == (0, "isoneph: quebec: nothing is described\n")
    assert [name for name, *_ in world.seen] == ["quebec"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mem"], "'mem': unknown application; expected one of mme; did you mean 'mme'?"),
        (["mme", "--cloud", "old"], "'old': unknown cloud; expected one of quebec, uniform"),
        (["mme", "--check", "--prune"], "not allowed with argument"),
        (["mme", "--admin", "/nowhere.yaml"], "/nowhere.yaml: no such file"),
    ],
)
def test_wrong_usage(isoneph: Isoneph, site: Path, arguments: list[str], said: str) -> None:
    result = isoneph("cloud", "prepare", *arguments)
    assert (result.code, result.out) == (2, "")
    assert said in result.err
    assert world.seen == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("clouds: {uniform: {driver: house}}", ":1: clouds: unknown cloud 'quebec'; expected one"),
        (
            CLOUDS.replace("house", "bare"),
            ": clouds.quebec.driver: expected house, as in clouds.yaml, found bare",
        ),
        (CLOUDS.replace("house", "horse"), ":2: clouds.uniform.driver: no clouds plugin 'horse'"),
        ("clouds: [", "not valid YAML"),
    ],
)
def test_a_wrong_file_of_the_administrator_s(
    isoneph: Isoneph, site: Path, text: str, said: str
) -> None:
    file = site.parent / "admin.yaml"
    file.write_text(text)
    result = isoneph("cloud", "prepare", "mme", "--admin", str(file))
    assert (result.code, result.out) == (2, "")
    assert f"{file}" in result.err
    assert said in result.err


def test_other_clouds_in_the_administrator_s_file_are_not_looked_at(
    isoneph: Isoneph, site: Path
) -> None:
    file = site.parent / "admin.yaml"
    file.write_text(f"{CLOUDS}  tango: {{driver: horse}}\n")
    assert isoneph("cloud", "prepare", "mme", "--admin", str(file)).code == 0
    assert {with_admin for *_, with_admin in world.seen} == {True}


def test_broken_off_each_cloud_ends_with_what_it_is_at(
    isoneph: Isoneph, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, honest = threading.Event(), preparing._Run.carry_out

    def interrupt(self: Any, stop: threading.Event) -> None:
        if self.name == "quebec":
            begun.wait(10)
            raise KeyboardInterrupt
        begun.set()
        assert stop.wait(10), "nobody told it to stop"
        honest(self, stop)

    monkeypatch.setattr(preparing._Run, "carry_out", interrupt)
    result = isoneph("cloud", "prepare", "mme", "-f", "json")
    assert (result.code, rows(result.out)) == (130, ["uniform house red made"])
    assert result.err == (
        "isoneph: interrupted; run it again to go on\n"
        "isoneph: quebec: broken off\n"
        "isoneph: uniform: 1 made, broken off\n"
    )
    assert world.there == {"uniform": {"red"}}
    assert world.open == []


def test_broken_off_a_check_does_not_say_that_it_has_failed(
    isoneph: Isoneph, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = preparing._Run.carry_out

    def interrupt(self: Any, stop: threading.Event) -> None:
        honest(self, stop)
        raise KeyboardInterrupt

    monkeypatch.setattr(preparing._Run, "carry_out", interrupt)
    result = isoneph("cloud", "prepare", "mme", "--check", "--cloud", "quebec", "-f", "json")
    assert (result.code, len(rows(result.out))) == (130, 2)
    assert result.err.endswith("isoneph: quebec: 2 missing\n")
