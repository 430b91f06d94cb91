"""The REST API: an ASGI application over a deployment.

Of each operation one declaration (:mod:`isoneph.core.api.operations`) says what it takes and
what it answers. Requests are read by it, answers written by it, and the OpenAPI document is made
from it, so that the three cannot differ.
"""

from isoneph.core.api.app import Api

__all__ = ["Api"]
