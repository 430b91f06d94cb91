"""The conformance suite of relays."""
# ruff: noqa: D102, S101 (as in any test: names tell, asserts speak)

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import pytest_asyncio

from isoneph.core.errors import RelayError
from isoneph.core.plugin import Relay
from isoneph.core.testing.schemas import undescribed_options, unfit_defaults
from isoneph.core.traffic import Backend, BackendStatus

#: What ends a session that was opened.
EndSession = Callable[[], Awaitable[None]]
_POLL = 0.02


@pytest.mark.asyncio
class RelayConformance(ABC):
    """What every relay must do.

    Inherit it in a class whose name begins with ``Test`` and say how to make one, and backends
    that it can carry traffic to::

        class TestMyRelay(RelayConformance):
            def make_relay(self, tmp_path):
                environment = make_environment("relay", clock=SystemClock())
                return build_plugin(MyRelay, {"option": 1}, environment=environment)

            async def start_backend(self, number):
                return Backend(id=f"backend-{number}", addresses=[f"127.0.0.{number + 1}"])

    Time really passes. What the class starts it also ends, in a fixture of its own.
    """

    #: Seconds after which a backend that works is ready, and one that does not has been noticed.
    ready_timeout: ClassVar[float] = 10.0
    #: Seconds after which a backend without sessions says so, when it drains.
    drain_timeout: ClassVar[float] = 10.0

    @abstractmethod
    def make_relay(self, tmp_path: Path) -> Relay:
        """A relay that is not started, has no backends, and disturbs no other of this test."""

    @abstractmethod
    async def start_backend(self, number: int) -> Backend:
        """A backend that works, another for each ``number`` (from 0 to 3); called once each."""

    async def make_dead_backend(self) -> Backend | None:
        """A backend that nobody answers at; None when the relay cannot know."""
        return None

    async def open_session(self, relay: Relay) -> EndSession | None:
        """Open a session through ``relay`` and return what ends it; None when that is not for a
        client to do. It is at a backend when this returns."""
        return None

    async def cut_off(self, relay: Relay) -> bool:
        """Take away what ``relay`` drives, as a failure would; False when there is no such."""
        return False

    @pytest_asyncio.fixture
    async def relay(self, tmp_path: Path) -> AsyncIterator[Relay]:
        """The relay under test, started, without a backend."""
        relay = self.make_relay(tmp_path)
        await relay.start()
        yield relay
        await relay.close()

    # Options and life.

    async def test_has_a_summary(self, tmp_path: Path) -> None:
        summary = (type(self.make_relay(tmp_path)).__doc__ or "").strip().partition("\n")[0]
        assert summary, "the first line of the class's docstring is its summary in lists"

    async def test_options_are_described_and_their_defaults_valid(self, tmp_path: Path) -> None:
        schema = type(self.make_relay(tmp_path)).schema
        assert isinstance(schema, Mapping), "a schema is a mapping of markers to validators"
        assert not undescribed_options(schema), "these markers have no description"
        assert not unfit_defaults(schema)

    async def test_options_of_the_suite_go_together(self, tmp_path: Path) -> None:
        relay = self.make_relay(tmp_path)
        assert list(relay.problems(relay.options)) == []

    async def test_close_needs_no_start_and_may_be_repeated(self, tmp_path: Path) -> None:
        relay = self.make_relay(tmp_path)
        await relay.close()
        relay = self.make_relay(tmp_path)
        await relay.start()
        await relay.update([await self.start_backend(0)])
        await relay.close()
        await relay.close()

    async def test_another_can_take_over_where_one_was_closed(self, tmp_path: Path) -> None:
        backend = await self.start_backend(0)
        for _ in range(2):
            relay = self.make_relay(tmp_path)
            await relay.start()
            await relay.update([backend])
            await self.wait_until_ready(relay, [backend])
            await relay.close()

    async def test_drain_returns_when_there_are_no_sessions(self, relay: Relay) -> None:
        await relay.update([await self.start_backend(0)])
        async with asyncio.timeout(self.drain_timeout):
            await relay.drain()

    # Backends that come and go.

    async def test_there_are_no_backends_before_the_first_update(self, relay: Relay) -> None:
        assert dict(await relay.status()) == {}
        await relay.update([])
        assert dict(await relay.status()) == {}

    async def test_backends_become_ready(self, relay: Relay) -> None:
        backends = [await self.start_backend(0), await self.start_backend(1)]
        await relay.update(backends)
        await self.wait_until_ready(relay, backends)

    async def test_every_backend_has_its_status_at_once(self, relay: Relay) -> None:
        backends = [await self.start_backend(number) for number in range(3)]
        await relay.update(backends)
        assert (await relay.status()).keys() == {backend.id for backend in backends}

    async def test_doing_the_same_again_changes_nothing(self, relay: Relay) -> None:
        backends = [await self.start_backend(0), await self.start_backend(1)]
        await relay.update(backends)
        await self.wait_until_ready(relay, backends)
        before = dict(await relay.status())
        for again in (backends, backends[::-1], list(map(replace, backends))):
            await relay.update(again)
            assert dict(await relay.status()) == before

    async def test_one_that_is_missing_is_gone(self, relay: Relay) -> None:
        first, second = await self.start_backend(0), await self.start_backend(1)
        await relay.update([first, second])
        await self.wait_until_ready(relay, [first, second])
        await relay.update([second])
        status = await relay.status()
        assert status.keys() == {second.id}
        assert status[second.id].ready, "the others are left alone"
        await relay.update([])
        assert dict(await relay.status()) == {}

    async def test_one_that_went_can_come_back(self, relay: Relay) -> None:
        first, second = await self.start_backend(0), await self.start_backend(1)
        await relay.update([first, second])
        await self.wait_until_ready(relay, [first, second])
        await relay.update([second])
        await relay.update([second, first])
        await self.wait_until_ready(relay, [first, second])

    async def test_updates_at_once_end_in_the_last(self, relay: Relay) -> None:
        backends = [await self.start_backend(number) for number in range(4)]
        await asyncio.gather(*(relay.update(backends[: number + 1]) for number in range(4)))
        await asyncio.gather(*(relay.update(backends[number:]) for number in range(4)))
        assert (await relay.status()).keys() == {backends[-1].id}
        await self.wait_until_ready(relay, backends[-1:])

    async def test_a_cancelled_update_harms_no_other(self, relay: Relay) -> None:
        backends = [await self.start_backend(0), await self.start_backend(1)]
        for turns in range(6):
            update = asyncio.ensure_future(relay.update(backends[: 1 + turns % 2]))
            for _ in range(turns):
                await asyncio.sleep(0)
            update.cancel()
            await asyncio.wait([update])
        await relay.update(backends)
        await self.wait_until_ready(relay, backends)

    async def test_weights_may_change(self, relay: Relay) -> None:
        backends = [await self.start_backend(0), await self.start_backend(1)]
        await relay.update(backends)
        await self.wait_until_ready(relay, backends)
        for weight in (0.001, 1000.0, 3.7):
            heavy = replace(backends[0], weight=weight)
            await relay.update([heavy, backends[1]])
            status = await relay.status()
            assert status[heavy.id].ready
            assert status[backends[1].id].ready

    # Draining.

    async def test_a_draining_backend_keeps_its_status_until_it_is_gone(self, relay: Relay) -> None:
        first, second = await self.start_backend(0), await self.start_backend(1)
        await relay.update([first, second])
        await self.wait_until_ready(relay, [first, second])
        draining = replace(first, draining=True)
        await relay.update([draining, second])
        status = await relay.status()
        assert status.keys() == {first.id, second.id}
        assert status[second.id].ready, "the others are left alone"
        await self.wait_for(
            relay,
            self.drain_timeout,
            lambda status: status[first.id].sessions == 0,
            "the draining backend has no sessions",
        )
        await relay.update([second])
        assert (await relay.status()).keys() == {second.id}

    async def test_a_backend_that_drains_no_more_is_ready_again(self, relay: Relay) -> None:
        backends = [await self.start_backend(0), await self.start_backend(1)]
        await relay.update([replace(backend, draining=True) for backend in backends])
        assert (await relay.status()).keys() == {backend.id for backend in backends}
        await relay.update(backends)
        await self.wait_until_ready(relay, backends)

    async def test_a_session_counts_until_it_is_over(self, relay: Relay) -> None:
        backend = await self.start_backend(0)
        end_session = await self._open_session(relay, [backend])
        await self._wait_for_sessions(relay, 1)
        draining = replace(backend, draining=True)
        await relay.update([draining])
        await self._wait_for_sessions(relay, 1)
        await end_session()
        await self._wait_for_sessions(relay, 0)

    async def test_drain_waits_for_the_last_session(self, relay: Relay) -> None:
        end_session = await self._open_session(relay, [await self.start_backend(0)])
        await self._wait_for_sessions(relay, 1)
        drain = asyncio.ensure_future(relay.drain())
        await asyncio.wait([drain], timeout=0.3)
        assert not drain.done()
        await end_session()
        async with asyncio.timeout(self.drain_timeout):
            await drain

    # What goes wrong.

    async def test_a_dead_backend_is_not_ready_and_harms_no_other(self, relay: Relay) -> None:
        dead = await self.make_dead_backend()
        if dead is None:
            pytest.skip("make_dead_backend gives None: this relay does not ask its backends")
        alive = await self.start_backend(0)
        await relay.update([dead, alive])
        await self.wait_for(
            relay,
            self.ready_timeout,
            lambda status: status[alive.id].ready and not status[dead.id].ready,
            "one is ready and the other is not",
        )
        assert (await relay.status())[dead.id].text, "says why it is not ready"

    @pytest.mark.parametrize("addresses", [[], ["no address"], ["192.0.2.300"]])
    async def test_a_backend_without_a_good_address_is_told_and_harms_no_other(
        self, relay: Relay, addresses: Sequence[str]
    ) -> None:
        alive = await self.start_backend(0)
        lost = Backend(id="ba1ab1e0-0000-4000-8000-00000000000a", addresses=addresses)
        await relay.update([lost, alive])
        await self.wait_until_ready(relay, [alive])
        status = (await relay.status())[lost.id]
        assert not status.ready
        assert status.text, "says why it is not ready"
        assert status.sessions == 0, "nothing keeps its VM from being deleted"

    async def test_what_is_cut_off_is_told_as_the_relay_s_error(self, relay: Relay) -> None:
        backend = await self.start_backend(0)
        await relay.update([backend])
        await self.wait_until_ready(relay, [backend])
        if not await self.cut_off(relay):
            pytest.skip("cut_off gives False: this relay does all by itself, in its own process")
        with pytest.raises(RelayError) as caught:
            await relay.update([backend, await self.start_backend(1)])
        assert str(caught.value).strip(), "says what is wrong"

    # What an operator sees.

    async def test_reports_are_well_formed(self, relay: Relay) -> None:
        await self.check_report(relay)
        backends = [await self.start_backend(0), await self.start_backend(1)]
        await relay.update([backends[0], replace(backends[1], draining=True)])
        await self.check_report(relay)

    # What the tests are made of.

    async def check_report(self, relay: Relay) -> None:
        """Its report can be shown."""
        report = await relay.report()
        assert all(isinstance(address, str) for address in report.listening)
        assert all(isinstance(text, str) for item in report.facts.items() for text in item)
        for table in report.tables:
            assert table.name
            assert len(set(table.columns)) == len(table.columns)
            assert set(table.counters) <= set(table.columns)
            for row in table.rows:
                assert len(row) == len(table.columns), f"{table.name}: {row}"
                assert all(isinstance(cell, str | int | float | None) for cell in row), row

    async def wait_for(
        self,
        relay: Relay,
        seconds: float,
        good: Callable[[Mapping[str, BackendStatus]], bool],
        what: str,
    ) -> None:
        """Look at the status until it is ``good``; fails when it never was."""
        end = asyncio.get_running_loop().time() + seconds
        while not good(status := await relay.status()):
            now = asyncio.get_running_loop().time()
            assert now < end, f"not in {seconds:g} s: {what}; {dict(status)}"
            await asyncio.sleep(_POLL)

    async def wait_until_ready(self, relay: Relay, backends: Sequence[Backend]) -> None:
        """All of ``backends`` are ready; fails when that takes too long."""
        await self.wait_for(
            relay,
            self.ready_timeout,
            lambda status: all(status[backend.id].ready for backend in backends),
            f"{', '.join(backend.id for backend in backends)} are ready",
        )

    async def _open_session(self, relay: Relay, backends: Sequence[Backend]) -> EndSession:
        await relay.update(backends)
        await self.wait_until_ready(relay, backends)
        end_session = await self.open_session(relay)
        if end_session is None:
            pytest.skip("open_session gives None: what clients do does not pass through this relay")
        return end_session

    async def _wait_for_sessions(self, relay: Relay, number: int) -> None:
        await self.wait_for(
            relay,
            self.drain_timeout,
            lambda status: sum(each.sessions for each in status.values()) == number,
            f"{number} sessions in all",
        )
