"""Which status and code each error has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from isoneph.core import errors
from isoneph.core.api.problems import KINDS, problem_of
from isoneph.core.errors import IsonephError
from isoneph.core.model import Ranking


def error_classes(root: type[IsonephError] = IsonephError) -> Iterator[type[IsonephError]]:
    yield root
    for kind in root.__subclasses__():
        if kind.__module__ == errors.__name__:
            yield from error_classes(kind)


@pytest.mark.parametrize("kind", list(error_classes()), ids=lambda kind: kind.__name__)
def test_every_error_has_a_kind_of_its_own(kind: type[IsonephError]) -> None:
    assert kind.code in KINDS


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (errors.Unauthorized("wrong password"), 502, None),
        (errors.InvalidRequest("no such image"), 422, None),
        (errors.Unreachable("no route"), 503, "5"),
        (errors.Unreachable("no route", retry_after=0.2), 503, "1"),
        (errors.OutcomeUnknown("no answer"), 503, "5"),
        (errors.Throttled("slow down", retry_after=30), 503, "30"),
        (errors.QuotaExceeded("full"), 503, None),
        (errors.PlacementFailed("x", ranking=Ranking(verdicts=[]), refusals=[]), 503, None),
        (errors.LeaseTaken("busy"), 409, "1"),
        (errors.StoreUnavailable("down"), 503, "1"),
        (errors.WaitTimeout("late"), 504, None),
        (errors.KeyReused("again"), 422, None),
    ],
)
def test_the_status_says_whose_turn_it_is(
    error: IsonephError, status: int, retry_after: str | None
) -> None:
    found, headers = problem_of(error, "/vm", "id")
    assert (found.status, found.detail) == (status, error.message)
    assert headers.get("retry-after") == retry_after


def test_an_error_of_a_plugins_own_counts_as_the_nearest_known_one() -> None:
    class VolumeQuotaExceeded(errors.QuotaExceeded):
        code = "volume_quota_exceeded"

    assert problem_of(VolumeQuotaExceeded("x"), "/vm", "id").problem.code == "quota_exceeded"
