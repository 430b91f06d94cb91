from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from isoneph.core.errors import LinkError, LinkRefused, ProtocolViolation
from isoneph.core.link import read_secret
from isoneph.core.link.frames import (
    HANDSHAKE_LIMITS,
    Bye,
    Challenge,
    Dispatch,
    Drain,
    Frame,
    Hello,
    Limits,
    Proof,
    Refused,
    Reply,
    Welcome,
)
from isoneph.core.link.handshake import RelayHandshake, Stage, WorkerHandshake
from isoneph.core.link.reader import FROM_RELAY, FROM_WORKER, FrameReader
from isoneph.core.traffic import Message

SECRET = b"a secret of many bytes"
NAMES = {"application": "mme", "vm_id": "vm-1"}


def worker(secret: bytes = SECRET, versions: tuple[int, int] = (1, 1)) -> WorkerHandshake:
    return WorkerHandshake(
        secret, application="mme", vm_id="vm-1", capacity=3, window=16, versions=versions
    )


def relay(
    secret: bytes = SECRET, application: str = "mme", versions: tuple[int, int] = (1, 1)
) -> RelayHandshake:
    return RelayHandshake(secret, application=application, versions=versions)


def heard(data: bytes) -> Frame:
    """The one frame in the bytes, by whomever it was sent."""
    (frame,) = FrameReader({**FROM_WORKER, **FROM_RELAY}, HANDSHAKE_LIMITS).feed(data)
    return frame


def converse(worker: WorkerHandshake, relay: RelayHandshake) -> None:
    """All of the handshake."""
    challenge = relay.receive(heard(worker.start()))
    proof = worker.receive(heard(challenge))
    assert relay.receive(heard(proof)) == b""
    welcome = relay.welcome(0.1, 0.3, Limits(max_state=99))
    assert worker.receive(heard(welcome)) == b""


def test_both_sides_come_up_and_know_the_other() -> None:
    ours, theirs = worker(), relay()
    converse(ours, theirs)
    assert (ours.stage, theirs.stage) == (Stage.UP, Stage.UP)
    assert (theirs.hello.vm_id, theirs.hello.capacity, theirs.hello.window) == ("vm-1", 3, 16)
    assert (ours.welcome.interval, ours.welcome.timeout) == (100, 300)
    assert ours.welcome.limits == Limits(max_state=99)


@pytest.mark.parametrize(
    ("ours", "theirs", "chosen"),
    [((1, 1), (1, 1), 1), ((1, 3), (2, 5), 3), ((2, 9), (1, 4), 4), ((2, 2), (1, 4), 2)],
)
def test_the_highest_common_version_is_chosen(
    ours: tuple[int, int], theirs: tuple[int, int], chosen: int
) -> None:
    challenge = heard(relay(versions=theirs).receive(heard(worker(versions=ours).start())))
    assert isinstance(challenge, Challenge)
    assert challenge.version == chosen


@pytest.mark.parametrize(("ours", "theirs"), [((1, 1), (2, 3)), ((4, 5), (2, 3))])
def test_without_a_common_version_the_worker_is_refused(
    ours: tuple[int, int], theirs: tuple[int, int]
) -> None:
    with pytest.raises(LinkRefused, match="this relay 2 to 3") as caught:
        relay(versions=theirs).receive(heard(worker(versions=ours).start()))
    assert caught.value.reason == "version"


def test_a_version_that_was_not_offered_is_a_violation() -> None:
    ours = worker()
    ours.start()
    with pytest.raises(ProtocolViolation, match="version 2"):
        ours.receive(Challenge(2, bytes(32)))


def refused_proof(ours: WorkerHandshake, theirs: RelayHandshake) -> str:
    proof = ours.receive(heard(theirs.receive(heard(ours.start()))))
    with pytest.raises(LinkRefused) as caught:
        theirs.receive(heard(proof))
    assert theirs.stage is not Stage.PROVEN
    return caught.value.reason


def test_a_worker_with_another_secret_is_refused() -> None:
    assert refused_proof(worker(b"another secret, as long"), relay()) == "secret"


def test_a_worker_of_another_application_is_refused_once_it_has_proved_itself() -> None:
    assert refused_proof(worker(), relay(application="amf")) == "application"
    assert refused_proof(worker(b"another secret, as long"), relay(application="amf")) == "secret"


def test_a_relay_that_does_not_know_the_secret_is_refused() -> None:
    ours = worker()
    ours.receive(heard(relay().receive(heard(ours.start()))))
    with pytest.raises(LinkRefused) as caught:
        ours.receive(Welcome(bytes(32), 100, 300, Limits()))
    assert caught.value.reason == "secret"
    assert ours.stage is Stage.PROVED


def test_a_relay_cannot_send_back_the_workers_own_proof() -> None:
    ours = worker()
    proof = heard(ours.receive(heard(relay().receive(heard(ours.start())))))
    assert isinstance(proof, Proof)
    with pytest.raises(LinkRefused):
        ours.receive(Welcome(proof.mac, 100, 300, Limits()))


