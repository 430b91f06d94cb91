"""Images, in Glance.

https://docs.openstack.org/api-ref/image/v2/
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

from isoneph.core.errors import InvalidRequest, OutcomeUnknown
from isoneph.core.model import Finding
from isoneph.plugins.clouds.openstack.api import Api, Deadline
from isoneph.plugins.clouds.openstack.errors import Conflict
from isoneph.plugins.clouds.openstack.preparing.description import Entry
from isoneph.plugins.clouds.openstack.preparing.pruning import Extra, give_up, settle_extra
from isoneph.plugins.clouds.openstack.preparing.run import (
    IMAGE,
    Found,
    Run,
    is_made_by_isoneph,
)
from isoneph.plugins.clouds.openstack.preparing.things import (
    Changeable,
    Difference,
    Failure,
    settle,
)
from isoneph.plugins.clouds.openstack.preparing.uploads import Upload
from isoneph.plugins.clouds.openstack.preparing.values import CHECKSUMS

_PATCH = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
#: Where Glance says which digest it keeps it does not have to be this one.
_OLD_DIGEST = "md5"
#: Seconds for which Glance may take nothing of an image, and for which it may store it once all
#: of it has arrived.
_STORE_SECONDS = 900.0
_BUSY = "another run may be sending its data; if none is, remove it by hand"
#: How messages tell that the data are not what ``disk_format`` says.
_WRONG_FORMAT = " with 415"
#: Of a digest, what is shown.
_SHOWN_DIGITS = 12


class Image(Changeable):
    """An image made of a file that we have. Its data never change once it is there."""

    kind = "image"
    fixed: ClassVar[frozenset[str]] = frozenset(
        {"disk_format", "container_format", *CHECKSUMS.values()}
    )

    def __init__(self, run: Run, name: str, entry: Entry) -> None:
        super().__init__(run, name)
        self._entry = entry
        self._file = Path(entry["file"])

    @cached_property
    def wanted(self) -> Mapping[str, Any]:
        """What is described of it, but for its data."""
        described = ("disk_format", "container_format", "visibility", "min_disk", "min_ram")
        return {
            **{name: self._entry[name] for name in described if name in self._entry},
            **self._entry.get("properties", {}),
        }

    def find(self) -> Sequence[Found]:
        """The project's own of this name, else others that it sees."""
        found = self.run.listing(IMAGE, "/images", "images", name=self.name)
        own = [each for each in found if each["owner"] == self.run.project]
        return own or found

    def make(self) -> Found:
        """Make it without its data; a public one as the administrator, for the project."""
        self._check_file()
        body = {"name": self.name, "tags": [self.run.tag], **self.wanted}
        if self.run.admin is not None and self._is_public:
            body["owner"] = self.run.project
        with self._rights() as api:
            made: Found = api.call("POST", IMAGE, "/images", body=body).body
        return made

    def remove(self, found: Found) -> None:
        """Remove it."""
        self.run.delete(IMAGE, f"/images/{found['id']}")

    def is_incomplete(self, found: Found) -> bool:
        """Whether its data were never sent."""
        return found["status"] == "queued" and is_made_by_isoneph(found)

    def complete(self, found: Found) -> Found:
        """Send its data if they are not there; put our tag on what isoneph made."""
        path = f"/images/{found['id']}"
        if self.is_incomplete(found):
            self._check_file()
            self._upload(f"{path}/file")
            found = self.run.api.call("GET", IMAGE, path).body
            if self._data_differences(found):
                raise Failure("what arrived in Glance is not what is in the file: remove it")
        self.run.claim(IMAGE, path, found)
        return found

    def _upload(self, path: str) -> None:
        deadline = Deadline.after(self.run.clock, _STORE_SECONDS)
        with Upload(self._file, self.run) as upload:
            try:
                self.run.api.call("PUT", IMAGE, path, body=upload, deadline=deadline)
            except Conflict:
                raise Failure(_BUSY) from None
            except OutcomeUnknown as error:
                raise Failure(f"{error.message}; run this again to see what arrived") from error
            except InvalidRequest as error:
                if _WRONG_FORMAT not in error.message:
                    raise
                raise Failure(
                    f"Glance sees that {self._file} is not {self._entry['disk_format']}"
                ) from error

    def differences(self, found: Found) -> dict[str, Difference]:
        """What of it is described, and its data, by their digest."""
        if found["status"] != "active":
            raise Failure(f"its status is {found['status']}: {_BUSY}")
        return super().differences(found) | self._data_differences(found)

    def change(self, found: Found, attributes: Mapping[str, Any]) -> None:
        """Set attributes and properties."""
        body = [
            {"op": "replace" if name in found else "add", "path": f"/{name}", "value": value}
            for name, value in attributes.items()
        ]
        with self._rights() as api:
            api.call("PATCH", IMAGE, f"/images/{found['id']}", body=body, headers=_PATCH)

    def remark(self, found: Found) -> str:
        """That its data could not be compared."""
        if self._wanted_digest(_digest_kept(found)[0]) is not None:
            return ""
        return f"its data were not compared: {self._file} is not here"

    @property
    def _is_public(self) -> bool:
        return self.wanted.get("visibility") == "public"

    def _rights(self) -> AbstractContextManager[Api]:
        """What it takes to make or change it."""
        if self._is_public:
            return self.run.administrator("a public image")
        return nullcontext(self.run.api)

    def _check_file(self) -> None:
        """That the file is there, and what its publisher says it is. Raises OSError, Failure."""
        given = self._entry.get("checksum")
        if given is None:
            self._file.stat()
            return
        algorithm = CHECKSUMS[len(given)]
        digest = digest_of(self._file, algorithm)
        if digest != given:
            raise Failure(
                f"{self._file}: its {algorithm} is {_short(digest)}, should be {_short(given)}"
            )

    def _data_differences(self, found: Found) -> dict[str, Difference]:
        algorithm, digest = _digest_kept(found)
        wanted = self._wanted_digest(algorithm)
        if digest is None or wanted in {None, digest}:
            return {}
        return {algorithm: Difference(_short(digest), _short(str(wanted)))}

    def _wanted_digest(self, algorithm: str) -> str | None:
        """The digest that the data should have; None when nobody can tell."""
        given = self._entry.get("checksum")
        if given is not None and CHECKSUMS[len(given)] == algorithm:
            return str(given)
        return digest_of(self._file, algorithm) if self._file.exists() else None


def _digest_kept(found: Found) -> tuple[str, str | None]:
    """The algorithm and the digest by which Glance knows an image's data."""
    if found.get("os_hash_value"):
        return found["os_hash_algo"], found["os_hash_value"]
    return _OLD_DIGEST, found.get("checksum")


def digest_of(file: Path, algorithm: str) -> str:
    """The digest of a file in hexadecimal digits. Raises OSError."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, algorithm).hexdigest()


def _short(digest: str) -> str:
    return f"{digest[:_SHOWN_DIGITS]}..."


def prepare_images(run: Run) -> Iterator[Finding]:
    """Every described image."""
    for name, entry in run.described("images").items():
        yield from settle(Image(run, name, entry))


def prune_images(run: Run) -> Iterator[Finding]:
    """The application's images that are described no more."""
    described = run.described("images")
    for found in run.listing(IMAGE, "/images", "images", owner=run.project, tag=run.tag):
        if run.tag in found["tags"] and found["name"] not in described:
            remove = partial(give_up, run, IMAGE, f"/images/{found['id']}", found)
            yield settle_extra(run, Extra(kind=Image.kind, name=found["name"], remove=remove))
