"""``isoneph.conf``: read with oslo.config, and strictly.

oslo.config ignores what nobody registered and stops at the first error. So each file is first
read here with oslo.config's own parser, to know the line of every option: one that nobody knows
is a problem, and a value that is refused is reported with its place.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from oslo_config import cfg, iniparser, types

from isoneph.core.config.documents import read_text
from isoneph.core.config.lookup import keys_at
from isoneph.core.config.masking import is_secret, secrets_in
from isoneph.core.config.options import API, DEFAULT, ENGINE, STORE, list_opts
from isoneph.core.config.problems import KeyPath, Problems, unknown
from isoneph.core.config.validation import Report, check, load_plugin
from isoneph.core.registry import Registry
from isoneph.core.settings import ServiceSettings, StoreSettings

SERVICE_FILE = "isoneph.conf"

_MAX_SYNTAX_ERRORS = 20
_WORDS = {
    types.Boolean: "true or false",
    types.Integer: "a whole number",
    types.Float: "a number",
    types.Port: "a port number",
    types.HostAddress: "a host name or an IP address",
}


@dataclass(frozen=True, slots=True)
class Assignment:
    """One option that a file sets; ``group`` is its section as oslo.config knows it."""

    file: Path
    line: int
    group: str
    key: str
    value: str


class _Scanner(iniparser.BaseParser):
    """Notes what a file assigns, and where."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.found: list[Assignment] = []
        self.sections: list[tuple[int, str]] = []
        self._file = file

    def new_section(self, section: str) -> None:
        group = section if section == DEFAULT.name else section.lower()
        self.sections.append((self.lineno, group))

    def assignment(self, key: str, value: list[str]) -> None:
        # The parser hands an option over on the line after its last.
        line = self.lineno - len(value)
        if not self.sections:
            raise iniparser.ParseError("no section before it, such as [DEFAULT]", line, "")
        group = self.sections[-1][1]
        self.found.append(Assignment(self._file, line, group, key, "\n".join(value)))


class ServiceFiles:
    """The service's configuration files with the environment, as oslo.config reads them."""

    def __init__(self, files: Sequence[Path], base: Path, problems: Problems) -> None:
        self.files = files
        self._base = base
        self._problems = problems
        self._assignments: list[Assignment] = []
        self._sections: list[tuple[Path, int, str]] = []
        readable = [str(file) for file in files if self._scan(file)]
        self._conf = cfg.ConfigOpts()
        self._conf(args=[], default_config_files=readable, default_config_dirs=[])
        self._registered: dict[str, list[cfg.Opt]] = {}
        for group, options in list_opts():
            self.register(group.name, options)

    def register(self, group: str, options: Sequence[cfg.Opt]) -> None:
        """Let ``options`` be known in a section."""
        self._registered.setdefault(group, []).extend(options)
        self._conf.register_opts(options, group=None if group == DEFAULT.name else group)

    def values(self, group: cfg.OptGroup) -> dict[str, Any]:
        """The registered options of a section; a refused one has its default."""
        return {opt.dest: self._value(group.name, opt) for opt in self._registered[group.name]}

    def problem(self, group: str, key: str, text: str, *inner: str | int) -> None:
        """Note a problem with an option, or what is ``inner`` to it, at the place that sets it;
        with an empty ``key``, a problem with the section."""
        variable = _variable(group, key)
        source = self.source(group, key)
        path = (group, key, *inner) if key else (group,)
        if variable in os.environ:
            self._problems.add(f"environment variable {variable}", text, path=inner)
        elif source is not None:
            self._problems.add(str(source.file), text, line=source.line, path=path)
        else:
            file = self.files[0] if self.files else self._base / SERVICE_FILE
            self._problems.add(str(file), text, path=path)

    def source(self, group: str, key: str) -> Assignment | None:
        """Which assignment counts: the last; with an empty ``key``, the section's last."""
        found = [
            each for each in self._assignments if each.group == group and key in {"", each.key}
        ]
        return found[-1] if found else None

    def resolve(self, key: str, value: str) -> Path:
        """A path in [DEFAULT], relative to the directory of the file that sets it."""
        source = self.source(DEFAULT.name, key)
        in_file = source is not None and _variable(DEFAULT.name, key) not in os.environ
        base = source.file.parent if source is not None and in_file else self._base
        path = Path(value)
        try:
            path = path.expanduser()
        except RuntimeError:  # a '~' without a home: told as a file that is not there
            return path
        return base / path

    def secrets(self) -> Iterator[tuple[Path, int, KeyPath]]:
        """Where in the files something secret is written."""
        for each in self._assignments:
            if any(secrets_in({each.key: each.value})):
                yield each.file, each.line, (each.group, each.key)

    def check_known(self, *, but: str | None = None) -> None:
        """Note every section and option that is not registered, and every option set twice in
        one file. ``but`` is a section of which the options cannot be known."""
        for file, line, group in self._sections:
            if group not in self._registered:
                text = unknown("section", group, self._registered)
                self._problems.add(str(file), text, line=line, path=(group,))
        first: dict[tuple[Path, str, str], int] = {}
        for each in self._assignments:
            place = (each.file, each.group, each.key)
            options = [opt.dest for opt in self._registered.get(each.group, ())]
            text = ""
            if place in first:
                text = f"written twice, first on line {first[place]}"
            elif options and each.key not in options and each.group != but:
                text = unknown("option", each.key, options)
            if text:
                path = (each.group, each.key)
                self._problems.add(str(each.file), text, line=each.line, path=path)
            first.setdefault(place, each.line)

    def _scan(self, file: Path) -> bool:
        """Note what ``file`` assigns; false when oslo.config could not read it."""
        text = read_text(file, self._problems)
        if text is None:
            return False
        lines = text.split("\n")
        errors: list[int] = []
        while True:
            scanner = _Scanner(file)
            try:
                scanner.parse([*lines, ""])
            except iniparser.ParseError as error:
                message = error.msg[:1].lower() + error.msg[1:]
                self._problems.add(str(file), message, line=error.lineno)
                errors.append(error.lineno)
                lines[error.lineno - 1] = ""  # to see what else is wrong
                if len(errors) < _MAX_SYNTAX_ERRORS:
                    continue
            break
        self._assignments += scanner.found
        self._sections += [(file, line, group) for line, group in scanner.sections]
        return not errors

    def _value(self, group: str, opt: cfg.Opt) -> Any:
        try:
            values = self._conf if group == DEFAULT.name else self._conf[group]
            value = values[opt.dest]
        except ValueError:
            value = None
        except (cfg.Error, RecursionError):
            self.problem(
                group, opt.dest, "'$' must begin another option's name; write '$$' for '$'"
            )
            return opt.default
        refused = value is None and opt.default is not None
        if refused or (isinstance(value, float) and not math.isfinite(value)):
            self.problem(group, opt.dest, self._expected(group, opt))
            return opt.default
        return value

    def _expected(self, group: str, opt: cfg.Opt) -> str:
        kind = opt.type
        choices = getattr(kind, "choices", None)
        if choices:
            source = self.source(group, opt.dest)
            return unknown("word", source.value if source else "", choices)
        low, high = getattr(kind, "min", None), getattr(kind, "max", None)
        bounds = "" if low is None else f" of at least {low:g}"
        bounds = bounds if high is None else f" from {low:g} to {high:g}"
        return f"expected {_WORDS.get(type(kind), 'text')}{bounds}"


