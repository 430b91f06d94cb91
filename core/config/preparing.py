"""What an application describes to be there before its VMs: for each driver, in its own words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from isoneph.core.config.clouds import Clouds
from isoneph.core.config.documents import Document, part
from isoneph.core.config.validation import Report, check, load_plugin
from isoneph.core.plugin import Cloud
from isoneph.core.registry import Registry

KEY = "prepare"


def read_prepare(
    document: Document, used: Sequence[str] | None, clouds: Clouds, registry: Registry
) -> Mapping[str, Mapping[str, Any]]:
    """The descriptions by driver; ``used`` is None when the clouds cannot be known.

    As long as something is wrong with the clouds, descriptions are not compared with them.
    """
    certain = _certain(document, used, clouds)
    described: dict[str, Mapping[str, Any]] = {}
    for name, entry in part(document.value, KEY, dict).items():
        report = document.at(KEY, name)
        driver = cast("type[Cloud] | None", load_plugin(registry, "clouds", name, report))
        if driver is None:
            continue
        if not driver.prepare_schema:
            report((), "clouds of this driver need no preparation; remove it")
            continue
        options = check(driver.prepare_schema, entry, report)
        concerned = [each for each in certain if clouds.drivers[each] is driver]
        if certain and not concerned:
            report((), f"none of the application's clouds has this driver: {', '.join(certain)}")
        elif certain and options is not None:
            _check_together(driver, options, concerned, report)
            described[name] = options
    return described


def _certain(document: Document, used: Sequence[str] | None, clouds: Clouds) -> Sequence[str]:
    """The clouds that the application uses, if these are all that it names and their drivers are
    known; else none."""
    named = part(document.value, "clouds", list) or used
    if used is None or used != named or not all(each in clouds.drivers for each in used):
        return ()
    return used


def _check_together(
    driver: type[Cloud], options: Mapping[str, Any], clouds: Sequence[str], report: Report
) -> None:
    try:
        problems = driver.preparation_problems(options, clouds)
    except Exception as error:  # noqa: BLE001 (a plugin may raise anything)
        problems = [f"the plugin failed to check this: {type(error).__name__}, a mistake in it"]
    for problem in problems:
        report((), problem)
