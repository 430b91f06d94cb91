"""How placements read in a table."""

from __future__ import annotations

from typing import Any

from isoneph.core.cli.columns import Why


def verdict(cloud: str, policy: str, text: str, score: float | None = None) -> dict[str, Any]:
    reason = {"policy": policy, "text": text, "value": None, "share": None}
    return {"candidate": cloud, "score": score, "reasons": [reason]}


def test_why_tells_who_refused_and_who_was_left_out() -> None:
    placement = {
        "ranking": [
            verdict("paris", "count", "no VMs here", 0.0),
            verdict("oslo", "health", "tried: no_capacity: no room"),
            verdict("rome", "health", "unreachable: no answer to the listing for 3.1 s"),
            verdict("bern", "quota", "full"),
            verdict("wien", "request", "the request asks for paris"),
        ],
        "refusals": [{"cloud": "oslo", "code": "no_capacity", "text": "no room", "at": 1.0}],
    }
    assert Why(placement).human_readable().splitlines() == [
        "no VMs here",
        "oslo refused: no_capacity: no room",
        "rome left out: unreachable: no answer to the listing for 3.1 s",
    ]


def test_nothing_is_known_of_a_vm_that_another_replica_placed() -> None:
    assert Why({"ranking": [], "refusals": []}).human_readable() == ""
