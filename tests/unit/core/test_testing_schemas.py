from __future__ import annotations

from voluptuous import All, Any, Optional, Required, Schema

from isoneph.core.testing.schemas import undescribed_options, unfit_defaults

SCHEMA = {
    Required("told", description="It is."): int,
    Required("untold"): int,
    "bare": int,
    str: {Optional("deep", default="x"): int},
    Optional("list", default=list, description="Many."): [{Optional("in_list"): int}],
    Optional("all", default=-1, description="A choice."): All(
        Schema({Optional("in_all"): int}), len
    ),
    Optional("any", description="Either."): Any(None, {Optional("in_any", default=0): int}),
}


def test_options_without_description_are_found_however_deep() -> None:
    assert undescribed_options(SCHEMA) == ["untold", "bare", "deep", "in_list", "in_all", "in_any"]


def test_defaults_that_do_not_fit_are_found_however_deep() -> None:
    deep, outer = unfit_defaults(SCHEMA)
    assert deep == "deep: expected int"
    assert outer.startswith("all: expected a dictionary")
