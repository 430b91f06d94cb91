from __future__ import annotations

import base64
from pathlib import Path

import pytest
from voluptuous import Invalid

from isoneph.core.errors import InvalidRequest
from isoneph.plugins.clouds.openstack.user_data import LARGEST, render, template, template_file

VALUES = {
    "id": "1",
    "name": "n",
    "application": "a",
    "type": "t",
    "cloud": "c",
    "relay": None,
}


def rendered(text: str, **values: str) -> str:
    return base64.b64decode(render(text, {**VALUES, **values})).decode()


def test_only_isonephs_placeholders_are_filled_in() -> None:
    kept = "${HOME} $1 {{ v1.local_hostname }} {% if x %} {isoneph.id} "
    assert rendered(kept + "{{isoneph.id}}{{ isoneph.cloud }}") == f"{kept}1c"


def test_what_is_filled_in_is_no_template_again() -> None:
    assert rendered("{{isoneph.relay}}", relay="{{isoneph.id}}") == "{{isoneph.id}}"


def test_a_placeholder_without_value_is_told() -> None:
    with pytest.raises(InvalidRequest, match="say in option `relay` what that is"):
        rendered("{{isoneph.relay}}")


def test_unknown_placeholders_are_refused_with_their_line() -> None:
    for function in (template, rendered):
        with pytest.raises((Invalid, InvalidRequest), match="placeholder in line 2; expected"):
            function("ok\n{{isoneph.idd}}")


def test_what_is_too_large_is_refused() -> None:
    fits = LARGEST // 4 * 3
    assert template("x" * fits)
    with pytest.raises(Invalid, match="at most 65535 bytes after encoding"):
        template("x" * (fits + 1))
    with pytest.raises(InvalidRequest, match="at most 65535 bytes after encoding"):
        rendered("{{isoneph.name}}" + "x" * fits)


@pytest.mark.parametrize("value", [None, "", 3, {"runcmd": []}])
def test_no_text_is_refused(value: object) -> None:
    with pytest.raises(Invalid, match="expected a text"):
        template(value)


def test_a_file_is_looked_into(tmp_path: Path) -> None:
    good, bad, binary = (tmp_path / name for name in ("good", "bad", "binary"))
    good.write_text("{{isoneph.id}}")
    bad.write_text("{{isoneph.no}}")
    binary.write_bytes(b"\xff\xfe")
    assert template_file(str(good)) == str(good)
    for path, complaint in (
        (str(bad), "in the file: unknown placeholder"),
        (str(binary), "not UTF-8"),
        (str(tmp_path / "none"), "cannot be read: No such file"),
        ("relative", "expected the absolute path"),
        ("~nobody-of-that-name/x", "no home directory"),
        (7, "expected the absolute path"),
    ):
        with pytest.raises(Invalid, match=complaint):
            template_file(path)
