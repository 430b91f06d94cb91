from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from voluptuous import MultipleInvalid, Schema

from isoneph.core.errors import PluginError
from isoneph.plugins.placement.links import LINKS, Mean, Tables, Targets, parse

RTT = {"from": "oslo", "to": "ran1", "rtt_ms": 5}


def to(*places: str) -> Targets:
    return Targets(places, [1 / len(places)] * len(places))


def test_a_link_counts_in_both_directions_unless_both_are_given() -> None:
    tables = Tables(
        [],
        [
            {"from": "oslo", "to": "ran1", "rtt_ms": 5, "mbps": 100},
            {"from": "ran1", "to": "oslo", "mbps": 50},
        ],
    )
    assert tables.rtt.mean("oslo", to("ran1")).value == 5
    assert tables.rtt.mean("ran1", to("oslo")).value == 5
    assert tables.slowness.mean("oslo", to("ran1")).value == 1 / 100
    assert tables.slowness.mean("ran1", to("oslo")).value == 1 / 50


def test_measured_links_go_before_configured_ones_in_both_directions() -> None:
    measured = [{"from": "ran1", "to": "oslo", "rtt_ms": 7}]
    configured = [
        {"from": "oslo", "to": "ran1", "rtt_ms": 5, "mbps": 100},
        {"from": "paris", "to": "ran1", "rtt_ms": 9},
    ]
    tables = Tables(measured, configured)
    assert tables.rtt.mean("oslo", to("ran1")).value == 7
    assert tables.slowness.mean("oslo", to("ran1")).value == 1 / 100
    assert tables.rtt.mean("paris", to("ran1")).value == 9


def test_to_itself_a_cloud_has_nothing_unless_measured() -> None:
    links = [{"from": "oslo", "to": "oslo", "rtt_ms": 0.3}, {"from": "oslo", "to": "x", "mbps": 1}]
    tables = Tables([], links)
    assert tables.rtt.mean("oslo", to("oslo")) == Mean(0.3, None)
    assert tables.rtt.mean("paris", to("paris")) == Mean(0, None)
    assert tables.slowness.mean("oslo", to("oslo")) == Mean(0, None)


def test_what_was_not_measured_counts_as_the_worst_of_all() -> None:
    links = [RTT, {"from": "paris", "to": "ran2", "rtt_ms": 80}]
    table = Tables([], links).rtt
    assert table.worst == 80
    assert table.mean("lima", to("ran1")) == Mean(80, "ran1")
    assert table.mean("oslo", to("ran1", "ran2")) == Mean((5 + 80) / 2, "ran2")
    assert Tables([], []).rtt.mean("oslo", to("ran1")) == Mean(0, "ran1")


def test_answers_do_not_depend_on_what_was_asked_before() -> None:
    table = Tables([], [RTT, {"from": "paris", "to": "ran1", "rtt_ms": 9}]).rtt
    questions = [("oslo", to("ran1")), ("paris", to("ran1")), ("oslo", to("paris", "ran1"))]
    first = [table.mean(*question) for question in questions]
    assert [table.mean(*question) for question in reversed(questions)] == first[::-1]


@given(
    st.dictionaries(
        st.tuples(*[st.sampled_from(["a", "b", "c", "d"])] * 2),
        st.floats(0.1, 500),
        min_size=1,
    )
)
def test_every_figure_is_a_measured_one(figures: dict[tuple[str, str], float]) -> None:
    links = [{"from": a, "to": b, "rtt_ms": rtt} for (a, b), rtt in figures.items()]
    table = Tables([], links).rtt
    for cloud in "abcd":
        for place in "abcd":
            worst = 0 if cloud == place else max(figures.values())
            reverse = figures.get((place, cloud), worst)
            assert table.mean(cloud, to(place)).value == figures.get((cloud, place), reverse)


@pytest.mark.parametrize(
    ("links", "path", "message"),
    [
        ("oslo", [], "expected a list"),
        ([{"from": "oslo", "rtt_ms": 1}], [0, "to"], "required key not provided"),
        ([RTT | {"rtt_ms": -1}], [0, "rtt_ms"], "expected a number of 0 or more"),
        ([RTT | {"mbps": 0}], [0, "mbps"], "expected a positive number"),
        ([RTT | {"to": "*"}], [0, "to"], "expected a name"),
        ([RTT, {"from": "oslo", "to": "lima"}], [1], "expected 'rtt_ms', 'mbps' or both"),
        ([RTT, RTT], [1], "the link from 'oslo' to 'ran1' is given twice"),
    ],
)
def test_refuses_wrong_links(links: Any, path: list[object], message: str) -> None:
    with pytest.raises(MultipleInvalid, match=message) as raised:
        Schema(LINKS)(links)
    assert raised.value.path == path


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("links.yaml", "- {from: oslo, to: ran1, rtt_ms: 5}"),
        ("links", "- from: oslo\n  to: ran1\n  rtt_ms: 5\n"),
        ("links.json", "[\n\t" + json.dumps(RTT) + "\n]"),
    ],
)
def test_reads_yaml_and_json(file: str, content: str) -> None:
    assert parse(Path(file), content.encode()) == [RTT]


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("links.yaml", b"- {from: oslo", "line 1, column"),
        ("links.json", b"[{]", "line 1 column"),
        ("links.json", b"\xff\xfe\xff", "decode"),
        ("links.json", b"[" * 100_000, "recursion"),
        ("links.yaml", b"", r"not usable: expected a list"),
        ("links.yaml", b"- {from: oslo, to: ran1, rtt_ms: fast}", r"\[0\]\[rtt_ms\] expected a n"),
    ],
)
def test_says_what_is_wrong_with_a_file(file: str, content: bytes, problem: str) -> None:
    with pytest.raises(PluginError, match=problem) as raised:
        parse(Path(file), content)
    assert str(raised.value).startswith(f"measurements file {file} is not usable: ")
    assert str(raised.value).isprintable()
