from __future__ import annotations

from pathlib import Path

import pytest

from cli_runs import FakeService, Isoneph


@pytest.fixture
def asked(service: FakeService) -> FakeService:
    service.answer({"types": []})
    return service


def test_by_default_the_service_of_this_machine(isoneph: Isoneph, asked: FakeService) -> None:
    isoneph("type", "list")
    assert str(asked.requests[0].url) == "http://127.0.0.1:8642/type"
    assert "authorization" not in asked.requests[0].headers


def test_the_environment_tells(
    isoneph: Isoneph, asked: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISONEPH_URL", "https://isoneph.example/base/")
    monkeypatch.setenv("ISONEPH_APPLICATION", "shop")
    monkeypatch.setenv("ISONEPH_TOKEN", "secret")
    isoneph("type", "list")
    assert str(asked.requests[0].url) == "https://isoneph.example/base/v1/shop/type"
    assert asked.requests[0].headers["authorization"] == "Bearer secret"


def test_options_win_over_the_environment(
    isoneph: Isoneph, asked: FakeService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ISONEPH_URL", "http://wrong")
    monkeypatch.setenv("ISONEPH_APPLICATION", "wrong")
    monkeypatch.setenv("ISONEPH_TOKEN", "wrong")
    (tmp_path / "token").write_text("right\n")
    line = ["type", "list", "--url", "http://right", "--application", "right"]
    isoneph(*line, "--token-file", str(tmp_path / "token"))
    assert str(asked.requests[0].url) == "http://right/v1/right/type"
    assert asked.requests[0].headers["authorization"] == "Bearer right"


def test_a_token_is_not_taken_from_the_command_line(isoneph: Isoneph) -> None:
    result = isoneph("type", "list", "--token", "secret")
    assert result.code == 2
    assert "unrecognized arguments: --token" in result.err


def test_a_token_file_that_is_not_there(isoneph: Isoneph, tmp_path: Path) -> None:
    result = isoneph("type", "list", "--token-file", str(tmp_path / "nope"))
    assert (result.code, result.err) == (
        1,
        f"isoneph: {tmp_path / 'nope'}: No such file or directory\n",
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no token"),
        ("two\nlines", "does not hold a token"),
        ("s€cret", "does not hold a token"),
    ],
)
def test_a_token_file_without_a_token(
    isoneph: Isoneph, tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "token").write_text(content, encoding="utf-8")
    result = isoneph("type", "list", "--token-file", str(tmp_path / "token"))
    assert result.code == 2
    assert message in result.err
    assert "lines" not in result.err


def test_a_missing_token_is_hinted_at(isoneph: Isoneph, service: FakeService) -> None:
    service.problem(401, "unauthenticated", "expected a header")
    result = isoneph("type", "list")
    assert result.code == 1
    assert "hint: set ISONEPH_TOKEN" in result.err


def test_configuration_is_for_local_only(isoneph: Isoneph, service: FakeService) -> None:
    result = isoneph("type", "list", "--config-dir", "/nowhere")
    assert result.code == 2
    assert "--config-dir and --config-file are for --local only" in result.err
    assert service.requests == []
