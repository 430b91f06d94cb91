"""The words by which things that carry no tags are known to be isoneph's.

A server carries isoneph's tags in its metadata, but Nova forgets the metadata of a deleted
server while it still shows its description, ports and floating IPs have a description only,
and server groups only a name. Each form below is made by nobody else, and the whole identity
can be read back from it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from isoneph.core.identity import ID_PATTERN, NAME_PATTERN

#: Most characters of a description, in Nova and in Neutron.
LONGEST_DESCRIPTION = 255

_MARK = re.compile(
    rf"(?:.*; )?isoneph vm (?P<id>{ID_PATTERN.pattern}) of (?P<application>{NAME_PATTERN.pattern})",
    re.DOTALL,
)
_GROUP = re.compile(
    rf"isoneph (?P<application>{NAME_PATTERN.pattern}) (?P<type>{NAME_PATTERN.pattern}) "
    r"(?P<policy>(?:soft-)?(?:anti-)?affinity)"
)
_LONGEST_MARK = len("; isoneph vm  of ") + 36 + 63
#: What that leaves for an operator's own words.
LONGEST_WORDS = LONGEST_DESCRIPTION - _LONGEST_MARK


class Owner(NamedTuple):
    """The VM that something belongs to, by isoneph's own id."""

    application: str
    vm_id: str


def describe(owner: Owner, words: str = "") -> str:
    """A description that ends in the mark of ``owner``, after an operator's ``words``."""
    mark = f"isoneph vm {owner.vm_id} of {owner.application}"
    return f"{words}; {mark}" if words else mark


def owner_of(description: str | None) -> Owner | None:
    """The VM that a description names, or None when it is none that :func:`describe` made."""
    found = _MARK.fullmatch(description or "")
    return Owner(found["application"], found["id"]) if found else None


def group_name(application: str, type_name: str, policy: str) -> str:
    """The name of the server group that isoneph makes for a VM type."""
    return f"isoneph {application} {type_name} {policy}"


def group_application(name: str) -> str | None:
    """Whose server group that is, or None when it is none that isoneph made."""
    found = _GROUP.fullmatch(name)
    return found["application"] if found else None
