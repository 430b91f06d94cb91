"""The beginning of a relay's process: it touches nothing before it is the only one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from isoneph.core.errors import ConfigInvalid, RelayRefused
from isoneph.core.metrics import PrometheusMetrics
from isoneph.core.relaying import Member, RelayHost, process
from isoneph.core.relaying.process import Process, Run, run_relay
from isoneph.core.relaying.remembering import Remembered, StateFile
from isoneph.core.relaying.server import ControlServer
from isoneph.core.settings import ApplicationSettings
from isoneph.core.testing import FakeClock, make_environment
from isoneph.core.traffic import BackendStatus
from scripted_relay import RELAY, ScriptedRelay


async def test_the_second_of_two_relays_does_not_start_its_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = str(tmp_path / "mme.sock")
    first = ControlServer(
        RelayHost(ScriptedRelay({}, make_environment("mme"))),
        "mme",
        control,
        None,
        PrometheusMetrics(),
    )
    await first.bind()
    second = ScriptedRelay({}, make_environment("mme"))
    started: list[int] = []
    monkeypatch.setattr(second, "start", lambda: started.append(1))
    monkeypatch.setattr(process, "make_relay", lambda *_: second)
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    one = Member(id="a", placement="uniform/1", addresses=("10.0.0.1",))
    await StateFile(state, "mme").write(Remembered(members=(one,)))
    relay = replace(RELAY, control=control)
    application = ApplicationSettings(name="mme", clouds=(), types={}, relay=relay)
    run = Run(application=application, relay=relay, state=state, drain=0.0)
    with pytest.raises(RelayRefused, match="something listens on"):
        await Process(run, FakeClock()).run()
    assert (started, second.updates) == ([], [])
    assert tmp_path.joinpath("mme.sock").is_socket()
    await first.close()


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        (ConfigInvalid(["x: one", "y: two"]), 2, ["cannot run: x: one", "cannot run: y: two"]),
        (RelayRefused("the port\nis taken"), 1, ["cannot run: the port is taken"]),
    ],
)
def test_a_relay_that_cannot_run_tells_whether_its_configuration_is_wrong(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: Exception,
    code: int,
    said: list[str],
) -> None:
    relay = ScriptedRelay({}, make_environment("mme"))
    relay.fault = fault
    monkeypatch.setattr(process, "make_relay", lambda *_: relay)
    settings = replace(RELAY, control=str(tmp_path / "mme.sock"))
    application = ApplicationSettings(name="mme", clouds=(), types={}, relay=settings)
    state = tmp_path / "state"
    assert run_relay(Run(application=application, relay=settings, state=state, drain=0.0)) == code
    assert [record.getMessage() for record in caplog.records] == said


async def test_its_figures_have_the_backends_that_nobody_named() -> None:
    relay = ScriptedRelay({}, make_environment("mme"))
    relay.by_itself = {"w": BackendStatus(ready=True, sessions=9)}
    host = RelayHost(relay, servers=["10.0.0.9"])
    application = ApplicationSettings(name="mme", clouds=(), types={}, relay=RELAY)
    run = Run(application=application, relay=RELAY, state=None, drain=0.0)
    page = (await Process(run, FakeClock())._figures(host)).decode()
    assert 'isoneph_relay_sessions{application="mme"} 9.0' in page
    assert 'isoneph_relay_backends{application="mme",state="all"} 2.0' in page
    assert 'isoneph_relay_backends{application="mme",state="ready"} 2.0' in page
