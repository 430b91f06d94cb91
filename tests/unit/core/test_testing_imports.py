from __future__ import annotations

import sys

import pytest

from isoneph.core import testing


def test_everything_that_is_promised_is_there() -> None:
    assert [name for name in testing.__all__ if not hasattr(testing, name)] == []
    with pytest.raises(AttributeError, match="has no attribute 'VmConformance'"):
        _ = testing.VmConformance


def test_only_the_suite_of_stores_asks_for_pytest_asyncio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytest_asyncio", None)
    monkeypatch.delitem(sys.modules, "isoneph.core.testing.stores", raising=False)
    with pytest.raises(ImportError, match="pip install pytest-asyncio"):
        _ = testing.StoreConformance


def test_pytest_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("isoneph.core.testing")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pytest", None)
    with pytest.raises(ImportError, match="needs pytest: pip install pytest"):
        import isoneph.core.testing  # noqa: F401, PLC0415 (it must fail)
