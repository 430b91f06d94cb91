"""Reading configuration files strictly: text in UTF-8, and YAML with its line numbers.

PyYAML takes the last of two equal keys, builds whatever a tag names and expands aliases
without end; here each of these is a problem with its line.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from isoneph.core.config.problems import KeyPath, Problems

Part = TypeVar("Part", dict[str, Any], list[Any], str)

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
#: Values in one file after its aliases are expanded.
MAX_VALUES = 50_000

_TAG = "tag:yaml.org,2002:"
_SCALARS = {
    _TAG + "null": "nothing",
    _TAG + "bool": "a boolean",
    _TAG + "int": "a number",
    _TAG + "float": "a number",
    _TAG + "str": "text",
}
# PyYAML quotes what it stumbled over, which may be part of a secret; token names are harmless.
_QUOTED = re.compile(r"'(?!<)[^']{2,}'")


class _Loader(yaml.SafeLoader):
    """YAML as OpenStack reads it, but dates and times are text: no option is one."""


_Loader.yaml_implicit_resolvers = {
    char: [rule for rule in rules if rule[0] != _TAG + "timestamp"]
    for char, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True, slots=True)
class Document:
    """A YAML file's content, and on which line what of it stands."""

    file: str
    value: Any
    lines: Mapping[KeyPath, int]
    problems: Problems

    def problem(self, path: KeyPath, text: str) -> None:
        """Note a problem at ``path``; what is not there is placed at what would hold it."""
        known = path
        while known and known not in self.lines:
            known = known[:-1]
        self.problems.add(self.file, text, line=self.lines.get(known, 1), path=path)

    def at(self, *base: str | int) -> Callable[[KeyPath, str], None]:
        """:meth:`problem` for paths that begin at ``base``."""
        return lambda path, text: self.problem((*base, *path), text)


def part(value: Any, key: str, kind: type[Part]) -> Part:
    """What stands under ``key`` where ``value`` is a mapping and that a ``kind``; else an empty
    one: for looking into a document that may be wrong elsewhere."""
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, kind) else kind()


def read_text(path: Path, problems: Problems) -> str | None:
    """The text of a file, or None after a problem was noted."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            what = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
            problems.add(str(path), f"this is {what}; expected a file")
            return None
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        problems.add(str(path), "no such file")
        return None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        problems.add(str(path), f"cannot be read: {reason}")
        return None
    if len(data) > MAX_BYTES:
        problems.add(str(path), f"larger than {MAX_BYTES >> 20} MiB, which no configuration is")
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problems.add(str(path), "not in UTF-8; save the file in that encoding", line=line)
        return None


def read_document(path: Path, problems: Problems) -> Document | None:
    """The YAML mapping in a file, or None after problems were noted that leave nothing of it."""
    text = read_text(path, problems)
    if text is None:
        return None
    try:
        loader, node = _parse(text)
        reader = _Reader(loader, str(path), problems)
        return Document(str(path), reader.read(node, (), 0), reader.lines, problems)
    except _Unreadable as error:
        problems.add(str(path), error.reason, line=error.line)
        return None


class _Unreadable(Exception):
    """Nothing can be made of the document."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line


def _parse(text: str) -> tuple[_Loader, yaml.Node]:
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _Unreadable("a character that YAML does not allow", line) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _Unreadable(_syntax(error, text), mark.line + 1 if mark else None) from None
    except RecursionError:
        raise _Unreadable(f"nested more than {MAX_DEPTH} levels deep") from None
    if node is None:
        raise _Unreadable("the file is empty; expected a mapping")
    return loader, node


class _Reader:
    """Turns YAML nodes into values, noting lines and problems on the way."""

    def __init__(self, loader: _Loader, file: str, problems: Problems) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._loader = loader
        self._file = file
        self._problems = problems
        self._values = 0

    def read(self, node: yaml.Node, path: KeyPath, depth: int) -> Any:
        """The value of ``node``; an alias is read anew wherever it is used."""
        self._values += 1
        if self._values > MAX_VALUES:
            raise _Unreadable(f"more than {MAX_VALUES} values; are aliases nested?", _line(node))
        if depth > MAX_DEPTH:
            raise _Unreadable(
                f"nested more than {MAX_DEPTH} levels deep; does an alias hold itself?", _line(node)
            )
        self.lines.setdefault(path, _line(node))
        if isinstance(node, yaml.MappingNode):
            self._check_tag(node, path, "map")
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            self._check_tag(node, path, "seq")
            return [
                self.read(item, (*path, index), depth + 1) for index, item in enumerate(node.value)
            ]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath, depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        merged: list[yaml.Node] = []
        for key_node, value_node in node.value:
            if key_node.tag == _TAG + "merge":
                merged += _merged(value_node)
                continue
            key = self._key(key_node, path)
            if key is None:
                continue
            if key in values:
                first = self.lines[*path, key]
                self._problem(key_node, (*path, key), f"written twice, first on line {first}")
                continue
            self.lines.setdefault((*path, key), _line(key_node))
            values[key] = self.read(value_node, (*path, key), depth + 1)
        for source in merged:
            if not isinstance(source, yaml.MappingNode):
                self._problem(source, path, "'<<' takes in mappings only")
                continue
            # What is written here wins over what is taken in, and so do the lines noted first.
            values = {**self.read(source, path, depth + 1), **values}
        return values

    def _key(self, node: yaml.Node, path: KeyPath) -> str | None:
        if not isinstance(node, yaml.ScalarNode):
            self._problem(node, path, "a key is a list or a mapping; expected text")
            return None
        kind = _SCALARS.get(node.tag)
        if kind != "text":
            found = f"YAML reads it as {kind}" if kind else "its tag is not known"
            self._problem(
                node, (*path, node.value), f"expected text as key, but {found}; put it in quotes"
            )
            return None
        return str(node.value)

    def _scalar(self, node: yaml.Node, path: KeyPath) -> Any:
        if node.tag not in _SCALARS:
            self._problem(node, path, "YAML does not take this for text; put it in quotes")
            return node.value
        if ":" in node.value:  # YAML 1.1 takes 22:30 and 8080:80 for numbers to the base of 60
            return node.value
        try:
            return self._loader.construct_object(node)
        except (ValueError, LookupError, ArithmeticError):
            self._problem(node, path, f"this is not {_SCALARS[node.tag]}, as its tag says")
            return node.value

    def _check_tag(self, node: yaml.Node, path: KeyPath, tag: str) -> None:
        if node.tag != _TAG + tag:
            self._problem(node, path, "a tag that is not known; leave it out")

    def _problem(self, node: yaml.Node, path: KeyPath, text: str) -> None:
        self._problems.add(self._file, text, line=_line(node), path=path)


def _merged(node: yaml.Node) -> list[yaml.Node]:
    return list(node.value) if isinstance(node, yaml.SequenceNode) else [node]


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _syntax(error: yaml.MarkedYAMLError, text: str) -> str:
    """What the parser says, without any text of the file."""
    mark = error.problem_mark
    if mark is not None and text[mark.index : mark.index + 1] == "\t":
        return "a tab; YAML is indented with spaces"
    said = _QUOTED.sub("'...'", error.problem or "not valid")
    if "undefined alias" in said:
        said = "found an undefined alias; put a text that begins with '*' in quotes"
    context = f"{error.context}, " if error.context else ""
    context = _QUOTED.sub("'...'", context)
    return f"not valid YAML: {context}{said}"