def _variable(group: str, key: str) -> str:
    """Where oslo.config looks for an option in the environment."""
    return f"OS_{group.upper()}__{key.upper()}"


def read_service(files: ServiceFiles) -> ServiceSettings:
    """The service's own settings; problems are noted."""
    default, engine = files.values(DEFAULT), files.values(ENGINE)
    if engine["lease"] <= engine["interval"]:
        key = "lease" if files.source(ENGINE.name, "lease") else "interval"
        text = "the lease, {lease:g} s, must be longer than the interval, {interval:g} s"
        files.problem(ENGINE.name, key, text.format_map(engine))
    return ServiceSettings(
        log_level=default["log_level"],
        log_format=default["log_format"],
        **files.values(API),
        **{f"engine_{key}": value for key, value in engine.items()},
    )


def read_store(files: ServiceFiles, registry: Registry) -> StoreSettings:
    """The store and its driver's options, which may come from the environment too."""
    core = files.values(STORE)

    def report(path: KeyPath, text: str) -> None:
        key, *inner = path or ("",)
        files.problem(STORE.name, str(key), text, *inner)

    plugin = load_plugin(registry, "stores", core["driver"], report, "driver")
    if plugin is None:
        files.check_known(but=STORE.name)
        return StoreSettings()
    names = [name for name in keys_at(plugin.schema, ()) if name not in core]
    files.register(STORE.name, [cfg.StrOpt(name, secret=is_secret(name)) for name in names])
    files.check_known()
    given = {name: value for name, value in files.values(STORE).items() if name in names}
    texts = {name: value for name, value in given.items() if value is not None}
    options = _fit(plugin.schema, texts, report)
    return StoreSettings(driver=core["driver"], timeout=core["timeout"], options=options or {})


def _fit(schema: Any, texts: Mapping[str, str], report: Report) -> dict[str, Any] | None:
    """``texts`` as ``schema`` makes them, read as YAML where it does not take a text."""
    refused: set[str | int] = set()
    check(schema, dict(texts), lambda path, _text: refused.update(path[:1]))
    values = {key: _from_yaml(text) if key in refused else text for key, text in texts.items()}
    return check(schema, values, report)


def _from_yaml(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, LookupError, RecursionError):
        return text
