"""Tables of the errors, from the error tree and from the API's table of problems."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from sphinx.application import Sphinx

from isoneph.core import errors
from isoneph.core.api import problems
from reference.text import Generated, code, first_paragraph, plain, table

_BLOCKS = {"type": "this type there", "cloud": "the whole cloud", None: ""}


E = TypeVar("E", bound=errors.IsonephError)


def classes(base: type[E]) -> Iterator[type[E]]:
    """An error class and all below it, in the order of the module."""
    yield base
    for each in base.__subclasses__():
        yield from classes(each)


class Problems(Generated):
    """``isoneph-problems::``: what the API answers, by code."""

    sources = ("isoneph.core.errors", "isoneph.core.api.problems")

    def lines(self) -> list[str]:
        """One table: the codes of the error tree, then the API's own."""
        # Of classes that share a code, the one highest up tells what it means.
        named = {each.code: each for each in reversed([*classes(errors.IsonephError)])}
        rows = []
        for name, kind in problems.KINDS.items():
            error = named.get(name)
            about = kind.title if error in (None, errors.IsonephError) else first_paragraph(error)
            error_name = "" if error is None else error.__name__
            retry = "" if kind.retry_after is None else f"{kind.retry_after:g} s"
            rows.append((code(name), str(kind.status), code(error_name), plain(about), retry))
        headers = ("Code", "Status", "Class", "Meaning", "Retry-After")
        return table(headers, rows, "24 8 24 34 10")


class CloudErrors(Generated):
    """``isoneph-cloud-errors::``: what each error of a cloud leads to."""

    sources = ("isoneph.core.errors",)

    def lines(self) -> list[str]:
        """One table."""
        rows = [
            (
                code(error.__name__),
                plain(first_paragraph(error)),
                "yes" if error.failover else "**no**",
                "yes" if error.trips_breaker else "no",
                _BLOCKS[error.blocks],
            )
            for error in classes(errors.CloudError)
            if error is not errors.CloudError
        ]
        headers = ("Error", "Meaning", "Next cloud", "Counts for the breaker", "Left alone")
        return table(headers, rows, "20 38 12 15 15")


def setup(app: Sphinx) -> None:
    """Called by the package."""
    app.add_directive("isoneph-problems", Problems)
    app.add_directive("isoneph-cloud-errors", CloudErrors)
