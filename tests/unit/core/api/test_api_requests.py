"""How bodies are read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from api_site import TWO, Site, open_site, problem, with_service
from isoneph.core.api import reading
from world import World

JSON = {"content-type": "application/json"}


async def test_the_content_type_may_have_parameters_and_any_case(site: Site) -> None:
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    response = await site.http.post("/vm", content=b'{"type": "worker"}', headers=headers)
    assert response.status_code == 201


async def in_chunks(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 50):
        yield body[start : start + 50]


async def test_a_body_has_a_limit_said_or_not(world: World) -> None:
    site = await open_site(world, with_service(world.settings(TWO), max_body=200))
    padding = b" " * (200 - len(b'{"type": "worker"}'))
    just, over = b'{"type": "worker"}' + padding, b'{"type": "worker"}' + padding + b" "
    for content in (just, in_chunks(just)):
        response = await site.http.post("/vm", content=content, headers=JSON)
        assert response.status_code == 201
    for content in (over, in_chunks(over)):
        response = await site.http.post("/vm", content=content, headers=JSON)
        problem(response, 413, "body_too_large")


async def test_a_body_that_does_not_come_is_not_waited_for(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stalled() -> AsyncIterator[bytes]:
        yield b'{"type": "worker"}'
        await asyncio.Event().wait()

    monkeypatch.setattr(reading, "BODY_TIMEOUT", 0.01)
    response = await site.http.post("/vm", content=stalled(), headers=JSON)
    problem(response, 408, "body_timeout")
