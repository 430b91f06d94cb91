"""What OpenStack's own texts mean: the message in an error's body, the fault of a failed server.

The services agree on statuses but not on what they mean by them, nor on the form of their
errors; only the text tells. The patterns follow the exceptions of Nova (``nova/exception.py``),
Neutron (``neutron_lib/exceptions``), Cinder, Glance and Keystone.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

#: Characters of a message that are kept.
LONGEST_MESSAGE = 400
#: Of a body, what is looked at when it is no JSON.
_LONGEST_BODY = 20_000
#: Where requests carry what no message may repeat, as some of Nova's refusals do.
_SECRET_KEYS = re.compile(
    r"user_data|pass(word|code|wd)?$|admin_?pass|token|secret|private_key|personality|contents",
    re.IGNORECASE,
)
_SHORTEST_SECRET = 4
#: Under which keys bodies have words, the more telling first.
_MESSAGE_KEYS = (
    "message",
    "detail",
    "description",
    "faultstring",
    "NeutronError",
    "error",
    "title",
)
HIDDEN = "***"

_QUOTA = re.compile(
    r"quota exceeded|exceed\w*\b[^.]{0,60}\bquota|over ?quota|\w+LimitExceeded"
    r"|maximum number of (ports|floating ips|security groups|volumes|snapshots|backups|instances"
    r"|key ?pairs|servers|networks|subnets|routers)\b[^.]*exceeded"
    r"|number of ports exceeded|over (a |the )?limit\b|too many (servers in group|server groups)",
    re.IGNORECASE,
)
_NO_ROOM = re.compile(
    r"no valid host was found|exceeded maximum number of retries|exhausted all hosts"
    r"|insufficient (compute )?resources|not enough hosts|no (more|fixed) ip addresses"
    r"|no more (fixed )?ips|no weighed backends|no valid backend",
    re.IGNORECASE,
)
_POLICY = re.compile(
    r"policy|not authori[sz]ed|not permitted|admin privileges|forbidden", re.IGNORECASE
)
#: Faults of the request itself, that every host, today and tomorrow, would answer with.
_INVALID = re.compile(
    r"image \S+ is (unacceptable|not active)|image \S+ could not be found"
    r"|request of image \S+ got badrequest|not authorized for image|invalid image"
    r"|corrupt(ed)? image|checksum|signature verification|certificate validation failed"
    r"|disk format \S+ is not acceptable|disk info file is invalid"
    r"|flavor's (disk|memory) is (too small|smaller)|disk would be too small"
    r"|volume is smaller than the minimum|requested amount of video memory"
    r"|flavor \S+ could not be found|invalid volume\b|block device \S+ is not bootable"
    r"|invalid input received|volume encryption is not supported",
    re.IGNORECASE,
)


def is_image_refused(content: bytes) -> bool:
    """Whether Glance refused Nova the image in our name, so that Nova made nothing: the user may
    not have it, or the token that came with the request had been revoked."""
    return b"Not authorized for image" in content


def fault_code(text: str) -> str:
    """The code of isoneph's error that says the same as ``text``, the fault of a server in
    ERROR: ``quota_exceeded``, ``invalid_request``, ``no_capacity``, else ``boot_failed``.

    Nova puts the last cause behind "Exceeded maximum number of retries"; so that comes last.
    """
    if _QUOTA.search(text):
        return "quota_exceeded"
    if _INVALID.search(text):
        return "invalid_request"
    return "no_capacity" if _NO_ROOM.search(text) else "boot_failed"


def is_quota(text: str) -> bool:
    """Whether a refusal is one of the project's quota."""
    return _QUOTA.search(text) is not None


def is_no_room(text: str) -> bool:
    """Whether a refusal says that the cloud itself has no more of something."""
    return _NO_ROOM.search(text) is not None


def is_policy(text: str) -> bool:
    """Whether a refusal is one of what the user may do at all."""
    return not text or _POLICY.search(text) is not None


def is_fault(content: bytes) -> bool:
    """Whether a body is an error in the form of OpenStack's own services, in JSON; a proxy that
    knows no such path answers otherwise."""
    body = _json(content)
    return isinstance(body, dict) and any(
        isinstance(value, dict) and ("message" in value or "type" in value)
        for value in body.values()
    )


def message_of(content: bytes, secrets: Sequence[str] = ()) -> str:
    """The words for a person in the body of an error, in one line of sane length, without
    ``secrets``; empty when there are none."""
    body = _json(content)
    if body is None:
        text = _plain(content[:_LONGEST_BODY].decode("utf-8", "replace"))
    else:
        text = next(_messages(body), "")
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= LONGEST_MESSAGE else text[: LONGEST_MESSAGE - 4].rstrip() + " ..."


def secrets_in(body: Any, *, hidden: bool = False) -> Iterator[str]:
    """The texts of a request, or of a cloud's options, that no message may repeat."""
    if isinstance(body, Mapping):
        for key, value in body.items():
            yield from secrets_in(value, hidden=hidden or bool(_SECRET_KEYS.search(str(key))))
    elif isinstance(body, list | tuple):
        for value in body:
            yield from secrets_in(value, hidden=hidden)
    elif hidden and isinstance(body, str) and len(body) >= _SHORTEST_SECRET:
        yield body


def _json(content: bytes) -> Any:
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _messages(body: Any) -> Iterator[str]:
    """The texts of all forms: ``{"badRequest": {"message": ...}}``, ``{"NeutronError": ...}``,
    ``{"error": {...}}``, ``{"errors": [{"detail": ...}]}``, ``{"message": ...}``."""
    if isinstance(body, list):
        for item in body:
            yield from _messages(item)
    elif isinstance(body, dict):
        for key in _MESSAGE_KEYS:
            if isinstance(body.get(key), str) and body[key]:
                yield body[key]
        for value in body.values():
            yield from _messages(value)


def _plain(text: str) -> str:
    text = re.sub(r"(?is)<(script|style|head)\b.*?</\1>", " ", text)
    return html.unescape(re.sub(r"(?s)<[^>]*>", " ", text))
