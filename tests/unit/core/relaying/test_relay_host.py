"""What a relay's host remembers, and what it makes of a plugin that fails."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from isoneph.core.errors import ConfigInvalid, ListenFailed, RelayRefused, RelayUnreachable
from isoneph.core.relaying import Member, RelayHost
from isoneph.core.relaying.remembering import StateFile, only_one
from isoneph.core.testing import make_environment
from isoneph.core.traffic import BackendStatus
from scripted_relay import ScriptedRelay


def member(key: str, placement: str = "uniform/1", address: str = "10.0.0.1") -> Member:
    return Member(id=key, placement=placement, addresses=(address,), name=key, cloud="uniform")


def make_host(path: Path | None = None) -> tuple[RelayHost, ScriptedRelay]:
    relay = ScriptedRelay({}, make_environment("mme", timeout=0.05))
    return RelayHost(relay, None if path is None else StateFile(path, "mme")), relay


async def test_it_remembers_backends_and_drains_over_a_restart(tmp_path: Path) -> None:
    host, _ = make_host(tmp_path)
    await host.update([member("a"), member("b")])
    before = await host.drain({"b": 5.0, "unknown": 6.0})
    assert dict(before.draining) == {"b": 5.0}
    again, relay = make_host(tmp_path)
    await again.start()
    after = await again.status()
    assert (dict(after.members), dict(after.draining)) == (before.members, before.draining)
    assert [(key, one.draining) for key, one in relay.backends.items()] == [
        ("a", False),
        ("b", True),
    ]
    assert StateFile(tmp_path, "mme").path.stat().st_mode & 0o777 == 0o600


async def test_servers_are_backends_from_the_start_and_beside_the_vms() -> None:
    relay = ScriptedRelay({}, make_environment("mme", timeout=0.05))
    host = RelayHost(relay, servers=["10.0.0.9"])
    standing = await host.status()
    assert list(relay.backends) == ["10.0.0.9"]
    assert relay.backends["10.0.0.9"].addresses == ("10.0.0.9",)
    assert (list(standing.servers), list(standing.members)) == (["10.0.0.9"], [])
    standing = await host.update([member("a")])
    assert list(relay.backends) == ["10.0.0.9", "a"]
    assert set(standing.status) == {"10.0.0.9", "a"}
    assert list(standing.members) == ["a"]


async def test_backends_that_nobody_named_stand_beside_the_others() -> None:
    host, relay = make_host()
    await host.update([member("a")])
    relay.by_itself = {"b": BackendStatus(ready=True, sessions=3)}
    standing = await host.status()
    assert list(standing.members) == ["a"]
    assert standing.status == {"a": BackendStatus(ready=True), **relay.by_itself}


async def test_servers_have_their_weights() -> None:
    relay = ScriptedRelay({}, make_environment("mme", timeout=0.05))
    weights = {"worker": 5.0, "10.0.0.9": 3.0}
    await RelayHost(relay, servers=["10.0.0.8", "10.0.0.9"], weights=weights).status()
    shares = {key: backend.weight for key, backend in relay.backends.items()}
    assert shares == {"10.0.0.8": 1.0, "10.0.0.9": 3.0}


async def test_a_drain_lasts_as_long_as_the_placement_and_keeps_its_first_time() -> None:
    host, relay = make_host()
    await host.update([member("a")])
    await host.drain({"a": 5.0})
    await host.drain({"a": 7.0})
    standing = await host.update([member("a", address="10.0.0.2"), member("b")])
    assert dict(standing.draining) == {"a": 5.0}
    assert relay.backends["a"].draining
    standing = await host.update([member("a", placement="quebec/9"), member("b")])
    assert dict(standing.draining) == {}
    assert not relay.backends["a"].draining


async def test_the_relay_is_told_only_what_is_new() -> None:
    host, relay = make_host()
    for _ in range(3):
        await host.update([member("a")])
        await host.drain({"a": 5.0})
    assert len(relay.updates) == 2


async def test_what_the_relay_did_not_take_is_not_remembered_but_brought_again(
    tmp_path: Path,
) -> None:
    host, relay = make_host(tmp_path)
    await host.update([member("a")])
    relay.refusal = RelayRefused("no")
    with pytest.raises(RelayRefused, match="no"):
        await host.drain({"a": 5.0})
    for _ in range(2):
        standing = await host.status()
        assert (dict(standing.draining), standing.settled) == ({}, False)
    assert (await StateFile(tmp_path, "mme").read()).draining == {}
    relay.refusal = None
    standing = await host.status()
    assert (dict(standing.draining), standing.settled) == ({"a": 5.0}, True)
    assert (await StateFile(tmp_path, "mme").read()).draining == {"a": 5.0}


async def test_after_a_refusal_the_relay_is_brought_what_was_last_wanted(tmp_path: Path) -> None:
    host, relay = make_host(tmp_path)
    await host.update([member("a")])
    relay.refusal = RelayRefused("no")
    with pytest.raises(RelayRefused):
        await host.update([member("a"), member("b")])
    await host.status()
    with pytest.raises(RelayRefused):
        await host.update([member("a")])
    assert [len(tried) for tried in relay.tried] == [1, 2, 2, 1]
    relay.refusal = None
    assert (await host.update([member("a")])).settled


async def test_a_state_that_cannot_be_written_is_the_state_all_the_same(tmp_path: Path) -> None:
    host, relay = make_host(tmp_path)
    await host.update([member("a")])
    blocking = tmp_path / "relay-mme.new"
    blocking.mkdir()
    for _ in range(2):
        with pytest.raises(RelayRefused, match="cannot be written"):
            await host.update([member("a"), member("b")])
        standing = await host.status()
        assert (list(standing.members), standing.settled) == (["a", "b"], False)
    for _ in range(2):
        with pytest.raises(RelayRefused, match="cannot be written"):
            await host.drain({"b": 5.0})
        assert dict((await host.status()).draining) == {"b": 5.0}
    assert [len(backends) for backends in relay.updates] == [1, 2, 2]
    blocking.rmdir()
    assert (await host.status()).settled
    assert len(relay.updates) == 3
    again, _ = make_host(tmp_path)
    assert await again.status() == await host.status()


@pytest.mark.parametrize(
    ("fault", "error", "text"),
    [
        (ValueError("?"), RelayRefused, "status: the relay failed: ValueError"),
        (ListenFailed("port 5 is taken"), RelayRefused, "port 5 is taken"),
        (RelayUnreachable("gone"), RelayUnreachable, "gone"),
    ],
)
async def test_every_failure_of_the_plugin_is_an_error_of_the_relay(
    fault: Exception, error: type[Exception], text: str
) -> None:
    host, relay = make_host()
    await host.start()
    relay.fault = fault
    with pytest.raises(error, match=text):
        await host.status()


async def test_a_wrong_configuration_is_told_as_such_at_the_start_alone() -> None:
    host, relay = make_host()
    relay.fault = ConfigInvalid(["relay 'mme': one", "relay 'mme': two"])
    with pytest.raises(ConfigInvalid):
        await host.start()
    with pytest.raises(RelayRefused, match="relay 'mme': two"):
        await host.status()
    with pytest.raises(RelayRefused, match="relay 'mme': two"):
        await host.update([member("a")])
    relay.fault = None
    await host.start()
    relay.fault = ConfigInvalid(["too late"])
    with pytest.raises(RelayRefused, match="too late"):
        await host.update([member("a")])


async def test_a_plugin_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    host, relay = make_host()
    monkeypatch.setattr(relay, "status", asyncio.Event().wait)
    with pytest.raises(RelayUnreachable, match=r"no answer within 0\.05 s"):
        await host.status()


async def test_a_file_that_cannot_be_read_is_set_aside(tmp_path: Path) -> None:
    file = StateFile(tmp_path, "mme")
    file.path.write_text("{half")
    assert (await file.read()).members == ()
    assert file.path.with_suffix(".unreadable").read_text() == "{half"
    assert not file.path.exists()


async def test_a_file_of_another_version_stops_the_relay(tmp_path: Path) -> None:
    later = '{"version": 2, "members": {"a": {"shape": "another"}}}'
    path = StateFile(tmp_path, "mme").path
    path.write_text(later)
    host, _ = make_host(tmp_path)
    with pytest.raises(RelayRefused, match="version 2"):
        await host.start()
    assert path.read_text() == later


def test_there_is_one_relay_of_an_application(tmp_path: Path) -> None:
    with only_one(tmp_path / "state", "mme"):
        with (
            pytest.raises(RelayRefused, match="a relay of application mme is running already"),
            only_one(tmp_path / "state", "mme"),
        ):
            pass
        with only_one(tmp_path / "state", "other"):
            pass
    with only_one(tmp_path / "state", "mme"):
        assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_a_directory_that_others_can_write_to_holds_no_state(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(RelayRefused, match="only this user"), only_one(tmp_path, "mme"):
        pass
