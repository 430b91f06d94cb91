"""A file on its way to Glance, over real sockets."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from isoneph.core.errors import Unauthorized
from isoneph.core.model import Preparation
from isoneph.core.testing import FakeClock, make_environment
from isoneph.plugins.clouds.openstack.api import Api, Deadline
from isoneph.plugins.clouds.openstack.connection import CONNECT_TIMEOUT
from isoneph.plugins.clouds.openstack.preparing.run import Run
from isoneph.plugins.clouds.openstack.preparing.uploads import Upload
from stub_openstack import Reply, StubCloud, stub_cloud

PUT = "PUT image/images/1/file"
#: JSON, because the stub reads it as such; more than one block of the HTTP library.
DATA = list(range(10_000))


@pytest.fixture
def cloud() -> Iterator[StubCloud]:
    with stub_cloud() as cloud:
        yield cloud


@pytest.fixture
def run(cloud: StubCloud) -> Iterator[Run]:
    clock = FakeClock()
    api = Api(cloud.options(), make_environment("uniform", clock=clock, timeout=20.0))
    preparation = Preparation(application="mme")
    yield Run(
        cloud="uniform",
        api=api,
        admin=None,
        preparation=preparation,
        clock=clock,
        logger=logging.getLogger("isoneph.test"),
    )
    api.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_text(json.dumps(DATA))
    return path


def test_it_arrives_as_it_is_with_its_length(cloud: StubCloud, run: Run, file: Path) -> None:
    cloud.on(PUT, Reply(204))
    with Upload(file, run) as upload:
        run.api.call("PUT", "image", "/images/1/file", body=upload)
    (seen,) = cloud.asked(PUT)
    assert seen.body == DATA
    assert seen.headers["Content-Type"] == "application/octet-stream"
    assert seen.headers["Content-Length"] == str(file.stat().st_size)
    assert "Transfer-Encoding" not in seen.headers


def test_each_part_of_it_may_take_until_its_deadline(
    cloud: StubCloud, run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connecting too, because urllib3 bounds by that how long the other side may read nothing."""
    timeouts: dict[str, Any] = {}
    send = requests.Session.request

    def request(self: requests.Session, method: str, *rest: Any, **named: Any) -> requests.Response:
        timeouts[method] = named["timeout"]
        return send(self, method, *rest, **named)

    monkeypatch.setattr(requests.Session, "request", request)
    cloud.on(PUT, Reply(204))
    cloud.on("GET image/images/1", Reply(200, {}))
    deadline = Deadline.after(run.clock, 900.0)
    with Upload(file, run) as upload:
        run.api.call("PUT", "image", "/images/1/file", body=upload, deadline=deadline)
    run.api.call("GET", "image", "/images/1", deadline=deadline)
    assert timeouts["PUT"] == (900.0, 900.0)
    assert timeouts["GET"] == (CONNECT_TIMEOUT, 18.0)


def test_it_is_never_sent_twice(cloud: StubCloud, run: Run, file: Path) -> None:
    cloud.on(PUT, Reply(401, {"error": {"code": 401, "message": "expired"}}))
    with Upload(file, run) as upload, pytest.raises(Unauthorized):
        run.api.call("PUT", "image", "/images/1/file", body=upload)
    assert len(cloud.asked(PUT)) == 1
