from __future__ import annotations

import json
from typing import Any

from cli_runs import FakeService, Isoneph

CLOUD: dict[str, Any] = {
    "name": "paris",
    "driver": "mock",
    "healthy": False,
    "breaker": "open",
    "retry_at": 1_700_000_000.0,
    "last_error": "unreachable: connection refused",
    "listed_at": None,
    "vms": 2,
    "in_flight": 1,
    "by_type": {"web": 2},
    "by_state": {"ACTIVE": 1, "BUILDING": 1},
    "limits": {"instances": {"limit": 5.0, "used": 2.0}, "ram": {"limit": None, "used": 0.0}},
}


def test_lists(isoneph: Isoneph, service: FakeService) -> None:
    well = {**CLOUD, "name": "oslo", "last_error": None}
    service.answer({"clouds": [CLOUD, well]})
    result = isoneph("cloud", "list")
    assert "connection refused" in result.out
    assert "None" not in result.out


def test_shows_everything(isoneph: Isoneph, service: FakeService) -> None:
    for _ in range(2):
        service.answer(CLOUD)
    out = isoneph("cloud", "show", "paris").out
    for text in ("instances: 2 used of 5", "ram: 0 used of no limit", "web=2", "2023-11-1"):
        assert text in out
    assert json.loads(isoneph("cloud", "show", "paris", "-f", "json").out) == CLOUD
    assert service.lines == ["GET /cloud/paris"] * 2


def test_limits_may_not_be_known(isoneph: Isoneph, service: FakeService) -> None:
    service.answer({**CLOUD, "limits": None})
    assert "not known" in isoneph("cloud", "show", "paris").out


def test_types(isoneph: Isoneph, service: FakeService) -> None:
    offers = [{"cloud": "paris", "resources": {}}, {"cloud": "oslo", "resources": {}}]
    service.answer({"types": [{"name": "web", "clouds": offers}]})
    assert "paris, oslo" in isoneph("type", "list").out


def test_explains(isoneph: Isoneph, service: FakeService) -> None:
    def verdict(cloud: str, score: float | None, text: str) -> dict[str, Any]:
        share = None if score is None else score
        reason = {"policy": "cost", "text": text, "value": None, "share": share}
        return {"candidate": cloud, "score": score, "reasons": [reason]}

    verdicts = [verdict("a", 1.5, "cheap"), verdict("b", -0.5, "dear"), verdict("c", None, "no")]
    for _ in range(2):
        service.answer({"ranking": verdicts, "refusals": []})
    line = ["explain", "web", "--near", "rome", "--cloud", "a"]
    lines = isoneph(*line, "--application", "shop").out.splitlines()
    shown = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[3:-1]]
    assert shown == [
        ["a", "first choice", "1.500", "cost: cheap (+1.500)"],
        ["b", "possible", "-0.500", "cost: dear (-0.500)"],
        ["c", "rejected", "", "cost: no"],
    ]
    assert json.loads(service.requests[0].content) == {
        "type": "web",
        "near": "rome",
        "cloud": "a",
    }
    assert service.lines == ["POST /v1/shop/placement"]
    data = json.loads(isoneph(*line, "-f", "json").out)
    assert data[0]["reasons"] == verdicts[0]["reasons"]


def test_nobody_takes_it(isoneph: Isoneph, service: FakeService) -> None:
    verdict: dict[str, Any] = {"candidate": "a", "score": None, "reasons": []}
    service.answer({"ranking": [verdict], "refusals": []})
    assert "rejected" in isoneph("explain", "web").out
