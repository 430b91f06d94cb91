"""How a VM is known: its id, its name, and the tags that say so in its cloud.

The clouds are the database. Whatever isoneph must know of a VM after every process and file
of its own is lost rides in the VM's own metadata, as strings under the keys below. They keep
to what OpenStack metadata, EC2 tags and GCE labels all accept.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Mapping

PREFIX = "isoneph-"
TAG_APPLICATION = PREFIX + "application"
TAG_ID = PREFIX + "id"
TAG_TYPE = PREFIX + "type"
#: A digest of the request, to tell a retry from another request under the same key.
TAG_REQUEST = PREFIX + "request"
#: How many times this id has been placed, the first being 1.
TAG_ATTEMPT = PREFIX + "attempt"
#: When it was placed: seconds since the epoch, microseconds shown, so text order is time order.
TAG_PLACED_AT = PREFIX + "placed-at"

#: The only cloud that the caller wanted it on, if any.
TAG_PINNED_TO = PREFIX + "pinned-to"
#: The place, cloud or VM that the caller wanted it near to, if any.
TAG_NEAR = PREFIX + "near"

ID_PATTERN = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: What an application may call itself, its types, and operators their clouds.
NAME_PATTERN = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}")
#: What users may call their own tags.
TAG_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
MAX_TAGS = 16
MAX_TAG_VALUE = 255


def new_id() -> str:
    """A fresh random VM id."""
    return str(uuid.uuid4())


def id_of_key(application: str, key: str, index: int) -> str:
    """The id of the ``index``-th VM of the create that carries idempotency key ``key``.

    It depends on nothing else, so that every replica, with or without memory, finds the same
    VM again by its tag.
    """
    digest = hashlib.sha256("\0".join((application, key, str(index))).encode()).digest()
    return str(uuid.UUID(bytes=digest[:16], version=4))


def is_id(text: str) -> bool:
    """Whether ``text`` has the form of a VM id."""
    return ID_PATTERN.fullmatch(text) is not None


def name_of(application: str, type_name: str, vm_id: str) -> str:
    """The readable, unique name of a VM in its cloud."""
    return f"{application}-{type_name}-{vm_id[:8]}"


def format_time(seconds: float) -> str:
    """``seconds`` since the epoch as the value of :data:`TAG_PLACED_AT`."""
    return f"{seconds:017.6f}"


def is_ours(tags: Mapping[str, str], application: str) -> bool:
    """Whether ``tags`` are those of a VM of ``application`` that isoneph made."""
    return tags.get(TAG_APPLICATION) == application and is_id(tags.get(TAG_ID, ""))
