"""The console sessions of a documentation page: read from it, and played in a shell."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

DIRECTIVE = ".. code-block:: console"
INDENT = "   "
END = "-- end of output --"
#: Seconds in which what a page shows has to be seen, on a machine that is busy with other tests.
PATIENCE = 10.0
#: Commands that only look, and may look again.
_LOOKS = re.compile(r"isoneph (explain|(cloud|vm) (list|show))\b(?!.*\|)")
#: A command; a line that ends with a backslash goes on in the next.
_COMMAND = re.compile(r"(?:.*\\\n)*.*")
#: What differs from run to run, and what stands for it.
VARYING = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "ID"),
    (re.compile(r"mme_worker-[0-9a-f]{8}"), "NAME"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d( UTC|[+-]\d\d:\d\d)?"), "TIME"),
    (re.compile(r"\b\d{10}\.\d+"), "SECONDS"),
    (re.compile(r"127\.64\.(\d)\.\d+"), r"127.64.\1.N"),
    (re.compile(r"for \d+ s more"), "for N s more"),
    (re.compile(r'"request_id": "[^"]*"'), '"request_id": "..."'),
    (re.compile(r"(?m) +$"), ""),
    (re.compile(r"-{2,}"), "--"),
    (re.compile(r" {2,}"), " "),
)


@dataclass(frozen=True, slots=True)
class Step:
    """A command, with its continuation lines, and what the page says it prints."""

    command: str
    output: str


def steps(page: str) -> Iterator[Step]:
    """The commands of a page in order."""
    for part in page.split(DIRECTIVE)[1:]:
        lines = itertools.takewhile(lambda line: not line or line.startswith(INDENT), _lines(part))
        block = "\n".join(line.removeprefix(INDENT) for line in lines)
        for step in re.split(r"(?m)^\$ ", block)[1:]:
            command = _COMMAND.match(step)
            assert command is not None
            yield Step(command[0], step[command.end() :].strip("\n"))


def _lines(part: str) -> list[str]:
    return part.removeprefix("\n").splitlines()


def comparable(text: str) -> str:
    """``text`` without what differs from run to run."""
    for pattern, stand_in in VARYING:
        text = pattern.sub(stand_in, text)
    return text


class Shell:
    """A bash that keeps its variables and directory from command to command."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            ["bash"],
            cwd=directory,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, command: str) -> str:
        """What a command prints, on both outputs."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\necho '{END}'\n")
        self._process.stdin.flush()
        lines = []
        for line in self._process.stdout:
            if line.rstrip("\n").endswith(END):
                lines.append(line.rstrip("\n").removesuffix(END))
                break
            lines.append(line)
        return "".join(lines).strip("\n")

    def check(
        self,
        step: Step,
        told: Callable[[str], str] = comparable,
        patience: float = PATIENCE,
    ) -> None:
        """See that a step prints what its page says, as ``told`` tells it; looking is repeated."""
        expected, deadline = told(step.output), time.monotonic() + patience
        printed = told(self.run(step.command))
        while printed != expected and _LOOKS.match(step.command) and time.monotonic() < deadline:
            time.sleep(0.5)
            printed = told(self.run(step.command))
        assert printed == expected, step.command

    def close(self) -> None:
        """End it."""
        self._process.communicate("exit\n", timeout=10)
