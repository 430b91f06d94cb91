"""The command line of ``tools/openstack-testbed``."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType

from . import faults
from .configuration import client_file
from .lifecycle import Testbed
from .processes import Stopped
from .report import Failure, Progress
from .settings import CLOUDS, DEFAULT_PORT, resolve

_EPILOG = """\
a first try:
  tools/openstack-testbed up
  eval "$(tools/openstack-testbed env)"
  openstack --os-cloud uniform flavor list
  tools/openstack-testbed down

Each option has an environment variable of the same meaning: ISONEPH_TESTBED_DIR, _PORT, _CLOUDS,
_VOLUMES (0 or 1). Exit codes: 0 done (status: all is ready), 1 not done, 2 wrong command line,
130 or 143 interrupted, with what it had started ended; 141 the same, as nobody reads its output.
More: doc/source/openstack-testbed.rst
"""
_STOPS = {"term": "end", "kill": "kill", "freeze": "freeze"}


def main(arguments: Sequence[str]) -> int:
    """Do what the command line says; the exit code."""
    os.umask(0o077)
    options = _parser().parse_args(arguments)
    interrupted = 0
    try:
        testbed = Testbed(resolve(vars(options), os.environ), Progress())

        def interrupt(number: int, frame: FrameType | None) -> None:
            nonlocal interrupted
            interrupted = number
            testbed.processes.stop_working()
            signal.signal(number, signal.SIG_DFL)  # who asks twice does not want to wait

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, interrupt)
        act: Callable[[Testbed, argparse.Namespace], int] = options.act
        code = act(testbed, options)
        sys.stdout.flush()
    except Failure as failure:
        print(f"openstack-testbed: {failure}", file=sys.stderr)
        return 1
    except Stopped:
        print("openstack-testbed: interrupted; what it had started is ended", file=sys.stderr)
        return 128 + interrupted
    except BrokenPipeError:  # such as of `status | head`, which has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the last flush
        return 128 + signal.SIGPIPE
    return code


def _up(testbed: Testbed, options: argparse.Namespace) -> int:
    testbed.up()
    clouds = " and ".join(testbed.settings.clouds)
    testbed.say(f"{clouds}: up; clients find them in {client_file(testbed.settings)}")
    return 0


def _down(testbed: Testbed, options: argparse.Namespace) -> int:
    testbed.say(f"ended {testbed.down()} processes; the data stays")
    return 0


def _wipe(testbed: Testbed, options: argparse.Namespace) -> int:
    testbed.wipe()
    testbed.say(f"the clouds' data in {testbed.settings.directory} is gone")
    return 0


def _install(testbed: Testbed, options: argparse.Namespace) -> int:
    testbed.install()
    testbed.say("all is installed")
    return 0


def _status(testbed: Testbed, options: argparse.Namespace) -> int:
    states = testbed.status()
    for state in states:
        word = "down" if state.pid is None else "frozen" if state.frozen else "up"
        pid = "" if state.pid is None else f"pid {state.pid}"
        print(f"{state.name:24} {word:7} {pid:12} {state.memory / 2**20:6.0f} MiB")
    ready = all(state.pid and not state.frozen for state in states)
    for cloud in testbed.settings.clouds:
        silent = testbed.silent(cloud)
        ready = ready and not silent
        print(f"{cloud}: " + (f"no answer from {', '.join(silent)}" if silent else "ready"))
    print(f"total {sum(state.memory for state in states) / 2**20:.0f} MiB")
    return 0 if ready else 1


def _start(testbed: Testbed, options: argparse.Namespace) -> int:
    testbed.start(options.names)
    return 0


def _stop(testbed: Testbed, options: argparse.Namespace) -> int:
    for name, lived in testbed.stop(options.names, _STOPS[options.how]):
        if not lived:
            print(f"{name} was down")
    return 0


def _env(testbed: Testbed, options: argparse.Namespace) -> int:
    print(f"export OS_CLIENT_CONFIG_FILE={client_file(testbed.settings)}")
    print(f'export PATH="$PATH:{testbed.settings.directory / "venv" / "bin"}"')
    return 0


def _faults(testbed: Testbed, options: argparse.Namespace) -> int:
    settings = testbed.settings
    if options.rules is None and not options.clear:
        clouds = [options.cloud] if options.cloud else settings.clouds
        for cloud in clouds:
            for service in [options.service] if options.service else faults.FAULTY:
                for rule in faults.read(settings, cloud, service):
                    print(cloud, service, json.dumps(rule))
        return 0
    if not options.service:
        raise Failure("faults: name the cloud and the service that the rules are for")
    try:
        rules = [] if options.clear else json.loads(options.rules)
    except ValueError as error:
        raise Failure(f"faults: expected JSON: {error}") from None
    faults.write(settings, options.cloud, options.service, rules)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tools/openstack-testbed",
        description="Two real OpenStack clouds on this machine, uniform and quebec.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = _common_options()
    verbs = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def verb(
        name: str, act: Callable[[Testbed, argparse.Namespace], int], what: str, more: str = ""
    ) -> argparse.ArgumentParser:
        made = verbs.add_parser(
            name,
            help=what,
            description=f"{what[0].upper()}{what[1:]}. {more}",
            parents=[common],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.set_defaults(act=act)
        return made

    verb("up", _up, "install, configure and start what is not there; wait until all is ready")
    verb("down", _down, "end what `up` has started; the data stays")
    verb("status", _status, "show processes and memory; exit code 0 when all is ready")
    verb("wipe", _wipe, "down, and remove the clouds' data; what is installed stays")
    verb("install", _install, "install Debian packages, and OpenStack in a virtualenv")
    verb("env", _env, "print the shell commands that point OpenStack's clients at the clouds")
    names = "such as uniform-nova-api (see status), or rabbitmq or mariadb, which both clouds share"
    start = verb("start", _start, "start single processes, or let frozen ones go on")
    start.add_argument("names", nargs="+", metavar="NAME", help=names)
    stop = verb("stop", _stop, "end or freeze single processes")
    stop.add_argument("names", nargs="+", metavar="NAME", help=names)
    stop.add_argument(
        "--how", choices=_STOPS, default="term", help="SIGTERM (default), SIGKILL, or SIGSTOP"
    )
    rules = verb("faults", _faults, "show or set the faults that services show", _fault_keys())
    rules.add_argument("cloud", nargs="?", choices=CLOUDS, help="which cloud")
    rules.add_argument("service", nargs="?", choices=faults.FAULTY, help="which service")
    rules.add_argument(
        "rules", nargs="?", help="a JSON list of objects; the first that fits counts"
    )
    rules.add_argument("--clear", action="store_true", help="no faults any more")
    return parser


def _common_options() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    group = common.add_argument_group("the testbed")
    group.add_argument(
        "--dir", help="where all of it is (default: ~/.cache/isoneph/openstack-testbed)"
    )
    group.add_argument("--port", help=f"the first of its ports (default: {DEFAULT_PORT})")
    group.add_argument(
        "--volumes",
        action=argparse.BooleanOptionalAction,
        help="whether the clouds have Cinder (default: yes); fixed by the first `up`",
    )
    group.add_argument("--clouds", help=f"which clouds (default: {','.join(CLOUDS)})")
    return common


def _fault_keys() -> str:
    text = ""
    for title, service in (("nova-compute, for servers", faults.SERVERS), ("APIs", "keystone")):
        text += f"\n\n{title}:\n"
        for key, (kind, meaning) in faults.keys(service).items():
            text += f"  {key:14} {kind}: {meaning}\n"
    return text.rstrip()
