"""Validators of single values, each saying what it expects, and how durations are drawn."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from voluptuous import Invalid

#: The calls of a driver; faults and latencies name them, or ``any``.
CALLS = ("create", "get", "list", "delete", "limits", "list_leftovers", "delete_leftover")
ANY = "any"

#: Seconds, or the name of a distribution with its parameters.
Duration = float | Mapping[str, Sequence[float]]

_PARAMETERS = {
    "uniform": ("low", "high"),
    "normal": ("mean", "deviation"),
    "lognormal": ("median", "sigma"),
    "exponential": ("mean",),
}
# Beyond this exponent a lognormal draw is centuries anyway, and soon no float.
_MAX_EXPONENT = 50.0
# SQLite keeps no larger integers.
_MAX_COUNT = 2**63 - 1

_DRAWS: Mapping[str, Callable[..., float]] = {
    "uniform": random.Random.uniform,
    "normal": lambda rng, mean, deviation: max(0.0, rng.gauss(mean, deviation)),
    "lognormal": lambda rng, median, sigma: (
        median * math.exp(min(rng.gauss(0.0, sigma), _MAX_EXPONENT))
    ),
    "exponential": lambda rng, mean: mean * rng.expovariate(1.0),
}


def is_number(value: Any) -> bool:
    """Whether ``value`` is a finite number from 0."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and 0 <= value <= sys.float_info.max
    )


def number(value: Any) -> float:
    """A finite number from 0."""
    if not is_number(value):
        raise Invalid("expected a number from 0")
    return float(value)


def limit(value: Any) -> float | None:
    """A finite number from 0, or None for no limit."""
    if value is not None and not is_number(value):
        raise Invalid("expected a number from 0, or null for no limit")
    return value if value is None else float(value)


def probability(value: Any) -> float:
    """A number from 0 to 1."""
    if not is_number(value) or value > 1:
        raise Invalid("expected a probability from 0 to 1")
    return float(value)


def whole(value: Any) -> int:
    """A whole number."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise Invalid("expected a whole number")
    return value


def count(value: Any) -> int:
    """A whole number from 0."""
    if not 0 <= whole(value) <= _MAX_COUNT:
        raise Invalid("expected a whole number from 0")
    return int(value)


def text(value: Any) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value:
        raise Invalid("expected a text that is not empty")
    return value


def mapping_of(validate: Callable[[Any], Any]) -> Callable[[Any], dict[str, Any]]:
    """A mapping from names to values that ``validate`` takes."""

    def check(value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise Invalid("expected a mapping from names to values")
        checked = {}
        for name, item in value.items():
            try:
                checked[text(name)] = validate(item)
            except Invalid as error:
                raise Invalid(error.msg, path=[name]) from error
        return checked

    return check


def duration(value: Any) -> Duration:
    """Seconds from 0, or one distribution such as ``{uniform: [1, 3]}``."""
    if is_number(value):
        return float(value)
    if not isinstance(value, Mapping) or len(value) != 1:
        raise Invalid(f"expected seconds from 0, or one of {_shapes()}")
    name, parameters = next(iter(value.items()))
    if name not in _PARAMETERS:
        raise Invalid(f"unknown distribution '{name}', expected one of {_shapes()}")
    values = [parameters] if is_number(parameters) else parameters
    if (
        not isinstance(values, Sequence)
        or len(values) != len(_PARAMETERS[name])
        or not all(map(is_number, values))
    ):
        raise Invalid(f"expected {_shape(name)}, all numbers from 0")
    return {name: [float(item) for item in values]}


def _shape(name: str) -> str:
    return f"{{{name}: [{', '.join(_PARAMETERS[name])}]}}"


def _shapes() -> str:
    return ", ".join(map(_shape, _PARAMETERS))


def durations_by_call(value: Any) -> dict[str, Duration]:
    """A duration for every call, or durations by call name, ``any`` standing for the rest."""
    if not isinstance(value, Mapping) or not value or value.keys() & _PARAMETERS.keys():
        return {ANY: duration(value)}
    for name in value:
        if name not in (*CALLS, ANY):
            raise Invalid(f"unknown call, expected one of {', '.join((*CALLS, ANY))}", path=[name])
    return mapping_of(duration)(value)


def draw(spec: Duration, rng: Callable[[], random.Random]) -> float:
    """One duration in seconds; ``rng`` is asked for only when there is chance in it."""
    if not isinstance(spec, Mapping):
        return spec
    ((name, parameters),) = spec.items()
    return _DRAWS[name](rng(), *parameters)
