"""The faults that a service can be told to show, and the files that tell it.

Each service of each cloud has one file with a list of rules, read again whenever it has changed.
``nova-compute``'s are about servers (`inside/nova_virt/faulty.py`), those of the APIs about
requests (`inside/testbed_api.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from .report import Failure
from .services import APIS
from .settings import Settings

Rule = Mapping[str, Any]

#: For each key of a rule: its type, and what it means.
_SERVER_KEYS: Mapping[str, tuple[str, str]] = {
    "match": ("pattern", "found in the server's name; without it every server is meant"),
    "spawn_delay": ("seconds", "the boot takes so much longer"),
    "spawn_error": ("text", "the boot fails, is tried again, and ends in ERROR"),
    "spawn_abort": ("text", "the boot fails for good: ERROR at once"),
    "destroy_delay": ("seconds", "the removal takes so much longer"),
    "destroy_error": ("text", "the removal fails: ERROR"),
}
_REQUEST_KEYS: Mapping[str, tuple[str, str]] = {
    "method": ("pattern", "is all of the method; without it every method is meant"),
    "path": ("pattern", "found in the path; without it every path is meant"),
    "agent": ("pattern", "found in the User-Agent; without it every client is meant"),
    "times": ("number", "only the first so many such requests; without it all of them"),
    "delay": ("seconds", "the request waits before it is handled"),
    "status": ("number", "answered with this code instead of being handled"),
    "retry_after": ("number", "seconds, the answer's Retry-After"),
    "message": ("text", "the answer's text"),
    "lose": ("request or answer", "the connection is cut before, or after, it is handled"),
}
SERVERS = "nova-compute"
#: The services that can show faults.
FAULTY = (*APIS, SERVERS)


def keys(service: str) -> Mapping[str, tuple[str, str]]:
    """What the rules of a service may say."""
    return _SERVER_KEYS if service == SERVERS else _REQUEST_KEYS


def check(service: str, rules: object) -> list[Rule]:
    """``rules``, when they are well formed.

    Raises:
        Failure: They are not; with the place and what was expected.
    """
    if service not in FAULTY:
        raise Failure(f"service {service}: expected one of {', '.join(FAULTY)}")
    if not isinstance(rules, Sequence) or isinstance(rules, str):
        raise Failure("faults: expected a list of objects")
    for number, rule in enumerate(rules, 1):
        if not isinstance(rule, Mapping):
            raise Failure(f"fault {number}: expected an object")
        for key, value in rule.items():
            if key not in keys(service):
                raise Failure(f"fault {number}: {key}: expected one of {', '.join(keys(service))}")
            kind = keys(service)[key][0]
            if not _fits(kind, value):
                raise Failure(f"fault {number}: {key}: {value!r} is no {kind}")
    return list(rules)


def read(settings: Settings, cloud: str, service: str) -> list[Rule]:
    """The rules in force."""
    try:
        rules: list[Rule] = json.loads(settings.faults(cloud, service).read_text())
    except FileNotFoundError:
        return []
    return rules


def write(settings: Settings, cloud: str, service: str, rules: object) -> None:
    """Put rules in force, instead of those before; none when the list is empty.

    Raises:
        Failure: The rules are not well formed.
    """
    checked = check(service, rules)
    path = settings.faults(cloud, service)
    if not path.parent.exists():
        raise Failure(f"cloud {cloud} has never been up")
    part = path.with_suffix(".part")
    part.write_text(json.dumps(checked) + "\n")
    part.replace(path)


def _fits(kind: str, value: object) -> bool:
    match kind:
        case "pattern":
            return isinstance(value, str) and _compiles(value)
        case "text":
            return isinstance(value, str) and value != ""
        case "number":
            return isinstance(value, int) and value > 0
        case "seconds":
            return isinstance(value, int | float) and value >= 0
        case _:
            return value in kind.split(" or ")


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True
