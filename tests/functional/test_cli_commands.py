"""The installed ``isoneph``, as an operator types it, against processes that it started."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ISONEPH = str(Path(sys.executable).parent / "isoneph")
#: Seconds in which any of this is done, even on a busy machine.
PATIENCE = 30.0

CLOUDS = """\
clouds:
  paris: {driver: mock, state: STATE, boot_seconds: BOOT, faults: FAULTS}
  oslo: {driver: mock, state: STATE, boot_seconds: BOOT}
"""
TYPES = "types:\n  web: {}\n"


class Site:
    """A configuration of two mock clouds, and commands that work with it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith("ISONEPH_")
        }
        self.environment |= {"ISONEPH_CONFIG_DIR": str(directory / "etc"), "COLUMNS": "100"}
        (directory / "etc" / "applications").mkdir(parents=True)
        self.write("applications/shop.yaml", TYPES)
        self.write(
            "isoneph.conf",
            "[api]\nport = 0\n[engine]\ninterval = 0.1\n"
            f"[store]\ndriver = sqlite\npath = {directory / 'store.sqlite'}\n",
        )
        self.write_clouds()

    def write(self, name: str, text: str) -> None:
        (self.directory / "etc" / name).write_text(text)

    def write_clouds(self, *, boot: float = 0.0, faults: str = "[]") -> None:
        text = CLOUDS.replace("STATE", str(self.directory / "mock.sqlite"))
        self.write("clouds.yaml", text.replace("BOOT", str(boot)).replace("FAULTS", faults))

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [ISONEPH, *arguments],
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def rows(self, *arguments: str) -> Any:
        result = self.run(*arguments, "-f", "json")
        assert (result.returncode, result.stderr) == (0, "")
        return json.loads(result.stdout)

    @contextmanager
    def process(self, *arguments: str, ready: str) -> Iterator[Process]:
        """A process that stays; stopped in order at the end."""
        running = Process([ISONEPH, *arguments], self.environment, self.directory / "log")
        try:
            running.wait_for(ready)
            yield running
        finally:
            running.stop()

    @contextmanager
    def service(self) -> Iterator[Process]:
        with self.process("serve", ready="ready at ") as running:
            found = re.search(r"ready at (http://\S+)", running.log())
            assert found is not None
            self.environment["ISONEPH_URL"] = found[1]
            yield running


class Process:
    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("w") as output:
            self.popen = subprocess.Popen(
                command, env=environment, stdout=output, stderr=output, start_new_session=True
            )

    def log(self) -> str:
        return self._log.read_text()

    def wait_for(self, text: str) -> None:
        def logged() -> bool:
            assert self.popen.poll() is None, self.log()
            return text in self.log()

        wait_until(logged)

    def stop(self) -> int:
        if self.popen.poll() is None:
            self.popen.terminate()
        return self.popen.wait(PATIENCE)


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.05)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_day_of_an_operator(site: Site) -> None:
    assert site.run("config", "check").stdout == "ok: 2 clouds, 1 application\n"
    with site.service() as service:
        made = site.rows("vm", "create", "web", "--count", "3", "--tag", "role=front", "--wait")
        assert sorted(vm["cloud"] for vm in made) == ["oslo", "paris", "paris"]
        assert {vm["state"] for vm in made} == {"ACTIVE"}
        first = site.rows("explain", "web")[0]
        assert (first["cloud"], first["verdict"]) == ("oslo", "first choice")
        assert [cloud["vms"] for cloud in site.rows("cloud", "list")] == [2, 1]
        shown = site.rows("vm", "show", made[0]["id"])
        assert shown["tags"] == {"role": "front"}
        assert shown["placement"]["ranking"]

        gone = site.run("vm", "delete", "--any").stdout.strip()
        assert gone in {vm["id"] for vm in made}
        rest = [vm["id"] for vm in site.rows("vm", "list", "--tag", "role=front")]
        assert sorted([gone, *rest]) == sorted(vm["id"] for vm in made)
        assert site.run("vm", "delete", *rest).stdout.split() == rest
        assert site.rows("vm", "list") == []
        assert service.stop() == 0


def test_with_and_without_a_service_it_looks_the_same(site: Site) -> None:
    with site.service():
        site.rows("vm", "create", "web", "--count", "2", "--wait")
        for command in ("vm list --long", "type list", "explain web --near paris"):
            assert site.rows(*command.split(), "--local") == site.rows(*command.split())
        refused = ["vm", "create", "web", "--cloud", "rome"]
        local, remote = site.run(*refused, "--local"), site.run(*refused)
        assert (local.returncode, local.stderr) == (remote.returncode, remote.stderr)
        assert (remote.returncode, remote.stdout) == (1, "")


