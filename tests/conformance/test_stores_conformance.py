from __future__ import annotations

from pathlib import Path

from voluptuous import Schema

from isoneph.core.plugin import Store
from isoneph.core.testing import FakeClock, make_environment
from isoneph.core.testing.stores import StoreConformance
from isoneph.plugins.stores.memory import MemoryStore
from isoneph.plugins.stores.sqlite import SqliteStore


class TestMemoryStore(StoreConformance):
    def make_store(self, tmp_path: Path) -> Store:
        self.clock = FakeClock()
        return MemoryStore({}, make_environment("memory", clock=self.clock))

    async def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)


class TestSqliteStore(StoreConformance):
    clock: FakeClock | None = None

    def make_store(self, tmp_path: Path) -> Store:
        self.clock = self.clock or FakeClock()  # one for both replicas
        options = Schema(SqliteStore.schema)({"path": str(tmp_path / "made" / "store.sqlite")})
        return SqliteStore(options, make_environment("sqlite", clock=self.clock))

    async def pass_time(self, seconds: float) -> None:
        assert self.clock is not None
        self.clock.advance(seconds)
