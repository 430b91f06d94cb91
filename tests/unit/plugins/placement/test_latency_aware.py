from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from voluptuous import MultipleInvalid, Schema

from isoneph.core.errors import PluginError
from isoneph.core.model import Candidate, CloudUse, PlacementRequest, Weight
from isoneph.core.testing import build_plugin
from isoneph.plugins.placement.latency_aware import LatencyAware

LINKS: list[Mapping[str, Any]] = [
    {"from": "oslo", "to": "ran1", "rtt_ms": 20, "mbps": 400},
    {"from": "paris", "to": "ran1", "rtt_ms": 26, "mbps": 1000},
    {"from": "oslo", "to": "paris", "rtt_ms": 30, "mbps": 100},
    {"from": "lima", "to": "paris", "rtt_ms": 200},
]


def policy(**options: Any) -> LatencyAware:
    return build_plugin(LatencyAware, {"links": LINKS} | options)


def at(cloud: str) -> Candidate:
    return Candidate(cloud=cloud, position=0, use=CloudUse())


def request(near: str | None = None, /, **fleet: int) -> PlacementRequest:
    uses = {cloud: CloudUse(vms=vms) for cloud, vms in fleet.items()}
    return PlacementRequest(application="shop", type="worker", near=near, fleet=uses)


def test_prefers_the_lower_round_trip_time() -> None:
    assert policy().weigh(at("oslo"), request("ran1")) == Weight(-20, "20 ms to ran1")
    assert policy().weigh(at("paris"), request("ran1")) == Weight(-26, "26 ms to ran1")


def test_near_goes_before_towards_and_towards_before_the_fleet() -> None:
    near = policy(towards="ran1").weigh(at("paris"), request("oslo", lima=3))
    assert near == Weight(-30, "30 ms to oslo")
    towards = policy(towards="ran1").weigh(at("paris"), request(lima=3))
    assert towards == Weight(-26, "26 ms to ran1")
    fleet = policy().weigh(at("paris"), request(lima=3, oslo=0))
    assert fleet == Weight(-200, "200 ms to lima")


def test_the_mean_to_the_fleet_is_weighted_by_vms() -> None:
    weight = policy().weigh(at("paris"), request(oslo=3, paris=6, lima=1))
    assert weight == Weight(-(3 * 30 + 6 * 0 + 1 * 200) / 10, "29 ms to the VMs on 3 clouds")


def test_without_vms_or_a_place_there_is_no_preference() -> None:
    strict = policy(max_rtt_ms=1, min_mbps=1e6, unknown="reject")
    for empty in (request(), request(oslo=0)):
        assert strict.reject(at("oslo"), empty) is None
        assert strict.weigh(at("oslo"), empty) == Weight(0, "no VMs yet, and no place to be near")


def test_each_request_is_judged_by_its_own_fleet() -> None:
    judge = policy()
    assert judge.weigh(at("oslo"), request(paris=1)).value == -30
    assert judge.weigh(at("oslo"), request(oslo=1)).value == 0
    assert judge.weigh(at("oslo"), request(paris=1, oslo=1)).value == -15


def test_throughput_counts_by_the_time_that_data_takes() -> None:
    judge = policy(throughput_weight=4000)
    oslo = judge.weigh(at("oslo"), request("ran1"))
    assert oslo == Weight(-(20 + 4000 / 400), "20 ms to ran1, 10 ms for 4000 kbit")
    assert judge.weigh(at("paris"), request("ran1")).value == -(26 + 4000 / 1000)
    here = judge.weigh(at("oslo"), request("oslo"))
    assert here == Weight(0, "0 ms to oslo, 0 ms for 4000 kbit")


def test_unknown_counts_as_the_worst_by_default() -> None:
    weight = policy(throughput_weight=4000).weigh(at("lima"), request("ran1"))
    assert weight.value == -(200 + 4000 / 100)
    assert weight.reason == (
        "200 ms to ran1 (ran1 not measured, counts as 200 ms), "
        "40 ms for 4000 kbit (throughput to ran1 not measured)"
    )


def test_unknown_can_be_rejected() -> None:
    judge = policy(unknown="reject")
    assert judge.reject(at("lima"), request("ran1")) == "RTT to ran1 is not measured"
    assert judge.reject(at("oslo"), request("ran1")) is None
    # Throughput to paris is not known from lima, and matters only when it is asked for.
    assert judge.reject(at("lima"), request("paris")) is None
    with_data = policy(unknown="reject", throughput_weight=1)
    assert with_data.reject(at("lima"), request("paris")) == ("throughput to paris is not measured")


def test_hard_limit_of_round_trip_time() -> None:
    judge = policy(max_rtt_ms=20)
    assert judge.reject(at("oslo"), request("ran1")) is None
    assert judge.reject(at("paris"), request("ran1")) == "RTT to ran1 is 26 ms, the limit is 20 ms"
    assert judge.reject(at("lima"), request("ran1")) == "RTT to ran1 is not measured"
    assert judge.reject(at("paris"), request(oslo=3, paris=6, lima=1)) == (
        "RTT to the VMs on 3 clouds is 29 ms, the limit is 20 ms"
    )


