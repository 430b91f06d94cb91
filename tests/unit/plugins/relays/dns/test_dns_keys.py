from __future__ import annotations

import base64
from pathlib import Path

import pytest

from isoneph.plugins.relays.dns.keys import KeyUnfit, load_key, parse_key

SECRET = base64.b64encode(bytes(range(32))).decode()

TSIG_KEYGEN = f"""
key "relay.example" {{
	algorithm hmac-sha512;
	secret "{SECRET}";
}};
"""
ONE_LINE = f'key relay.example {{ algorithm hmac-sha512; secret "{SECRET}"; }};'
KEYMGR = f"""
# hmac-sha512:relay.example:{SECRET}
key:
- id: relay.example.
  algorithm: hmac-sha512
  secret: {SECRET}
"""


@pytest.mark.parametrize(
    "text", [TSIG_KEYGEN, ONE_LINE, KEYMGR, f"hmac-sha512:relay.example:{SECRET}\n"]
)
def test_files_of_every_kind(text: str) -> None:
    key = parse_key(text)
    assert key.name.to_text() == "relay.example."
    assert key.secret == bytes(range(32))
    assert key.algorithm.to_text() == "hmac-sha512."


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "expected a key with name, algorithm and secret"),
        (SECRET, "expected a key with name"),
        (TSIG_KEYGEN.replace("sha512", "md5"), "expected one of the algorithms"),
        (TSIG_KEYGEN.replace(SECRET, SECRET[:-2]), "expected the secret in base64"),
        (f"hmac-sha256:k:{SECRET}!", "expected the secret in base64"),
        (f"hmac-sha256:a..b:{SECRET}", "is no domain name"),
    ],
)
def test_others_are_told_without_the_secret(text: str, complaint: str) -> None:
    with pytest.raises(KeyUnfit, match=complaint) as caught:
        parse_key(text)
    assert SECRET[:10] not in str(caught.value)


def test_without_an_option_there_is_no_key() -> None:
    assert load_key({}) is None


def test_the_secret_can_stand_in_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    file.chmod(0o600)
    monkeypatch.setenv("DNS_SECRET", SECRET)
    key = {"name": "relay.example", "algorithm": "hmac-sha256"}
    for source in ({"secret_file": str(file)}, {"secret_env": "DNS_SECRET"}):
        loaded = load_key({"key": {**key, **source}})
        assert loaded is not None
        assert loaded.secret == bytes(range(32))


@pytest.mark.parametrize(
    ("content", "mode", "complaint"),
    [
        (None, 0, "cannot be read: No such file"),
        ("", 0o600, "expected a key"),
        (ONE_LINE, 0o644, "others can open it"),
        (ONE_LINE, 0o620, "others can open it"),
        ("x" * 5000, 0o600, "expected a short text"),
        ("ä", 0o600, "expected a short text"),
    ],
)
def test_files_that_are_unfit_are_told(
    tmp_path: Path, content: str | None, mode: int, complaint: str
) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_text(content)
        file.chmod(mode)
    with pytest.raises(KeyUnfit, match=f"^key_file {file}: {complaint}"):
        load_key({"key_file": str(file)})


def test_an_empty_environment_is_told() -> None:
    key = {"name": "k", "algorithm": "hmac-sha256", "secret_env": "NO_SUCH_VARIABLE"}
    with pytest.raises(KeyUnfit, match=r"NO_SUCH_VARIABLE .*: expected the secret in base64"):
        load_key({"key": key})
