"""From files to settings: which files are read, and what must hold between them."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from isoneph.core.config.applications import Application, read_application
from isoneph.core.config.clouds import Clouds, read_clouds, with_secrets
from isoneph.core.config.documents import Document, part, read_document
from isoneph.core.config.masking import secrets_in
from isoneph.core.config.options import API, DEFAULT
from isoneph.core.config.problems import KeyPath, Problems, unknown
from isoneph.core.config.service import SERVICE_FILE, ServiceFiles, read_service, read_store
from isoneph.core.registry import Registry
from isoneph.core.settings import CloudSettings, ServiceSettings, Settings

#: What OpenStack's own tools read beside ``clouds.yaml``.
SECURE_NAME = "secure.yaml"
DIRECTORY_VARIABLE = "ISONEPH_CONFIG_DIR"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid configuration: the settings, what is allowed but unwise, one line each, and the
    files that were read, in order."""

    settings: Settings
    warnings: Sequence[str]
    files: Sequence[Path]


def default_directory() -> Path:
    """Where the configuration is when nobody says: ``$ISONEPH_CONFIG_DIR``, else
    ``~/.config/isoneph`` if there is one, else ``/etc/isoneph``."""
    given = os.environ.get(DIRECTORY_VARIABLE)
    if given:
        return Path(given)
    try:
        personal = Path.home() / ".config" / "isoneph"
    except RuntimeError:  # there is no home
        return Path("/etc/isoneph")
    return personal if personal.is_dir() else Path("/etc/isoneph")


def load_settings(
    config_files: Sequence[str | Path] = (),
    config_dirs: Sequence[str | Path] = (),
    registry: Registry | None = None,
) -> Loaded:
    """Read and validate the configuration.

    ``config_files`` and the ``*.conf`` of ``config_dirs`` are read as oslo.config does: in this
    order, later ones winning, the environment winning over all. Without either,
    ``isoneph.conf`` of :func:`default_directory` is read if it is there. ``clouds.yaml`` and
    ``applications/`` are looked for beside the first file, or in the first directory, unless
    an option says otherwise. A ``secure.yaml`` beside ``clouds.yaml`` adds to its clouds.

    Raises :class:`~isoneph.core.errors.ConfigInvalid` with every problem of all files. Nothing
    is opened but files; plugins that the configuration names are imported.
    """
    registry = registry or Registry()
    problems, warnings = Problems(), Problems()
    paths, base = _service_paths([*map(Path, config_files)], [*map(Path, config_dirs)], problems)
    problems.raise_any()
    files = ServiceFiles(paths, base, problems)
    service = read_service(files)
    store = read_store(files, registry)

    places = files.values(DEFAULT)
    clouds_file = files.resolve("clouds_file", places["clouds_file"])
    directory = files.resolve("applications_dir", places["applications_dir"])
    clouds, cloud_documents = _clouds(clouds_file, registry, problems)
    application_files = _application_paths(directory, problems, warnings)
    documents = [read_document(path, problems) for path in application_files]
    applications = [read_application(each, clouds, registry) for each in documents if each]

    default = _default_application(service, files, applications, complete=all(documents))
    _check_together(service, applications)
    problems.raise_any()
    _warn_of_secrets(files, [*cloud_documents, *filter(None, documents)], warnings)
    settings = Settings(
        service=replace(service, default_application=default),
        store=store,
        clouds=clouds.settings,
        applications={each.name: each.settings for each in applications if each.settings},
    )
    read = (*paths, *(Path(each.file) for each in cloud_documents), *application_files)
    return Loaded(settings, warnings.lines(), read)


def load_clouds(
    file: str | Path, names: Sequence[str], registry: Registry | None = None
) -> Mapping[str, CloudSettings]:
    """The clouds ``names`` of another file in the form of ``clouds.yaml``.

    Raises ConfigInvalid with every problem that concerns them.
    """
    problems = Problems()
    document = read_document(Path(file), problems)
    problems.raise_any()
    assert document is not None  # noqa: S101 (else there was a problem)
    entries = part(document.value, "clouds", dict)
    for name in names:
        if name not in entries:
            document.problem(("clouds",), unknown(f"cloud '{name}'", name, entries))
    wanted = {name: entry for name, entry in entries.items() if name in names}
    clouds = read_clouds(replace(document, value={"clouds": wanted}), registry or Registry())
    problems.raise_any()
    return clouds.settings


