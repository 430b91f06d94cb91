"""Finding and loading plugins, strictly: what is missing, broken or doubled is an error.

stevedore by default drops a plugin that fails to import; here that is :class:`PluginBroken`.
Only the plugin that is asked for is imported, so a broken package that no configuration names
harms nobody.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from stevedore import ExtensionManager, NamedExtensionManager

from isoneph.core.errors import PluginBroken, PluginDoubled, PluginMissing
from isoneph.core.plugin import KINDS, Plugin

GROUP_PREFIX = "isoneph."


def group_of(kind: str) -> str:
    """The entry-point group of a plugin kind."""
    return GROUP_PREFIX + kind


class Registry:
    """The plugins that are installed. Loading is memoised; safe for threads once loaded."""

    def __init__(self) -> None:
        self._loaded: dict[tuple[str, str], type[Plugin]] = {}
        self._points: dict[str, Mapping[str, list[EntryPoint]]] = {}

    def entry_points(self, kind: str) -> Mapping[str, list[EntryPoint]]:
        """All entry points of a kind by plugin name, sorted; nothing is imported. Looked up
        once: what is installed later needs a new process anyway."""
        if kind not in self._points:
            self._points[kind] = self._look_up(kind)
        return self._points[kind]

    def _look_up(self, kind: str) -> Mapping[str, list[EntryPoint]]:
        found: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=group_of(kind)):
            points = found.setdefault(point.name, [])
            # The same distribution may be seen twice on sys.path (a checkout and its install).
            if all(point.value != other.value for other in points):
                points.append(point)
        return dict(sorted(found.items()))

    def load(self, kind: str, name: str) -> type[Plugin]:
        """The class of one plugin.

        Raises PluginMissing (naming the nearest), PluginBroken or PluginDoubled.
        """
        if (kind, name) not in self._loaded:
            self._loaded[kind, name] = self._load(kind, name)
        return self._loaded[kind, name]

    def _load(self, kind: str, name: str) -> type[Plugin]:
        points = self.entry_points(kind)
        if name not in points:
            raise PluginMissing(_missing(kind, name, list(points)))
        if len(points[name]) > 1:
            packages = sorted(_package(point) for point in points[name])
            raise PluginDoubled(
                f"{kind} plugin '{name}' is offered by several packages: {', '.join(packages)}; "
                "uninstall all but one"
            )
        point = points[name][0]

        def broken(
            _manager: ExtensionManager[Any], _point: EntryPoint, error: BaseException
        ) -> None:
            raise PluginBroken(
                f"{kind} plugin '{name}' of package {_package(point)} does not load: "
                f"{type(error).__name__}: {error}"
            ) from error

        def missing(_names: Iterable[str]) -> None:
            raise PluginMissing(_missing(kind, name, list(points)))

        manager: Any = NamedExtensionManager(
            group_of(kind),
            names=[name],
            on_load_failure_callback=broken,
            on_missing_entrypoints_callback=missing,
        )
        plugin = manager[name].plugin
        if not (isinstance(plugin, type) and issubclass(plugin, KINDS[kind])):
            raise PluginBroken(
                f"{kind} plugin '{name}' of package {_package(point)} is not a class derived "
                f"from isoneph.core.plugin.{KINDS[kind].__name__}"
            )
        return plugin


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.value


def _missing(kind: str, name: str, installed: list[str]) -> str:
    near = difflib.get_close_matches(name, installed, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    return f"no {kind} plugin '{name}'; {hint}installed: {', '.join(installed) or 'none'}"
