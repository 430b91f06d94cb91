"""A configuration directory that tests write to, and small plugins for it to name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from voluptuous import All, Exclusive, Extra, In, Invalid, Optional, Range, Required
from voluptuous import Any as OneOf

from isoneph.core.config import Loaded, load_settings
from isoneph.core.errors import ConfigInvalid, PluginBroken, PluginMissing
from isoneph.core.model import Limits, Vm, VmRequest
from isoneph.core.plugin import (
    Cloud,
    OptionSchema,
    Part,
    Placement,
    Plugin,
    Relay,
    Store,
    Victims,
)
from isoneph.core.registry import Registry

DIGEST = "0123456789abcdef" * 4


def port(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise Invalid("expected a port")


def talkative(value: Any) -> str:
    raise Invalid(f"expected anything but {value}")


def crashing(value: Any) -> str:
    raise RuntimeError("the validator is broken")


#: A verb of a cloud that exists for its schemas was called.
UNUSED = AssertionError("neither reading a configuration nor preparing asks for VMs")


class FakeCloud(Cloud):
    """A cloud of which only the schemas are used."""

    schema: ClassVar[OptionSchema] = {
        Required("region", description="Where it is; as its provider names it."): str,
        Optional("size", default=10): All(int, Range(min=1, max=99)),
        Optional("mode"): In(["fast", "cheap"]),
        Optional("auth"): {Optional("user"): str, Optional("password"): talkative},
        Optional("ports"): [{Required("number"): port, Optional("label"): OneOf(str, [str])}],
        Optional("crash"): crashing,
    }
    type_schema: ClassVar[OptionSchema] = {
        Required("flavor"): str,
        Optional("image", default="linux"): str,
        Optional("disks"): [{Required("gb"): int}],
    }
    prepare_schema: ClassVar[OptionSchema] = {
        Optional("networks", default=dict): {str: {Required("pools"): {str: str}}},
    }

    @classmethod
    def takes(cls, options: Mapping[str, Any]) -> Mapping[str, float]:
        drives = len(options.get("disks", ()))
        return {"drives": drives, "ram": 256} if drives > 1 else {}

    @classmethod
    def preparation_problems(
        cls, options: Mapping[str, Any], clouds: Sequence[str]
    ) -> Sequence[str]:
        return [
            f"networks.{name}.pools: no cloud '{cloud}'"
            for name, network in options["networks"].items()
            for cloud in network["pools"]
            if cloud not in clouds
        ]

    # Reading a configuration, and preparing clouds by it, call none of the verbs.

    def create_vm(self, request: VmRequest) -> Vm:
        raise UNUSED

    def get_vm(self, vm: Vm) -> Vm | None:
        raise UNUSED

    def list_vms(self, application: str) -> Sequence[Vm]:
        raise UNUSED

    def delete_vm(self, vm: Vm) -> None:
        raise UNUSED

    def get_limits(self) -> Limits:
        raise UNUSED


class BareCloud(FakeCloud):
    """Another driver, with types of its own."""

    schema: ClassVar[OptionSchema] = {Extra: object}
    type_schema: ClassVar[OptionSchema] = {Optional("script"): str}
    prepare_schema: ClassVar[OptionSchema] = {}


class CountBalance(Placement):
    """Without options."""


class Priced(Placement):
    """With options."""

    schema: ClassVar[OptionSchema] = {Required("prices"): {str: float}}


class LargestCloud(Victims):
    """Without options."""


class MemoryStore(Store):
    """A store of which only the schema is used."""


class NetworkStore(MemoryStore):
    """With options of several types."""

    schema: ClassVar[OptionSchema] = {
        Required("url"): str,
        Optional("connections", default=4): All(int, Range(min=1)),
        Optional("hosts"): [str],
        Exclusive("password", "credentials"): str,
        Exclusive("password_file", "credentials"): str,
    }


class WithParts(Plugin):
    """A part that is put together from parts itself."""

    schema: ClassVar[OptionSchema] = {Optional("mtu", default=1200): All(int, Range(min=1))}
    parts: ClassVar[Mapping[str, Part]] = {"inner": Part("routers", "plain", "Inside.")}


class PlainPart(Plugin):
    """A part without parts."""

    schema: ClassVar[OptionSchema] = {Optional("depth", default=1): int}


class EndlessPart(Plugin):
    """A part that holds itself."""

    parts: ClassVar[Mapping[str, Part]] = {"again": Part("transports", "endless", "Once more.")}


class FakeRelay(Relay):
    """A relay of which only the schemas are used."""

    schema: ClassVar[OptionSchema] = {
        Required("listen", description="Where."): [str],
        Optional("first"): bool,
        Optional("second"): bool,
    }
    parts: ClassVar[Mapping[str, Part]] = {
        "transport": Part("transports", "auto", "What carries it."),
    }

    @classmethod
    def problems(cls, options: Mapping[str, Any]) -> Sequence[str]:
        if "second" in options and options["servers"]:
            return ["second takes no servers"]
        return ["first and second do not go together"] if {"first", "second"} <= {*options} else []


class FakeRegistry(Registry):
    """Has the plugins above; ``broken`` is there and does not load."""

    plugins: ClassVar[Mapping[str, Mapping[str, type[Plugin]]]] = {
        "clouds": {"fake": FakeCloud, "bare": BareCloud},
        "placement": {"count-balance": CountBalance, "priced": Priced},
        "victims": {"largest-cloud": LargestCloud},
        "stores": {"memory": MemoryStore, "network": NetworkStore},
        "relays": {"fake": FakeRelay},
        "routers": {"plain": PlainPart},
        "transports": {"auto": WithParts, "endless": EndlessPart},
    }

    def load(self, kind: str, name: str) -> type[Plugin]:
        if name == "broken":
            raise PluginBroken(f"{kind} plugin 'broken' of package x does not load: a\nb")
        try:
            return self.plugins[kind][name]
        except KeyError:
            raise PluginMissing(f"no {kind} plugin '{name}'") from None


CLOUDS = """\
clouds:
  uniform: {driver: fake, region: north}
  quebec: {driver: fake, region: west}
"""
APPLICATION = """\
types:
  worker:
    options: {flavor: small}
"""


class Directory:
    """A configuration directory: valid until a test writes something else into it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "applications").mkdir()
        self.write("clouds.yaml", CLOUDS)
        self.write("applications/mme.yaml", APPLICATION)

    def write(self, name: str, text: str | bytes) -> Path:
        path = self.path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def load(self) -> Loaded:
        return load_settings(config_dirs=[self.path], registry=FakeRegistry())

    def problems(self) -> list[str]:
        """The problem lines, without the directory before every file's name."""
        with pytest.raises(ConfigInvalid) as caught:
            self.load()
        return self.shorten(caught.value.problems)

    def shorten(self, lines: Sequence[str]) -> list[str]:
        return [line.replace(f"{self.path}/", "") for line in lines]


def cases(name: str) -> list[Any]:
    """The broken texts of a file in ``tests/unit/core/config/``, each with its problems.

    A case is ``===== what is wrong``, the text, ``-----``, and the problem lines.
    """
    path = Path(__file__).parents[1] / "unit" / "core" / "config" / name
    found = []
    for case in path.read_text(encoding="utf-8").split("===== ")[1:]:
        title, _, rest = case.partition("\n")
        text, _, problems = rest.partition("-----\n")
        found.append(pytest.param(text, problems.splitlines(), id=title.replace(" ", "-")))
    return found
