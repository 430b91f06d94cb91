"""What an application may ask for: checks that need no cloud, and a request's digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

from isoneph.core import identity
from isoneph.core.errors import BadRequest, UnknownCloud, UnknownType
from isoneph.core.model import CreateRequest
from isoneph.core.settings import ApplicationSettings

#: VMs that one create may ask for.
MAX_COUNT = 1000
MAX_KEY = 255


def check_request(settings: ApplicationSettings, request: CreateRequest) -> None:
    """Raise a RequestError for a request that cannot be right."""
    check_names(settings, request.type, request.cloud)
    if request.cloud is not None and request.cloud not in settings.types[request.type]:
        raise BadRequest(f"type {request.type} is not offered on cloud {request.cloud}")
    if not 1 <= request.count <= MAX_COUNT:
        raise BadRequest(f"count must be from 1 to {MAX_COUNT}, not {request.count}")
    least = request.min_count
    if least is not None and not 1 <= least <= request.count:
        raise BadRequest(f"min_count must be from 1 to count ({request.count}), not {least}")
    if request.key is not None and not 1 <= len(request.key) <= MAX_KEY:
        raise BadRequest(f"an idempotency key has 1 to {MAX_KEY} characters")
    if request.near is not None and len(request.near) > identity.MAX_TAG_VALUE:
        raise BadRequest(f"near has at most {identity.MAX_TAG_VALUE} characters")
    _check_tags(request.tags)


def check_names(settings: ApplicationSettings, type_name: str | None, cloud: str | None) -> None:
    """Raise UnknownType or UnknownCloud for what the application does not have."""
    if type_name is not None and type_name not in settings.types:
        offered = ", ".join(settings.types)
        raise UnknownType(f"{settings.name} has no VM type '{type_name}'; it has: {offered}")
    if cloud is not None and cloud not in settings.clouds:
        used = ", ".join(settings.clouds)
        raise UnknownCloud(f"{settings.name} uses no cloud '{cloud}'; it uses: {used}")


def digest_of(request: CreateRequest) -> str:
    """Tells requests apart that share a key; a retry of the same request gives the same."""
    fields = [request.type, request.count, request.min_count, request.cloud, request.near]
    body = msgspec.json.encode([fields, sorted(request.tags.items())])
    return hashlib.sha256(body).hexdigest()[:16]


def _check_tags(tags: Mapping[str, str]) -> None:
    if len(tags) > identity.MAX_TAGS:
        raise BadRequest(f"at most {identity.MAX_TAGS} tags, not {len(tags)}")
    for key, value in tags.items():
        if key.startswith(identity.PREFIX) or not identity.TAG_PATTERN.fullmatch(key):
            raise BadRequest(
                f"tag '{key}': a name has 1 to 63 of A-Z a-z 0-9 _ . - and does not begin with "
                f"'{identity.PREFIX}'"
            )
        if len(value) > identity.MAX_TAG_VALUE or not value.isprintable():
            raise BadRequest(
                f"tag '{key}': a value has at most {identity.MAX_TAG_VALUE} printable characters"
            )