def test_a_new_token_opens_the_service(site: Site, tmp_path: Path) -> None:
    token, _, lines = site.run("token", "create", "ops", "--scope", "read").stdout.partition("\n")
    site.write("applications/shop.yaml", TYPES + lines)
    with site.service():
        refused = site.run("vm", "list")
        assert refused.returncode == 1
        assert "hint: set ISONEPH_TOKEN" in refused.stderr
        assert site.run("vm", "list", ISONEPH_TOKEN=token).returncode == 0
        (tmp_path / "token").write_text(token)
        named = site.run("vm", "create", "web", "--token-file", str(tmp_path / "token"))
        assert (named.returncode, named.stderr) == (
            1,
            "isoneph: the token has no scope 'write'\n",
        )


def test_without_a_service_the_hint_tells_what_to_do(site: Site) -> None:
    result = site.run("vm", "list", "--url", "http://127.0.0.1:1")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [
        "isoneph: cannot reach http://127.0.0.1:1: [Errno 111] Connection refused",
        "hint: is it running? start it with 'isoneph serve', or use --local",
    ]


def test_a_service_that_cannot_start_says_why(site: Site) -> None:
    with site.service():
        address = site.environment["ISONEPH_URL"].rpartition(":")[2]
        result = site.run("serve", "--port", address)
        assert (result.returncode, result.stdout) == (1, "")
        assert f"port {address}: address already in use" in result.stderr
    result = site.run("serve", "--host", "0.0.0.0")  # noqa: S104 (it must not listen there)
    assert result.returncode == 2
    assert "has no tokens" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("local", [[], ["--local"]])
def test_ctrl_c_ends_a_wait(site: Site, local: list[str]) -> None:
    site.write_clouds(boot=60.0)
    with site.service():
        command = [ISONEPH, "vm", "create", "web", "--wait", *local]
        waiting = subprocess.Popen(
            command, env=site.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        wait_until(lambda: len(site.rows("vm", "list")) == 1)
        time.sleep(0.5)  # it has the answer by now, and waits
        waiting.send_signal(signal.SIGINT)
        _, errors = waiting.communicate(timeout=PATIENCE)
        assert waiting.returncode == 130
        assert "Traceback" not in errors


@pytest.mark.parametrize("command", ["plugin list", "--help", "vm create --help"])
def test_a_reader_that_went_away_is_no_error(site: Site, command: str) -> None:
    result = subprocess.run(
        ["bash", "-c", f"{ISONEPH} {command} | exec 0<&-; exit ${{PIPESTATUS[0]}}"],
        env=site.environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert result.stderr == ""
    assert result.returncode in {0, 141}  # 0: argparse itself does not mind


def test_the_engine_alone_heals_what_a_command_left(site: Site) -> None:
    site.write_clouds(faults="[{fault: error_after_accept}]")
    (made,) = site.rows("vm", "create", "web", "--local")
    with site.process("engine", ready="the engine runs") as engine:

        def healed() -> bool:
            (vm,) = site.rows("vm", "list", "--local")
            return bool((vm["cloud"], vm["state"]) == ("oslo", "ACTIVE"))

        wait_until(healed)
        assert site.rows("vm", "list", "--local")[0]["id"] == made["id"]
        engine.popen.send_signal(signal.SIGHUP)
        engine.wait_for("the configuration is reloaded")
        site.write("clouds.yaml", "clouds: {}")
        engine.popen.send_signal(signal.SIGHUP)
        engine.wait_for("not reloaded")
        assert engine.stop() == 0
    assert engine.log().endswith(" stopped\n")
    assert "Traceback" not in engine.log()


def test_an_engine_with_a_store_of_its_own_warns(site: Site) -> None:
    site.write("isoneph.conf", "[engine]\nenabled = false\n")
    with site.process("engine", ready="the engine runs") as engine:
        assert "the store 'memory' is this process's own" in engine.log()


def test_commands_are_completed(site: Site) -> None:
    script = f"""\
_get_comp_words_by_ref() {{ cur=${{COMP_WORDS[COMP_CWORD]}}; words=("${{COMP_WORDS[@]}}"); }}
eval "$({ISONEPH} complete)"
COMP_WORDS=(isoneph vm cr); COMP_CWORD=2; _isoneph; echo "${{COMPREPLY[@]}}"
COMP_WORDS=(isoneph vm create --wa); COMP_CWORD=3; _isoneph; echo "${{COMPREPLY[@]}}"
"""
    result = subprocess.run(
        ["bash", "-c", script],
        env=site.environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (result.stdout, result.stderr) == ("create\n--wait\n", "")


@pytest.mark.parametrize(
    ("arguments", "slow"),
    [
        (["--help"], {"httpx", "voluptuous", "oslo_config", "falcon", "gunicorn", "cmd2"}),
        (
            ["vm", "list", "--url", "http://127.0.0.1:1"],
            {"voluptuous", "oslo_config", "falcon", "gunicorn", "cmd2"},
        ),
    ],
)
def test_a_command_imports_only_what_it_needs(
    site: Site, arguments: list[str], slow: set[str]
) -> None:
    program = (
        "import sys; from isoneph.core.cli.main import main; "
        f"main({arguments!r}); print(*sorted({slow!r} & sys.modules.keys()))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        env=site.environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert result.stdout.splitlines()[-1] == ""