def _clouds(
    file: Path, registry: Registry, problems: Problems
) -> tuple[Clouds, Sequence[Document]]:
    """The clouds, and the documents that tell of them, ``clouds.yaml`` first."""
    document = read_document(file, problems)
    secure_file = file.with_name(SECURE_NAME)
    secure = read_document(secure_file, problems) if _exists(secure_file) else None
    if document is None:
        return Clouds(), ()
    if secure is None:
        return read_clouds(document, registry), (document,)
    return read_clouds(with_secrets(document, secure), registry), (document, secure)


def _service_paths(
    files: list[Path], directories: list[Path], problems: Problems
) -> tuple[Sequence[Path], Path]:
    """The service's files in order, and the directory where everything else is by default."""
    if not files and not directories:
        directories = [default_directory()]
        files = [path for path in (directories[0] / SERVICE_FILE,) if _exists(path)]
        found = files
    else:
        found = files + [path for each in directories for path in sorted(each.glob("*.conf"))]
    for directory in directories:
        if not directory.is_dir():
            problems.add(
                str(directory),
                f"no such directory; name another with --config-dir or ${DIRECTORY_VARIABLE}",
            )
    return found, files[0].parent if files else directories[0]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # it will be told when the file is read
        return True


def _application_paths(directory: Path, problems: Problems, warnings: Problems) -> Sequence[Path]:
    try:
        paths = sorted(
            path
            for path in directory.iterdir()
            if path.suffix in {".yaml", ".yml"} and not path.name.startswith(".")
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        problems.add(str(directory), f"the applications' directory cannot be read: {reason}")
        return ()
    if not paths:
        warnings.add(str(directory), "there is no application; expected a file NAME.yaml for each")
    return paths


def _default_application(
    service: ServiceSettings,
    files: ServiceFiles,
    applications: Sequence[Application],
    *,
    complete: bool,
) -> str | None:
    """Which application is meant when a request names none; ``complete`` says whether
    ``applications`` are all that there are."""
    given = service.default_application
    names = [each.name for each in applications]
    if given is not None and given not in names and complete:
        files.problem(API.name, "default_application", unknown("application", given, names))
    marked = [each for each in applications if each.default]
    for other in marked[1:]:
        text = f"{marked[0].document.file} says so too; expected one default application"
        other.document.problem(("default",), text)
    if not marked:
        return given or (names[0] if len(names) == 1 else None)
    if given not in {None, marked[0].name}:
        text = f"[api] default_application names another one: {given}"
        marked[0].document.problem(("default",), text)
    return marked[0].name


def _check_together(service: ServiceSettings, applications: Sequence[Application]) -> None:
    """That names are unique, and that nobody serves strangers by mistake."""
    first: dict[str, Document] = {}
    for each in applications:
        same = first.setdefault(each.name, each.document)
        if same is not each.document:
            each.document.problem(("application",), f"{same.file} has the same name: {each.name}")
    if service.allow_unauthenticated or _is_loopback(service.host):
        return
    for each in applications:
        if not part(each.document.value, "tokens", list):
            each.document.problem(
                ("tokens",),
                f"missing, while other machines can reach [api] host {service.host}; add a token "
                "(isoneph token create), or set host = 127.0.0.1 or allow_unauthenticated = true "
                "in [api]",
            )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _warn_of_secrets(
    files: ServiceFiles, documents: Iterable[Document], warnings: Problems
) -> None:
    """Note secrets in files that others than their owner may read."""
    secrets: dict[Path, tuple[int | None, KeyPath]] = {}
    for file, line, path in files.secrets():
        secrets.setdefault(file, (line, path))
    for document in documents:
        if any(any(secrets_in(each)) for each in _contents(document)):
            secrets.setdefault(Path(document.file), (None, ()))
    for file, place in secrets.items():
        mode = file.stat().st_mode & 0o777
        if mode & 0o077:
            text = f"holds a secret, and others can open it (mode {mode:04o}); chmod 600 {file}"
            warnings.add(str(file), text, line=place[0], path=place[1])


def _contents(document: Document) -> Iterator[Any]:
    """A valid document's content but for the names that operators gave to clouds and types,
    and for tokens, of which the digest tells nobody the token."""
    for key, item in document.value.items():
        if key in {"clouds", "types"} and isinstance(item, dict):
            yield from item.values()
        elif key != "tokens":
            yield {key: item}
