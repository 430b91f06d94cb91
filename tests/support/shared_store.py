"""A store that several isoneph share, and what happens at its writes when a test says so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from chaos import HastyClock
from isoneph.core.settings import Settings, StoreSettings
from isoneph.plugins.stores.sqlite import SqliteStore
from two_clouds import TWO
from world import World


def sharing(
    world: World, clouds: Mapping[str, Mapping[str, Any]] = TWO, **application: Any
) -> Settings:
    """Settings under which what starts shares a store. The clock runs by itself from now on."""
    world.clock = HastyClock(factor=1.0)
    path = world.path.with_name("store.db")
    store = StoreSettings(driver="sqlite", options={"path": str(path)})
    return replace(world.settings(clouds, **application), store=store)


def before_puts(monkeypatch: pytest.MonkeyPatch, happens: Callable[[str], Awaitable[None]]) -> None:
    """Let something happen before each write to a shared store; it gets the key."""
    put = SqliteStore.put

    async def late(
        store: SqliteStore,
        key: str,
        value: bytes,
        *,
        expect: int | None = None,
        ttl: float | None = None,
    ) -> int:
        await happens(key)
        return await put(store, key, value, expect=expect, ttl=ttl)

    monkeypatch.setattr(SqliteStore, "put", late)
