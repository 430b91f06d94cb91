"""From the files in ``etc/isoneph/`` to validated settings.

:func:`load_settings` reads everything and raises one
:class:`~isoneph.core.errors.ConfigInvalid` that holds every mistake of every file as
``FILE:LINE: path.to.key: what is wrong``.
"""

from isoneph.core.config.description import describe
from isoneph.core.config.loading import Loaded, default_directory, load_clouds, load_settings
from isoneph.core.config.schema import OptionRow, option_rows, plugin_rows

__all__ = [
    "Loaded",
    "OptionRow",
    "default_directory",
    "describe",
    "load_clouds",
    "load_settings",
    "option_rows",
    "plugin_rows",
]
