"""The pages on two OpenStack clouds, played as they stand: every command prints what it shows.

What a page breaks, with ``tools/openstack-testbed stop``, ``start`` or ``faults`` or as a comment
``.. played:`` tells, is broken; and mended when the page is over, whatever happens.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from doc_session import Shell, comparable, steps
from services import wait_for
from testbed import PROGRAM, Testbed

DOC = Path(__file__).parents[3] / "doc"
PATIENCE = 120.0
TESTBED_COMMAND = re.compile(r"\$ tools/openstack-testbed ((?:stop|start|faults) [^\n]*)")
COMMENT = re.compile(r"\.\. played: (\w+) ?(.*)")
#: Between these a page breaks or mends something.
_DEED = re.compile(rf"^ *({TESTBED_COMMAND.pattern}|{COMMENT.pattern})$", re.MULTILINE)
_VARYING = (
    (re.compile(r"10\.77\.0\.\d+\b(?!/)"), "10.77.0.N"),
    (re.compile(r"room for \d+ more"), "room for N more"),
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:PORT"),
    (re.compile(r"for \d+(\.\d+)? s"), "for N s"),
    (re.compile(r"req-[0-9a-f-]+|ID-[0-9a-f-]+"), "REQUEST"),
)


class Player:
    """Plays a page: the reader's shell, the service of the second terminal, the testbed."""

    def __init__(self, home: Path, testbed: Testbed) -> None:
        self._home = home
        self._testbed = testbed
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._environment = {**os.environ, "HOME": str(home), "PATH": path, "TZ": "UTC"}
        self._deeds = contextlib.ExitStack()
        self._log = home / "service.log"
        self._service: subprocess.Popen[bytes] | None = None
        self._held = {cloud: testbed.census(cloud) for cloud in testbed.clouds}
        self.url = ""

    def __enter__(self) -> Self:
        self._serve()
        self.shell = Shell(self._home, {**self._environment, "ISONEPH_URL": self.url})
        return self

    def __exit__(self, *_error: object) -> None:
        assert self._service is not None
        self.shell.close()
        self._service.send_signal(signal.SIGTERM)
        self._service.wait(timeout=60)
        self._deeds.close()
        for cloud, held in self._held.items():
            self._testbed.sweep(cloud, held)

    def play(self, page: str) -> int:
        """Do all that a page says, in its order; how many commands were compared."""
        played = start = 0
        for deed in _DEED.finditer(page):
            played += self._type(page[start : deed.start()])
            self._do(deed[1])
            start = deed.end()
        return played + self._type(page[start:])

    def _type(self, part: str) -> int:
        script = list(steps(part))
        for step in script:
            self.shell.check(step, _comparable, PATIENCE)
        return len(script)

    def _do(self, deed: str) -> None:
        command = TESTBED_COMMAND.fullmatch(deed)
        if command:
            words = shlex.split(command[1])
            subprocess.run([PROGRAM, *words], check=True, stdout=subprocess.DEVNULL)
            undo = {"stop": "start", "faults": "faults"}.get(words[0])
            if undo:
                self._deeds.callback(self._mend, undo, words)
            return
        comment = COMMENT.fullmatch(deed)
        assert comment is not None
        if comment[1] == "reload":
            self._reload()
            return
        assert comment[1] == "quota"
        cloud, limit = comment[2].split()
        name, number = limit.split("=")
        self._deeds.enter_context(self._testbed.quota(cloud, **{name: int(number)}))

    def _reload(self) -> None:
        assert self._service is not None
        before = self._log.read_text().count("is reloaded")
        self._service.send_signal(signal.SIGHUP)
        wait_for(lambda: self._log.read_text().count("is reloaded") > before, "reloaded", PATIENCE)

    def _mend(self, verb: str, words: list[str]) -> None:
        rest = words[1:] if verb == "start" else [*words[1:3], "--clear"]
        subprocess.run([PROGRAM, verb, *rest], check=True, stdout=subprocess.DEVNULL)

    def _serve(self) -> None:
        with self._log.open("wb") as output:
            self._service = subprocess.Popen(
                ["isoneph", "serve", "--config-dir", "."],
                cwd=self._home / "isoneph-openstack",
                env={**self._environment, "OS_API__PORT": "0"},
                stderr=output,
            )
        said = wait_for(
            lambda: re.findall(r"ready at (\S+)", self._log.read_text()), "ready", PATIENCE
        )
        self.url = said[0]


def _comparable(text: str) -> str:
    for pattern, stand_in in _VARYING:
        text = pattern.sub(stand_in, text)
    return comparable(text)


@pytest.fixture
def player(tmp_path: Path, testbed: Testbed) -> Iterator[Player]:
    directory = tmp_path / "isoneph-openstack"
    shutil.copytree(DOC / "examples" / "openstack", directory)
    shutil.copy(testbed.clouds_file, directory)
    with Player(tmp_path, testbed) as player:
        yield player


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("page", "least"), [("openstack-start.rst", 12), ("operator/openstack-failures.rst", 12)]
)
def test_every_command_of_the_page_prints_what_it_shows(
    player: Player, page: str, least: int
) -> None:
    assert player.play((DOC / "source" / page).read_text()) > least
