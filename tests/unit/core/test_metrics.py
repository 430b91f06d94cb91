from __future__ import annotations

import pytest

from isoneph.core.metrics import PrometheusMetrics


@pytest.fixture
def metrics() -> PrometheusMetrics:
    return PrometheusMetrics()


def series(metrics: PrometheusMetrics) -> list[str]:
    lines = metrics.exposition().decode().splitlines()
    return [line for line in lines if not line.startswith("#") and "_created" not in line]


def test_a_series_that_is_forgotten_is_gone(metrics: PrometheusMetrics) -> None:
    for vm in ("vm-1", "vm-2"):
        metrics.gauge("ready", 1.0, backend=vm, kind="x")
    metrics.forget("ready", kind="x", backend="vm-1")
    assert series(metrics) == ['isoneph_ready{backend="vm-2",kind="x"} 1.0']


def test_a_plugins_series_is_forgotten_with_the_labels_that_the_core_adds(
    metrics: PrometheusMetrics,
) -> None:
    for name in ("mme", "amf"):
        bound = metrics.bound(plugin=name)
        bound.count("calls", 2, backend="vm-1")
        bound.observe("seconds", 0.1, backend="vm-1")
    metrics.bound(plugin="mme").forget("calls", backend="vm-1")
    metrics.bound(plugin="mme").forget("seconds", backend="vm-1")
    left = series(metrics)
    assert 'isoneph_calls_total{backend="vm-1",plugin="amf"} 2.0' in left
    assert not [line for line in left if "mme" in line]


def test_one_that_comes_back_starts_anew(metrics: PrometheusMetrics) -> None:
    metrics.count("calls", 5, backend="vm-1")
    metrics.forget("calls", backend="vm-1")
    metrics.count("calls", 1, backend="vm-1")
    assert series(metrics) == ['isoneph_calls_total{backend="vm-1"} 1.0']


def test_nothing_happens_when_there_is_none(metrics: PrometheusMetrics) -> None:
    metrics.forget("ready", backend="vm-1")
    metrics.gauge("ready", 1.0, backend="vm-2")
    metrics.forget("ready", backend="vm-1")
    assert len(series(metrics)) == 1