def test_hard_limit_of_throughput() -> None:
    judge = policy(min_mbps=400)
    assert judge.reject(at("oslo"), request("ran1")) is None
    assert judge.reject(at("oslo"), request("paris")) == (
        "throughput to paris is 100 Mbit/s, the limit is 400 Mbit/s"
    )
    assert judge.reject(at("lima"), request("paris")) == "throughput to paris is not measured"
    # Harmonic: half the data at 400, half at 100 Mbit/s.
    assert judge.reject(at("oslo"), request(ran1=1, paris=1)) == (
        "throughput to the VMs on 2 clouds is 160 Mbit/s, the limit is 400 Mbit/s"
    )
    assert judge.reject(at("oslo"), request("oslo")) is None


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=8))
def test_rounding_never_breaks_a_limit(vms: list[int]) -> None:
    clouds = {f"c{i}": count for i, count in enumerate(vms)}
    links = [{"from": "oslo", "to": cloud, "rtt_ms": 0.7, "mbps": 0.3} for cloud in clouds]
    judge = policy(links=links, max_rtt_ms=0.7, min_mbps=0.3)
    assert judge.reject(at("oslo"), request(**clouds)) is None


def write(file: Path, content: str, mtime: int) -> None:
    file.write_text(content)
    os.utime(file, (mtime, mtime))


def test_reads_measurements_at_the_start_and_after_a_change(tmp_path: Path) -> None:
    file = tmp_path / "links.yaml"
    write(file, "- {from: oslo, to: ran1, rtt_ms: 11}", 1)
    judge = policy(measurements=str(file))
    assert judge.weigh(at("oslo"), request("ran1")).value == -20
    judge.start()
    assert judge.weigh(at("oslo"), request("ran1")).value == -11
    assert judge.weigh(at("paris"), request("ran1")).value == -26

    write(file, "- {from: oslo, to: ran1, rtt_ms: 12}", 1)
    judge.refresh()
    assert judge.weigh(at("oslo"), request("ran1")).value == -11
    os.utime(file, (2, 2))
    judge.refresh()
    assert judge.weigh(at("oslo"), request("ran1")).value == -12


def test_a_broken_file_is_reported_once_and_keeps_the_old_figures(tmp_path: Path) -> None:
    file = tmp_path / "links.yaml"
    write(file, "- {from: oslo, to: ran1, rtt_ms: 11}", 1)
    judge = policy(measurements=str(file))
    judge.start()
    write(file, "- {from: oslo, to: ran1, rtt_ms: -5}", 2)
    with pytest.raises(PluginError, match=r"\[0\]\[rtt_ms\] expected a number of 0 or more"):
        judge.refresh()
    judge.refresh()
    assert judge.weigh(at("oslo"), request("ran1")).value == -11
    write(file, "- {from: oslo, to: ran1, rtt_ms: 5}", 3)
    judge.refresh()
    assert judge.weigh(at("oslo"), request("ran1")).value == -5


def test_a_file_that_went_away_is_reported_until_it_is_back(tmp_path: Path) -> None:
    file = tmp_path / "links.yaml"
    write(file, "- {from: oslo, to: ran1, rtt_ms: 11}", 1)
    judge = policy(measurements=str(file))
    judge.start()
    file.rename(tmp_path / "elsewhere")
    for _ in range(2):
        with pytest.raises(PluginError, match="cannot be read: No such file"):
            judge.refresh()
    assert judge.weigh(at("oslo"), request("ran1")).value == -11
    write(file, "- {from: oslo, to: ran1, rtt_ms: 12}", 2)
    judge.refresh()
    assert judge.weigh(at("oslo"), request("ran1")).value == -12


def test_every_start_needs_a_usable_file(tmp_path: Path) -> None:
    file = tmp_path / "links.json"
    file.write_text("{}")
    judge = build_plugin(LatencyAware, {"measurements": str(file)})
    for _ in range(2):
        with pytest.raises(PluginError, match="expected a list"):
            judge.start()


def test_needs_figures_from_somewhere() -> None:
    problems = LatencyAware.problems(Schema(LatencyAware.schema)({}))
    assert list(problems) == ["expected 'links', 'measurements' or both"]


@pytest.mark.parametrize(
    ("options", "path", "message"),
    [
        ({"unknown": "best"}, ["unknown"], "value must be one of"),
        ({"measurements": ""}, ["measurements"], "expected the path of a file"),
        ({"measurements": 5}, ["measurements"], "expected the path of a file"),
        ({"throughput_weight": -1}, ["throughput_weight"], "expected a number of 0 or more"),
        ({"min_mbps": 0}, ["min_mbps"], "expected a positive number"),
        ({"towards": "*"}, ["towards"], "expected a name"),
        ({"links": [{"from": "a", "to": "b"}]}, ["links", 0], "expected 'rtt_ms', 'mbps' or"),
    ],
)
def test_refuses_wrong_options(options: dict[str, Any], path: list[object], message: str) -> None:
    with pytest.raises(MultipleInvalid, match=message) as raised:
        policy(**options)
    assert raised.value.path == path
