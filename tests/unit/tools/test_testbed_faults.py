from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from openstack_testbed import faults
from openstack_testbed.report import Failure
from openstack_testbed.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "uniform" / "faults").mkdir(parents=True)
    return Settings(tmp_path)


def test_rules_are_in_force_until_others_are(settings: Settings) -> None:
    assert faults.read(settings, "uniform", "nova-api") == []
    rules = [{"method": "POST", "path": "/servers$", "status": 429, "retry_after": 2}]
    faults.write(settings, "uniform", "nova-api", rules)
    assert faults.read(settings, "uniform", "nova-api") == rules
    assert faults.read(settings, "uniform", "neutron") == []
    faults.write(settings, "uniform", "nova-api", [])
    assert faults.read(settings, "uniform", "nova-api") == []


@pytest.mark.parametrize(
    ("service", "rules", "message"),
    [
        ("nova-conductor", [], "service nova-conductor: expected one of keystone"),
        ("nova-api", {"status": 500}, "expected a list of objects"),
        ("nova-api", ["500"], "fault 1: expected an object"),
        ("nova-api", [{}, {"spawn_delay": 1}], "fault 2: spawn_delay: expected one of method"),
        ("nova-api", [{"path": "("}], r"fault 1: path: '\(' is no pattern"),
        ("nova-api", [{"status": "500"}], "fault 1: status: '500' is no number"),
        ("nova-api", [{"delay": -1}], "fault 1: delay: -1 is no seconds"),
        ("nova-api", [{"lose": "all"}], "fault 1: lose: 'all' is no request or answer"),
        ("nova-compute", [{"spawn_error": ""}], "fault 1: spawn_error: '' is no text"),
    ],
)
def test_rules_that_cannot_be_are_refused(service: str, rules: Any, message: str) -> None:
    with pytest.raises(Failure, match=message):
        faults.check(service, rules)


def test_a_cloud_that_has_never_been_up_shows_no_faults(settings: Settings) -> None:
    with pytest.raises(Failure, match="cloud quebec has never been up"):
        faults.write(settings, "quebec", "nova-api", [])
