from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from voluptuous import MultipleInvalid, Schema

from isoneph.core.testing import FakeClock
from isoneph.core.testing.schemas import undescribed_options, unfit_defaults
from isoneph.plugins.relays.sctp import SctpRelay
from isoneph.plugins.relays.sctp import workers as workers_module
from isoneph.plugins.relays.sctp.figures import Figures
from relay_pieces import Pieces
from relay_site import Site, Yard, until

WORKERS = {"listen": "127.0.0.1:7000", "secret_file": "/etc/secret"}


class KeptMetrics:
    """Metrics that a test reads."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.gauges: dict[str, float] = defaultdict(float)

    def count(self, name: str, amount: float = 1.0, **labels: str) -> None:
        self.counts[_full(name, labels)] += int(amount)

    def gauge(self, name: str, value: float, **labels: str) -> None:
        self.gauges[_full(name, labels)] = value

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        raise AssertionError

    def forget(self, name: str, **labels: str) -> None:
        self.counts.pop(_full(name, labels), None)
        self.gauges.pop(_full(name, labels), None)


def _full(name: str, labels: dict[str, str]) -> str:
    return " ".join([name, *(labels[key] for key in sorted(labels))])


async def test_figures_are_published_once_a_second() -> None:
    metrics, clock = KeptMetrics(), FakeClock()
    async with Site(metrics=metrics, clock=clock) as site:
        await site.serve("a")
        client = await site.client("127.0.1.1")
        for _ in range(3):
            client.send(b"12345")
        await until(lambda: len(client.got) == 3)
        assert metrics.counts == {}
        clock.advance(1)
        site.relay.tick()
        assert metrics.counts == {
            "relay_client_messages 127.0.1.1 in": 3,
            "relay_client_bytes 127.0.1.1 in": 15,
            "relay_client_messages 127.0.1.1 out": 3,
            "relay_client_bytes 127.0.1.1 out": 15,
            "relay_backend_messages a in": 3,
            "relay_backend_bytes a in": 15,
            "relay_backend_messages a out": 3,
            "relay_backend_bytes a out": 15,
        }
        assert metrics.gauges == {
            "relay_backend_ready a": 1.0,
            "relay_backend_sessions a": 1,
            "relay_clients": 1,
            "relay_conversations": 1,
            "relay_pending_bytes": 0,
        }
        client.send(b"12345")
        await until(lambda: len(client.got) == 4)
        site.relay._figures.refuse("something", 2)
        site.relay.tick()
        site.relay.tick()
        assert metrics.counts["relay_client_messages 127.0.1.1 in"] == 4
        assert metrics.counts["relay_refused something"] == 2


def test_addresses_of_clients_do_not_add_up_for_ever() -> None:
    metrics = KeptMetrics()
    figures = Figures(metrics)
    for number in range(2000):
        figures.publish_client(f"10.0.{number // 256}.{number % 256}", (1, 0, 0, 0))
    assert len(metrics.counts) == 1001
    assert metrics.counts["relay_client_messages other in"] == 1000


def test_reasons_for_refusals_do_not_either() -> None:
    metrics = KeptMetrics()
    figures = Figures(metrics)
    for number in range(300):
        figures.refuse(f"worker_said_ue-{number}")
    figures.refuse("worker_said_ue-1")
    figures.publish()
    assert len(figures.refused) == len(metrics.counts) == 201
    assert metrics.counts["relay_refused other"] == 100
    assert metrics.counts["relay_refused worker_said_ue-1"] == 2


async def test_a_server_that_is_removed_leaves_no_figures() -> None:
    metrics = KeptMetrics()
    async with Site(metrics=metrics) as site:
        await site.serve("a", "b")
        client = await site.client()
        client.send(b"12345")
        await until(lambda: client.got)
        site.relay.tick()
        del site.servers["a"]
        await site.name_all()
        site.relay.tick()
        left = [
            name.split()[1]
            for name in (*metrics.counts, *metrics.gauges)
            if "relay_backend_" in name
        ]
        assert set(left) == {"b"}


async def test_a_worker_that_is_removed_leaves_no_figures(tmp_path: Path) -> None:
    async with Yard(tmp_path) as yard:
        metrics = KeptMetrics()
        yard.relay._figures._metrics = metrics
        await yard.name("vm-1", "vm-2")
        worker = await yard.worker("vm-1")
        await worker.up.wait()
        client = await yard.asking(b"12345")
        async with asyncio.timeout(2):
            while not client.got:  # noqa: ASYNC110 (what is waited for is told by nobody)
                await asyncio.sleep(0.001)
        yard.relay.tick()
        assert metrics.counts["relay_backend_messages vm-1 in"] == 1
        await yard.name("vm-2")
        yard.relay.tick()
        assert not [name for name in (*metrics.counts, *metrics.gauges) if "vm-1" in name]


def test_workers_that_come_and_go_without_an_engine_do_not_add_up_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers_module, "_MOST_KNOWN", 20)
    pieces = Pieces()
    metrics = pieces.figures._metrics = KeptMetrics()
    for number in range(50):
        member = pieces.register(f"vm-{number}")
        pieces.workers.tick(1.0)
        member.closed("left", "")
    assert len(pieces.workers._traffic) <= 20
    assert len(metrics.gauges) <= 3 * 20
    assert metrics.gauges["relay_backend_ready vm-48"] == 0.0


async def test_the_report_shows_backends_clients_and_what_was_refused() -> None:
    async with Site(max_clients=1) as site:
        await site.serve("a")
        client = await site.client("127.0.1.1")
        client.send(b"12345")
        await until(lambda: client.got)
        with pytest.raises(Exception, match="refused"):
            await site.client()
        report = await site.relay.report()
        assert report.listening == ["127.0.0.1:36412"]
        assert report.facts["clients"] == report.facts["conversations"] == "1"
        traffic, clients, refused = report.tables
        assert traffic.rows == [["a", 1, None, 1, 1, 5, 5, 0]]
        address, *figures = clients.rows[0]
        assert str(address).startswith("127.0.1.1:")
        assert figures == [1, 1, 0, 0, 0]
        assert refused.rows == [("too_many_clients", 1)]
        for table in report.tables:
            assert set(table.counters) <= set(table.columns)
            assert all(len(row) == len(table.columns) for row in table.rows)


class TestOptions:
    def test_they_are_described_and_their_defaults_are_valid(self) -> None:
        assert undescribed_options(SctpRelay.schema) == []
        assert unfit_defaults(SctpRelay.schema) == []

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"listen": []}, "at least one address"),
            ({"listen": ["localhost:36412"]}, "10.0.0.1:36412"),
            ({"listen": ["::1:36412"]}, "10.0.0.1:36412"),
            ({"listen": ["10.0.0.1"]}, "10.0.0.1:36412"),
            ({"listen": ["10.0.0.1:65536"]}, "10.0.0.1:36412"),
            ({"listen": [7]}, "10.0.0.1:36412"),
            ({"plain": {}}, "required key"),
            ({"plain": {"port": 0}}, "from 1 to 65535"),
            ({"plain": {"port": True}}, "from 1 to 65535"),
            ({"plain": {"port": 1, "connect": "later"}}, "client or message"),
            ({"plain": {"port": 1}, "workers": WORKERS}, "not both"),
            ({"workers": {**WORKERS, "listen": "7000"}}, "127.0.0.1:7000|10.0.0.1:7000"),
            ({"workers": {**WORKERS, "secret_file": "secret"}}, "absolute path"),
            ({"workers": {**WORKERS, "open": "yes"}}, "true or false"),
            ({"workers": {**WORKERS, "lost_after": 0}}, "positive number of seconds"),
            ({"max_clients": 0}, "1 or more"),
            ({"rate": float("nan")}, "positive number"),
            ({"memory": 1.5}, "whole number"),
        ],
    )
    def test_mistakes_are_told(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(MultipleInvalid, match=message):
            Schema(SctpRelay.schema)({"listen": ["10.0.0.1:36412"], **options})

    def test_what_has_to_go_together(self) -> None:
        check = Schema(SctpRelay.schema)
        options = check({"listen": ["10.0.0.1:1", "10.0.0.2:2"]})
        assert SctpRelay.problems(options) == [
            "expected one of plain and workers",
            "expected one port for all addresses of listen",
        ]
        options = check({"listen": ["10.0.0.1:1"], "workers": WORKERS, "max_message": 1 << 20})
        assert SctpRelay.problems(options) == [
            "expected max_message of at most 1000000 with workers"
        ]
        options = check({"listen": ["10.0.0.1:1"], "workers": WORKERS})
        assert SctpRelay.problems({**options, "servers": ["10.0.0.9"]}) == [
            "expected no servers with workers, which register themselves"
        ]
        good = check({"listen": ["10.0.0.1:1", "[::1]:1"], "plain": {"port": 2}})
        assert SctpRelay.problems({**good, "servers": ["10.0.0.9"]}) == []
