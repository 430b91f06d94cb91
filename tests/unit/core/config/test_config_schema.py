"""What plugin schemas tell: their reference, and what is said of wrong values."""

from __future__ import annotations

import re
from typing import Any

import pytest
import voluptuous as vol

from configured import FakeCloud
from isoneph.core.config import OptionRow, option_rows
from isoneph.core.config.rules import Each, number, whole
from isoneph.core.config.schema import type_words
from isoneph.core.config.validation import check


def positive(value: Any) -> float:
    """What is above 0."""
    if isinstance(value, int | float) and value > 0:
        return float(value)
    raise vol.Invalid("expected a positive number; zero is none")


def silent(value: Any) -> Any:
    return value


def test_rows_flatten_what_is_nested() -> None:
    schema = {
        vol.Required("region", description="Where\n  it is."): str,
        vol.Optional("retries", default=3): vol.All(int, vol.Range(min=0)),
        vol.Optional("auth", default=dict): vol.Schema({vol.Required("user"): str}),
        vol.Optional("tiers"): [vol.All({vol.Required("price"): positive}, silent)],
        vol.Optional("prices"): {str: {vol.Optional("hourly"): positive}},
        "plain": bool,
    }
    assert option_rows(schema) == (
        OptionRow("region", True, None, "text", "Where it is."),
        OptionRow("retries", False, "3", "a whole number, at least 0", ""),
        OptionRow("auth", False, "{}", "a mapping", ""),
        OptionRow("auth.user", True, None, "text", ""),
        OptionRow("tiers", False, None, "a list, each a mapping", ""),
        OptionRow("tiers[].price", True, None, "a positive number", ""),
        OptionRow("prices", False, None, "a mapping", ""),
        OptionRow("prices.*.hourly", False, None, "a positive number", ""),
        OptionRow("plain", False, None, "true or false", ""),
    )


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (vol.Any(None, str), "nothing or text"),
        (vol.Maybe(int), "nothing or a whole number"),
        (vol.Coerce(float), "a number"),
        (vol.In({"b", "a"}), "one of a, b"),
        (vol.Range(min=0, min_included=False, max=1), "above 0 and at most 1"),
        (vol.All(str, vol.Length(min=1)), "text, not empty"),
        (vol.All([str], vol.Length(max=3)), "a list, each text, with a length of at most 3"),
        (vol.Match(r"^\d+$"), r"matching ^\d+$"),
        (vol.Msg(int, "expected a count"), "a count"),
        (vol.Boolean(), ""),
        (vol.Url(), "a URL"),
        ({str: positive}, "a mapping, each a positive number"),
        ({vol.Extra: object}, "a mapping"),
        (Each(whole(1)), "a list, each a whole number of at least 1"),
        ([], "a list"),
        (number(above=0), "a number above 0"),
        ("fixed", '"fixed"'),
        (silent, ""),
        (vol.Extra, "anything"),
        (complex, "complex"),
    ],
)
def test_what_a_schema_expects_in_words(schema: Any, words: str) -> None:
    assert type_words(schema) == words


@pytest.mark.parametrize(
    ("schema", "value", "problem"),
    [
        (vol.Coerce(int), "x", "expected a whole number, found text"),
        (vol.Match(r"^\d+$"), "x", r"matching"),
        ({vol.Any("a", "b"): int}, {"c": 1}, "unknown key"),
        (vol.All(str, vol.Length(min=2)), "x", "expected text, with a length of at least 2"),
        (vol.Msg(int, "expected a count"), "x", "expected a count"),
        (vol.Any(int, [int]), {}, "expected a whole number or a list, each a whole number"),
        (
            {vol.Inclusive("a", "g"): int, vol.Inclusive("b", "g"): int},
            {"a": 1},
            "all or none of a, b",
        ),
        (
            {vol.Exclusive("a", "g"): int, vol.Exclusive("b", "g"): int},
            {"a": 1, "b": 2},
            "one of a, b",
        ),
        (
            {vol.Exclusive("a", "g", msg="not both"): int, vol.Exclusive("b", "g"): int},
            {"a": 1, "b": 2},
            "one of a, b",
        ),
        (positive, 0, "expected a positive number; zero is none, found 0"),
        (re.compile("x"), 0, "the plugin failed to check this: SchemaError, a mistake in it"),
    ],
)
def test_what_is_said_of_a_wrong_value(schema: Any, value: Any, problem: str) -> None:
    told: list[str] = []
    assert check(schema, value, lambda _path, text: told.append(text)) is None
    assert len(told) == 1
    assert problem in told[0]


def test_a_plugins_words_are_kept() -> None:
    told: list[tuple[Any, str]] = []
    check(
        FakeCloud.schema,
        {"region": "x", "ports": [{"number": "x"}]},
        lambda *each: told.append(each),
    )
    assert told == [(("ports", 0, "number"), "expected a port")]


def test_options_that_exclude_one_another_do_not_hide_other_mistakes() -> None:
    schema = {vol.Exclusive("a", "g"): int, vol.Exclusive("b", "g"): int, "c": int}
    told: list[tuple[Any, str]] = []
    check(schema, {"a": 1, "b": 2, "c": "x"}, lambda *each: told.append(each))
    assert told == [((), "expected one of a, b"), (("c",), "expected a whole number, found text")]


def test_every_item_of_a_list_is_checked_before_the_list_as_a_whole() -> None:
    schema = vol.All([{"a": int}], silent)
    told: list[tuple[Any, str]] = []
    check(schema, [{"a": "x"}, {"a": 1}, {"b": 1}], lambda *each: told.append(each))
    assert [path for path, _ in told] == [(0, "a"), (2, "b")]
