"""What a user installs: the wheel and the sdist, and isoneph as it is in a clean virtualenv."""

from __future__ import annotations

import json
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from installed import Distributions, Virtualenv, run

pytestmark = pytest.mark.timeout(600)  # packages may come over a slow network

PACKAGES = ("core", "plugins", "mme")

#: Modules that need a package which isoneph does not depend on.
NEED_MORE = (
    "isoneph.core.testing",
    "isoneph.plugins.clouds.libcloud",
    "isoneph.plugins.relays.dns",
    "isoneph.plugins.stores.redis",
    "isoneph.plugins.transports.kernel.control",
)
#: The plugins among them, and the extra that brings what each needs.
EXTRAS = {
    ("clouds", "libcloud"): "libcloud",
    ("relays", "dns"): "dns",
    ("stores", "redis"): "redis",
}
KINDS = {"clouds", "placement", "victims", "stores", "relays", "routers", "transports"}
IMPORT_ALL = f"""
import importlib, pkgutil, isoneph
for module in pkgutil.walk_packages(isoneph.__path__, "isoneph."):
    if not module.name.startswith({NEED_MORE}):
        importlib.import_module(module.name)
        print(module.name)
"""

TYPED = """
import isoneph.core.model, isoneph.plugins.clouds.mock, isoneph.mme
reveal_type(isoneph.core.model.Quota(limit=1).used)
reveal_type(isoneph.plugins.clouds.mock.MockCloud.get_limits)
"""


@pytest.fixture(scope="module")
def virtualenv(
    distributions: Distributions, tmp_path_factory: pytest.TempPathFactory
) -> Virtualenv:
    """Holds the wheel and what it depends on."""
    virtualenv = Virtualenv(tmp_path_factory.mktemp("wheel") / "venv")
    virtualenv.install(str(distributions.wheel))
    return virtualenv


def wheel_files(wheel: Path) -> Mapping[str, bytes]:
    """What a wheel installs, without what is written by the build; by path."""
    with zipfile.ZipFile(wheel) as archive:
        return {n: archive.read(n) for n in archive.namelist() if ".dist-info/" not in n}


def source_files(source: Path) -> Mapping[str, bytes]:
    """The files of the three packages; by path in a wheel."""
    paths = [path for package in PACKAGES for path in (source / package).rglob("*")]
    return {
        f"isoneph/{path.relative_to(source)}": path.read_bytes()
        for path in paths
        if path.is_file() and path.suffix != ".pyc"
    }


def sample_files(source: Path) -> Mapping[str, bytes]:
    """The sample configuration; by path under ``etc``."""
    etc = source / "etc"
    paths = (path for path in etc.rglob("*") if path.is_file())
    return {str(path.relative_to(etc)): path.read_bytes() for path in paths}


def test_the_wheel_holds_the_packages_and_the_samples_and_nothing_else(
    distributions: Distributions,
) -> None:
    expected = dict(source_files(distributions.source))
    data = distributions.wheel.name.partition("-py3")[0] + ".data/data/etc"
    for path, content in sample_files(distributions.source).items():
        expected[f"{data}/{path}"] = content
    assert sorted(wheel_files(distributions.wheel)) == sorted(expected)
    assert wheel_files(distributions.wheel) == expected
    assert {f"isoneph/{package}/py.typed" for package in PACKAGES} <= expected.keys()


def test_the_checkout_and_the_sdist_give_the_same_wheel(distributions: Distributions) -> None:
    assert wheel_files(distributions.direct_wheel) == wheel_files(distributions.wheel)


def test_the_sdist_holds_files_where_the_checkout_has_links(distributions: Distributions) -> None:
    assert (distributions.source / "src" / "isoneph" / "core").is_symlink()
    with tarfile.open(distributions.sdist) as archive:
        odd = [member.name for member in archive if not (member.isfile() or member.isdir())]
        names = {member.name.partition("/")[2] for member in archive}
    assert odd == []
    assert {f"src/{path}" for path in source_files(distributions.source)} <= names
    assert {"LICENSE", "README.rst", "pyproject.toml", "setup.cfg", "setup.py"} <= names


def test_it_tells_its_version(virtualenv: Virtualenv, distributions: Distributions) -> None:
    version = distributions.wheel.name.split("-")[1]
    assert virtualenv.run("isoneph", "--version") == f"isoneph {version}\n"
    virtualenv.check()


def plugins_of(virtualenv: Virtualenv) -> Mapping[tuple[str, str], str]:
    """The status of each plugin."""
    rows = json.loads(virtualenv.run("isoneph", "plugin", "list", "-f", "json"))
    return {(row["kind"], row["name"]): row["status"] for row in rows}


def test_every_plugin_loads(virtualenv: Virtualenv) -> None:
    plugins = dict(plugins_of(virtualenv))
    assert {kind for kind, _ in plugins} == KINDS
    for plugin, extra in EXTRAS.items():
        assert plugins.pop(plugin).endswith(f"pip install 'isoneph[{extra}]'")
    assert set(plugins.values()) == {"ok"}


def test_the_samples_are_installed_and_valid(
    virtualenv: Virtualenv, distributions: Distributions
) -> None:
    assert sample_files(virtualenv.directory) == sample_files(distributions.source)
    etc = virtualenv.directory / "etc" / "isoneph"
    (etc / "clouds.yaml").chmod(0o600)
    assert virtualenv.run("isoneph", "config", "check", "--config-dir", etc).startswith("ok: ")


def test_every_module_imports_without_a_warning(
    virtualenv: Virtualenv, distributions: Distributions
) -> None:
    imported = virtualenv.run("python", "-W", "error", "-c", IMPORT_ALL).split()
    paths = [path for path in source_files(distributions.source) if path.endswith(".py")]
    modules = {path[:-3].removesuffix("/__init__").replace("/", ".") for path in paths}
    assert set(imported) == {name for name in modules if not name.startswith(NEED_MORE)}


def test_its_types_are_seen(virtualenv: Virtualenv, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(TYPED)
    mypy = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", "cache"]
    said = run([*mypy, "--python-executable", str(virtualenv.python), "script.py"], cwd=tmp_path)
    assert 'Revealed type is "float"' in said
    assert "Mapping[str, isoneph.core.model.Quota]" in said


def test_the_suites_ask_for_pytest(virtualenv: Virtualenv) -> None:
    program = "try: import isoneph.core.testing\nexcept ImportError as error: print(error)"
    said = virtualenv.run("python", "-c", program)
    assert said == "isoneph.core.testing needs pytest: pip install pytest\n"


def test_the_other_plugins_load_with_their_extras(
    virtualenv: Virtualenv, distributions: Distributions
) -> None:
    virtualenv.install(f"{distributions.wheel}[{','.join(EXTRAS.values())}]")
    assert set(plugins_of(virtualenv).values()) == {"ok"}
