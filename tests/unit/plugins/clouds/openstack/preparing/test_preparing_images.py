"""Images and keypairs: uploaded, imported, compared."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import pytest

from fake_project import OTHER, OWN, FakeProject
from isoneph.core.errors import InvalidRequest, OutcomeUnknown
from isoneph.core.model import Outcome
from isoneph.plugins.clouds.openstack.errors import Conflict
from preparations import prepared, told

DATA = b"an operating system" * 500
#: Made by ssh-keygen; the fingerprint as `ssh-keygen -l -E md5` tells it.
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMBwDmQnTJ0AK1H3UjLm1UqMvUqmJfNLtyMsjEAAqJ4b ops"


@pytest.fixture
def project() -> FakeProject:
    return FakeProject()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "worker.raw"
    path.write_bytes(DATA)
    return path


def image(file: Path, more: str = "") -> str:
    return f"images: {{worker: {{file: {file}, disk_format: raw{more}}}}}"


def test_an_image_is_uploaded_when_it_is_missing(project: FakeProject, file: Path) -> None:
    text = image(file, ", min_ram: 64, properties: {hw_vif_model: virtio}")
    assert told(prepared(project, text, change=False)) == ["missing image worker"]
    assert told(prepared(project, text)) == ["made image worker"]
    (made,) = project.images
    assert made["os_hash_value"] == hashlib.sha512(DATA).hexdigest()
    assert (made["min_ram"], made["hw_vif_model"]) == (64, "virtio")
    assert made["tags"] == ["isoneph-application=mme"]
    assert told(prepared(project, text)) == []
    assert project.calls["PUT /images"] == 1


def test_an_image_whose_upload_broke_off_is_sent_again(project: FakeProject, file: Path) -> None:
    queued = project.add_image("worker", tags=["isoneph-application=mme"])
    assert told(prepared(project, image(file), change=False)) == [
        "missing image worker: a run that was to make it broke off"
    ]
    assert told(prepared(project, image(file))) == ["made image worker"]
    assert project.images == [queued]
    assert queued["status"] == "active"


def test_an_image_that_is_being_sent_is_left_alone(project: FakeProject, file: Path) -> None:
    made = project.add_image("worker", status="saving", tags=["isoneph-application=web"])
    busy = "another run may be sending its data; if none is, remove it by hand"
    assert told(prepared(project, image(file))) == [
        f"failed image worker: its status is saving: {busy}"
    ]
    made["status"] = "queued"
    project.before["PUT /images"] = [lambda: _raise(Conflict("409"))]
    assert told(prepared(project, image(file))) == [f"failed image worker: {busy}"]


def test_a_file_of_another_format(project: FakeProject, file: Path) -> None:
    refusal = InvalidRequest("Glance answers PUT /images/1/file with 415: Unsupported")
    project.before["PUT /images"] = [lambda: _raise(refusal), lambda: _raise(InvalidRequest("x"))]
    assert told(prepared(project, image(file))) == [
        f"failed image worker: Glance sees that {file} is not raw"
    ]
    assert told(prepared(project, image(file))) == ["failed image worker: x"]
    assert told(prepared(project, image(file))) == ["made image worker"]


def test_an_upload_in_doubt_fails_alone(project: FakeProject, file: Path) -> None:
    lost = OutcomeUnknown("no answer from Glance")
    project.before["PUT /images"] = [lambda: _raise(lost)]
    text = f"{image(file)}\nkeypairs: {{ops: {{public_key: {KEY}}}}}"
    assert told(prepared(project, text)) == [
        "made keypair ops",
        "failed image worker: no answer from Glance; run this again to see what arrived",
    ]
    assert told(prepared(project, text)) == ["made image worker"]


def test_an_empty_image_of_somebody_else_is_not_filled(project: FakeProject, file: Path) -> None:
    project.add_image("worker")
    (failed,) = told(prepared(project, image(file)))
    assert failed.startswith("failed image worker: its status is queued")
    assert project.calls["PUT /images"] == 0


def _raise(error: Exception) -> None:
    raise error


def test_other_data_are_told_and_never_replaced(project: FakeProject, file: Path) -> None:
    found = project.add_image("worker", b"something else")
    digests = [hashlib.sha512(data).hexdigest()[:12] for data in (b"something else", DATA)]
    difference = "sha512 is {}..., should be {}...".format(*digests)
    assert told(prepared(project, image(file), change=False)) == [
        f"differs image worker: {difference}"
    ]
    assert told(prepared(project, image(file))) == [
        f"failed image worker: {difference}; that cannot be changed: remove it by hand"
    ]
    assert project.images == [found]


def test_a_glance_that_only_keeps_md5_is_believed(project: FakeProject, file: Path) -> None:
    found = project.add_image("worker", DATA)
    found |= {"os_hash_algo": None, "os_hash_value": None}
    assert told(prepared(project, image(file), change=False)) == []
    found["checksum"] = "0" * 32
    (differs,) = told(prepared(project, image(file), change=False))
    assert differs.startswith("differs image worker: md5 is 000000000000..., should be ")


def test_without_the_file_the_data_are_not_compared(project: FakeProject, tmp_path: Path) -> None:
    project.add_image("worker", DATA)
    gone = tmp_path / "gone"
    assert told(prepared(project, image(gone)), right=True) == [
        f"right image worker: its data were not compared: {gone} is not here"
    ]
    digest = hashlib.sha512(b"x").hexdigest()
    (finding,) = prepared(project, image(gone, f", checksum: '{digest}'"), change=False)
    assert finding.outcome is Outcome.DIFFERS


def test_a_missing_image_needs_the_file_as_its_publisher_made_it(
    project: FakeProject, file: Path, tmp_path: Path
) -> None:
    gone = tmp_path / "gone"
    assert told(prepared(project, image(gone))) == [
        f"failed image worker: {gone}: No such file or directory"
    ]
    digest = hashlib.sha256(b"another").hexdigest()
    (failed,) = told(prepared(project, image(file, f", checksum: '{digest}'")))
    assert failed.endswith(f"should be {digest[:12]}...")
    assert project.images == []
    right = hashlib.sha256(DATA).hexdigest()
    assert told(prepared(project, image(file, f", checksum: '{right}'"))) == ["made image worker"]


def test_what_arrived_is_compared(project: FakeProject, file: Path) -> None:

    def spoil() -> None:
        project.images[0]["os_hash_value"] = "0" * 128

    project.before["GET /images"] = [lambda: None, lambda: None, spoil]
    (failed,) = told(prepared(project, image(file)))
    assert failed.startswith("failed image worker: what arrived in Glance is not what is in the")


def test_properties_are_set_right_and_formats_are_not(project: FakeProject, file: Path) -> None:
    found = project.add_image("worker", DATA, min_disk=1, disk_format="qcow2")
    text = image(file, ", min_disk: 2, properties: {hw_disk_bus: scsi}")
    (failed,) = told(prepared(project, text))
    assert failed == (
        "failed image worker: disk_format is qcow2, should be raw; that cannot be changed: remove "
        "it by hand"
    )
    assert (found["min_disk"], found["hw_disk_bus"]) == (2, "scsi")


def test_a_public_image_needs_an_administrator(project: FakeProject, file: Path) -> None:
    text = image(file, ", visibility: public")
    (failed,) = told(prepared(project, text))
    assert "a public image needs an administrator's rights: give them with --a" in failed
    assert told(prepared(project, text, admin=True)) == ["made image worker"]
    assert [each["owner"] for each in project.images] == [OWN]


def test_images_described_no_more(project: FakeProject, file: Path) -> None:
    prepared(project, image(file))
    project.add_image("theirs", DATA, owner=OTHER, tags=["isoneph-application=mme"])
    prepared(project, image(file), application="web")
    assert told(prepared(project, "{}")) == ["extra image worker: not described"]
    assert told(prepared(project, "{}", prune=True)) == ["released image worker: it stays for web"]
    assert told(prepared(project, "{}", application="web", prune=True)) == ["removed image worker"]
    assert [each["name"] for each in project.images] == ["theirs"]


def test_a_long_upload_is_logged(
    project: FakeProject,
    file: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def slow() -> float:
        project.clock.advance(1.0)
        return project.clock.time()

    monkeypatch.setattr(project.clock, "monotonic", slow)
    with caplog.at_level(logging.INFO):
        prepared(project, image(file))
    lines = [record.message for record in caplog.records if "sent" in record.message]
    assert lines == ["cloud uniform: worker.raw: 0 of 0 MiB sent"] * 2


def test_a_keypair_is_imported_and_compared(project: FakeProject, tmp_path: Path) -> None:
    file = tmp_path / "ops.pub"
    file.write_text(f"{KEY}\n")
    text = f"keypairs: {{ops: {{public_key_file: {file}}}}}"
    assert told(prepared(project, text)) == ["made keypair ops"]
    assert told(prepared(project, f"keypairs: {{ops: {{public_key: {KEY}}}}}")) == []
    project.keypairs["ops"]["fingerprint"] = "00:11"
    (differs,) = told(prepared(project, text, change=False))
    assert differs == (
        "differs keypair ops: fingerprint is 00:11, should be "
        "42:e8:65:6a:36:e3:9b:ef:c4:91:97:69:31:3a:f6:8e"
    )
    (failed,) = told(prepared(project, text))
    assert failed.endswith("; that cannot be changed: remove it by hand")


def test_keypairs_are_never_removed(project: FakeProject) -> None:
    prepared(project, f"keypairs: {{ops: {{public_key: {KEY}}}}}")
    assert told(prepared(project, "{}", prune=True)) == []
    assert list(project.keypairs) == ["ops"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"not a key", "there is no OpenSSH public key in it"),
        (b"\xff\xfe", "there is no OpenSSH public key in it"),
        (None, "No such file or directory"),
    ],
)
def test_a_file_without_a_key(
    project: FakeProject, tmp_path: Path, content: bytes | None, why: str
) -> None:
    file = tmp_path / "ops.pub"
    if content is not None:
        file.write_bytes(content)
    text = f"keypairs: {{ops: {{public_key_file: {file}}}}}"
    assert told(prepared(project, text)) == [f"failed keypair ops: {file}: {why}"]
