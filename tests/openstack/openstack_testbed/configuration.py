"""Writes the services' configuration, from the templates, and the files that clients read."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from .infrastructure import Infrastructure
from .installation import HERE, Installation
from .settings import PROJECT, REGION, Settings

_PLACEHOLDER = re.compile(r"@(\w+)(?::([\w-]+))?@")
_DIRECTORIES = (
    "etc",
    "faults",
    "calls",
    "keystone/fernet",
    "keystone/credential",
    "glance/images",
    "glance/staging",
    "glance/tasks",
    "glance/lock",
    "neutron/lock",
    "nova/instances",
    "nova/lock",
    "cinder/lock",
)
#: Of each cloud: the name of its application credential.
APPLICATION_CREDENTIAL = "testbed"


class Configuration:
    """The files of the clouds."""

    def __init__(
        self, settings: Settings, installation: Installation, infrastructure: Infrastructure
    ) -> None:
        self._settings = settings
        self._installation = installation
        self._infrastructure = infrastructure

    def write(self, cloud: str) -> None:
        """Write the configuration of a cloud's services anew."""
        state = self._settings.state(cloud)
        for name in _DIRECTORIES:
            (state / name).mkdir(parents=True, exist_ok=True)
        etc = state / "etc"
        values = self._values(cloud)
        for template in sorted((HERE / "templates").iterdir()):
            (etc / template.name).write_text(render(template.read_text(), values))
        # Nova looks for this one beside nova.conf, whatever its option says.
        shutil.copy(self._installation.virtualenv / "etc/nova/api-paste.ini", etc)
        (etc / "nova-compute.conf").write_text(
            without_sections((etc / "nova.conf").read_text(), "database", "api_database")
        )

    def write_clouds(self) -> None:
        """Write the three files that name the clouds for clients."""
        self._write_clients("clouds.yaml", lambda cloud: self._password(cloud, PROJECT))
        self._write_clients("admin-clouds.yaml", lambda cloud: self._password(cloud, "admin"))
        self._write_clients("clouds-appcred.yaml", self._application_credential)

    def _values(self, cloud: str) -> Mapping[str, Callable[[str], str]]:
        settings, infrastructure = self._settings, self._infrastructure
        plain = {
            "state": str(settings.state(cloud)),
            "venv": str(self._installation.virtualenv),
            "region": REGION,
            "compute_host": f"{cloud}-compute",
            "transport": infrastructure.transport_url(cloud),
        }
        return {
            **{name: partial(_whatever, value) for name, value in plain.items()},
            "database": lambda name: infrastructure.database_url(cloud, name),
            "url": lambda kind: settings.url(cloud, kind),
            "login": lambda user: self._login(cloud, user),
        }

    def _login(self, cloud: str, user: str) -> str:
        """The lines with which a service logs in."""
        return (
            f"auth_url = {self._settings.url(cloud, 'identity')}\n"
            "auth_type = password\n"
            f"username = {user}\n"
            f"password = {self._settings.password}\n"
            "project_name = service\n"
            "user_domain_name = Default\n"
            "project_domain_name = Default"
        )

    def _password(self, cloud: str, user: str) -> Mapping[str, str]:
        return {
            "username": user,
            "password": self._settings.password,
            "project_name": user,
            "user_domain_name": "Default",
            "project_domain_name": "Default",
        }

    def _application_credential(self, cloud: str) -> Mapping[str, str]:
        return {
            "application_credential_name": APPLICATION_CREDENTIAL,
            "application_credential_secret": self._settings.password,
            "username": PROJECT,
            "user_domain_name": "Default",
        }

    def _write_clients(self, name: str, auth: Callable[[str], Mapping[str, str]]) -> None:
        lines = ["# Written by tools/openstack-testbed.", "clouds:"]
        for cloud in self._settings.clouds:
            words = auth(cloud)
            lines += [f"  {cloud}:", f"    region_name: {REGION}"]
            if "application_credential_name" in words:
                lines.append("    auth_type: v3applicationcredential")
            lines += ["    auth:", f"      auth_url: {self._settings.url(cloud, 'identity')}"]
            lines += [f"      {key}: {value}" for key, value in words.items()]
        path = self._settings.directory / name
        path.touch(mode=0o600)
        path.chmod(0o600)
        path.write_text("\n".join(lines) + "\n")


def _whatever(value: str, argument: str) -> str:
    """``value``, for placeholders without an argument."""
    return value


def render(text: str, values: Mapping[str, Callable[[str], str]]) -> str:
    """``text`` with ``@name@`` and ``@name:argument@`` replaced by what ``values`` make of them."""
    return _PLACEHOLDER.sub(lambda found: values[found[1]](found[2] or ""), text)


def without_sections(text: str, *names: str) -> str:
    """A configuration file without these sections: nova-compute must not know the databases."""
    sections = re.split(r"(?m)^(?=\[)", text)
    return "".join(
        section for section in sections if section.partition("]")[0].lstrip("[") not in names
    )


def client_file(settings: Settings) -> Path:
    """What ``OS_CLIENT_CONFIG_FILE`` is to say."""
    return settings.directory / "clouds.yaml"
