"""Which application has a name, when several have relays."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from isoneph.core.errors import ConfigInvalid
from isoneph.core.testing import build_plugin, make_environment
from isoneph.plugins.relays.dns import DnsRelay

OPTIONS = {"name_servers": ["192.0.2.53", "192.0.2.54"], "zone": "example.test", "name": "www"}
MESSAGE = r"relay 'blog': the name (?i:www)\.example\.test is that of the application shop; with sh"

Make = Callable[..., DnsRelay]


@pytest_asyncio.fixture
async def make() -> AsyncIterator[Make]:
    """Makes relays, and closes them at the end."""
    made: list[DnsRelay] = []

    def make(application: str, **options: Any) -> DnsRelay:
        environment = make_environment(application)
        made.append(build_plugin(DnsRelay, {**OPTIONS, **options}, environment=environment))
        return made[-1]

    yield make
    for relay in made:
        await relay.close()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"shared": True},
        {"name": "WWW.example.test."},
        {"zone": "test", "name": "www.example"},
        {"name_servers": ["192.0.2.55", "192.0.2.54:53"]},
    ],
)
async def test_a_name_that_another_application_has_is_refused(
    make: Make, options: dict[str, Any]
) -> None:
    await make("shop").start()
    with pytest.raises(ConfigInvalid, match=MESSAGE):
        await make("blog", **options).start()


async def test_nor_is_one_taken_from_those_who_share_it(make: Make) -> None:
    await make("shop", shared=True).start()
    await make("news", shared=True).start()
    with pytest.raises(ConfigInvalid, match="with shared: true, in both, they share it"):
        await make("blog").start()


@pytest.mark.parametrize(
    ("application", "options"),
    [
        ("blog", {"name": "blog"}),
        ("blog", {"name_servers": ["192.0.2.55"]}),
        ("shop", {}),
    ],
)
async def test_what_disturbs_nobody_starts(
    make: Make, application: str, options: dict[str, Any]
) -> None:
    await make("shop").start()
    await make(application, **options).start()


async def test_a_name_is_free_when_its_relay_is_closed(make: Make) -> None:
    first, second = make("shop"), make("blog")
    await first.start()
    with pytest.raises(ConfigInvalid):
        await second.start()
    await first.close()
    await second.start()
    with pytest.raises(ConfigInvalid):
        await first.start()
