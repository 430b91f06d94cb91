"""The release notes, by reno, where there is a history to read them from."""

from __future__ import annotations

from docutils import nodes
from dulwich.errors import NotGitRepository
from reno.sphinxext import ReleaseNotesDirective
from sphinx.application import Sphinx


class ReleaseNotes(ReleaseNotesDirective):  # type: ignore[misc]  # reno has no types
    """``isoneph-release-notes::``: all notes by version, as git tells which came with which."""

    def run(self) -> list[nodes.Node]:
        """Called by docutils."""
        try:
            notes: list[nodes.Node] = super().run()
        except (NotGitRepository, KeyError):  # no history, or a shallow clone of it
            text = "The notes are made from the whole history, which these sources come without."
            return [nodes.note("", nodes.paragraph("", text))]
        return notes


def setup(app: Sphinx) -> None:
    """Called by the package."""
    app.add_directive("isoneph-release-notes", ReleaseNotes)
