from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from voluptuous import Invalid

from isoneph.plugins.placement.values import count, currency, name, not_negative, positive
from isoneph.plugins.placement.words import amount


@pytest.mark.parametrize(
    ("validate", "value"),
    [
        (name, "ran-1.Oslo_2"),
        (positive, 0.5),
        (positive, 1e12),
        (not_negative, 0),
        (not_negative, 7),
        (count, 0),
        (currency, "EUR"),
    ],
)
def test_accepts(validate: Callable[[Any], Any], value: object) -> None:
    assert validate(value) == value


@pytest.mark.parametrize(
    ("validate", "values", "message"),
    [
        (name, ["", "1a", "a b", "a" * 64, "a\n", 5, None, False], "expected a name"),
        (
            positive,
            [0, -1, 1e-10, 1e13, 10**400, float("nan"), float("inf"), True, "1", None],
            "expected a positive number",
        ),
        (
            not_negative,
            [-0.1, 1e-10, 1e13, float("nan"), float("inf"), False, "0", [1]],
            "expected a number of 0 or more",
        ),
        (count, [-1, 1.0, True, "3", None, 10**13], "expected a whole number of 0 or more"),
        (currency, ["eur", "EURO", "€", "", 978, "EUR\n"], "expected a currency code"),
    ],
)
def test_refuses(validate: Callable[[Any], Any], values: list[object], message: str) -> None:
    for value in values:
        with pytest.raises(Invalid, match=message):
            validate(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (3.0, "3"),
        (1_048_576, "1048576"),
        (12.34567, "12.346"),
        (0.1 + 0.2, "0.3"),
        (0.0001, "0.0001"),
        (-2.5, "-2.5"),
    ],
)
def test_amounts_in_words(value: float, text: str) -> None:
    assert amount(value) == text
