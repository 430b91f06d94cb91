"""Preparing a cloud for an application: what it describes is made, or compared.

The description is validated by :data:`PREPARE_SCHEMA`, what must hold between its parts by
:func:`preparation_problems`; :func:`prepare` does the work, on one cloud.
"""

from isoneph.plugins.clouds.openstack.preparing.prepare import prepare
from isoneph.plugins.clouds.openstack.preparing.problems import preparation_problems
from isoneph.plugins.clouds.openstack.preparing.schema import PREPARE_SCHEMA

__all__ = ["PREPARE_SCHEMA", "preparation_problems", "prepare"]
