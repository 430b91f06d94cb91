"""Two services over the same clouds, coordinated by a real Redis."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services import Service, wait_for

CREATES = 40


@pytest.fixture
def replicas(tmp_path: Path, redis_server: str) -> Iterator[list[Service]]:
    prefix = f"isoneph-{uuid.uuid4().hex}:"
    made = []
    for name in ("one", "two"):
        service = Service(tmp_path / name)
        service.state = tmp_path / "clouds.db"
        latency = {"latency": {"create": 0.05}}
        service.write_clouds(uniform=latency, quebec=latency)
        service.write_application("mme", healing={"grace": 1})
        service.write_service(store={"driver": "redis", "url": redis_server, "prefix": prefix})
        made.append(service)
    for service in made:
        service.start()
    yield made
    for service in made:
        service.kill()


async def create_at_once(
    replicas: list[Service], count: int, key: str | None
) -> list[httpx.Response]:
    headers = {"Idempotency-Key": key} if key is not None else {}
    async with httpx.AsyncClient(timeout=30) as client:
        urls = [replica.urls()[-1] for replica in replicas]
        return await asyncio.gather(
            *(
                client.post(f"{urls[n % len(urls)]}/vm", json={"type": "worker"}, headers=headers)
                for n in range(count)
            )
        )


async def test_a_burst_at_both_balances_as_if_at_one(replicas: list[Service]) -> None:
    answers = await create_at_once(replicas, CREATES, None)
    assert {answer.status_code for answer in answers} == {201}
    places = Counter(answer.json()["cloud"] for answer in answers)
    assert places == {"uniform": CREATES // 2, "quebec": CREATES // 2}


async def test_one_key_at_both_makes_one_vm_which_both_show_at_once(
    replicas: list[Service],
) -> None:
    answers = await create_at_once(replicas, 6, "attach-17")
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    for replica in replicas:
        with replica.client() as client:
            assert client.get("/vm").json()["total"] == 1


def leads(replica: Service) -> bool:
    with contextlib.suppress(httpx.TransportError), replica.client() as client:
        return "isoneph_engine_leader 1.0" in client.get("/metrics").text
    return False


def leader_among(replicas: list[Service]) -> Callable[[], Service | None]:
    def look() -> Service | None:
        leading = [replica for replica in replicas if leads(replica)]
        assert len(leading) <= 1
        return leading[0] if leading else None

    return look


def test_when_the_leader_is_killed_the_other_engine_takes_over_and_heals(
    replicas: list[Service],
) -> None:
    first = wait_for(leader_among(replicas), "a leader")
    (other,) = (replica for replica in replicas if replica is not first)
    with other.client() as client, other.cloud("uniform") as uniform:
        uniform.inject("error_after_accept", call="create", count=1)
        first.kill()
        vm = client.post("/vm", json={"type": "worker"}).json()

        def healed() -> bool:
            now = client.get(f"/vm/{vm['id']}").json()
            return bool(now.get("state") == "ACTIVE" and now["attempt"] == 2)

        wait_for(healed, "healed by the other engine", patience=30)
    assert leads(other)


def test_without_redis_nothing_is_created_and_the_list_is_still_answered(
    tmp_path: Path, start_redis: Callable[..., Any]
) -> None:
    redis = start_redis()
    service = Service(tmp_path / "one")
    service.write_service(store={"driver": "redis", "url": redis.url, "timeout": 1})
    service.start()
    try:
        with service.client() as client:
            assert client.post("/vm", json={"type": "worker"}).status_code == 201
            redis.stop()
            refused = client.post("/vm", json={"type": "worker"})
            assert refused.status_code == 503
            assert refused.json()["code"] == "store_unavailable"
            assert client.get("/vm").json()["total"] == 1
            redis.start()
            assert client.post("/vm", json={"type": "worker"}).status_code == 201
    finally:
        service.kill()