def test_a_proof_is_good_for_one_handshake_only() -> None:
    ours, first, second = worker(), relay(), relay()
    hello = heard(ours.start())
    proof = heard(ours.receive(heard(first.receive(hello))))
    second.receive(hello)
    with pytest.raises(LinkRefused) as caught:
        second.receive(proof)
    assert caught.value.reason == "secret"


@pytest.mark.parametrize(
    "change",
    [
        {"versions": (1, 2)},
        {"nonce": bytes(32)},
        {"capacity": 99},
        {"window": 99},
        {"application": "amf"},
        {"vm_id": "vm-2"},
    ],
)
def test_nothing_in_the_hello_can_be_altered_on_the_way(change: dict[str, object]) -> None:
    ours, theirs = worker(), relay()
    hello = heard(ours.start())
    proof = heard(ours.receive(heard(theirs.receive(replace(hello, **change)))))
    with pytest.raises(LinkRefused) as caught:
        theirs.receive(proof)
    assert caught.value.reason == "secret"


def test_the_challenge_cannot_be_altered_on_the_way() -> None:
    ours, theirs = worker(versions=(1, 2)), relay(versions=(1, 2))
    challenge = heard(theirs.receive(heard(ours.start())))
    downgraded = replace(challenge, version=1)
    with pytest.raises(LinkRefused):
        theirs.receive(heard(ours.receive(downgraded)))


@pytest.mark.parametrize(
    "change", [{"interval": 99}, {"timeout": 999}, {"limits": Limits(max_state=1)}]
)
def test_nothing_in_the_welcome_can_be_altered_on_the_way(change: dict[str, object]) -> None:
    ours, theirs = worker(), relay()
    theirs.receive(heard(ours.receive(heard(theirs.receive(heard(ours.start()))))))
    welcome = heard(theirs.welcome(0.1, 0.3, Limits()))
    with pytest.raises(LinkRefused):
        ours.receive(replace(welcome, **change))


def test_a_refusal_is_told_with_its_reason() -> None:
    ours = worker()
    ours.start()
    with pytest.raises(LinkRefused, match="go away") as caught:
        ours.receive(Refused("application", "go away"))
    assert caught.value.reason == "application"


HELLO = Hello((1, 1), bytes(32), 1, 1, "mme", "vm-1")
MESSAGE = Message(b"")
OTHERS: list[Frame] = [
    Proof(bytes(32)),
    Reply(1),
    Drain(),
    Bye("x"),
    Dispatch(1, 1, 1, MESSAGE),
    Welcome(bytes(32), 1, 2, Limits()),
]


@pytest.mark.parametrize("frame", [*OTHERS, Challenge(1, bytes(32))])
def test_a_relay_takes_a_hello_first_and_nothing_else(frame: Frame) -> None:
    with pytest.raises(ProtocolViolation) as caught:
        relay().receive(frame)
    assert caught.value.reason == "unexpected"


@pytest.mark.parametrize("frame", [HELLO, *OTHERS[1:]])
def test_a_relay_takes_a_proof_next_and_nothing_else(frame: Frame) -> None:
    theirs = relay()
    theirs.receive(HELLO)
    with pytest.raises(ProtocolViolation):
        theirs.receive(frame)


@pytest.mark.parametrize("frame", [HELLO, *OTHERS])
def test_a_worker_takes_a_challenge_first_and_nothing_else(frame: Frame) -> None:
    ours = worker()
    ours.start()
    with pytest.raises(ProtocolViolation):
        ours.receive(frame)


@given(
    steps=st.lists(
        st.one_of(
            st.just(HELLO),
            st.builds(Proof, st.binary(min_size=32, max_size=32)),
            st.sampled_from(OTHERS),
        ),
        max_size=4,
    )
)
@settings(max_examples=50)
def test_without_the_secret_nobody_is_let_in(steps: list[Frame]) -> None:
    theirs = relay()
    for frame in steps:
        try:
            theirs.receive(frame)
        except (LinkRefused, ProtocolViolation):
            break
    assert theirs.stage in {Stage.NEW, Stage.CHALLENGED}


def test_the_secret_comes_from_a_file_without_its_line_end(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(SECRET + b"\n")
    path.chmod(0o640)
    assert read_secret(path) == SECRET


@pytest.mark.parametrize(
    ("content", "words"), [(b"short\n", "holds 5 bytes"), (b"x" * 5000, "4097"), (None, "read")]
)
def test_a_useless_secret_file_is_an_error_without_the_secret(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
        path.chmod(0o600)
    with pytest.raises(LinkError, match=words) as caught:
        read_secret(path)
    assert "short" not in caught.value.message


@pytest.mark.parametrize("mode", [0o644, 0o620, 0o601])
def test_a_secret_that_others_can_open_is_none(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secret"
    path.write_bytes(SECRET)
    path.chmod(mode)
    with pytest.raises(LinkError, match=r"others can open .* chmod 600"):
        read_secret(path)
