"""Every plugin interface: the public API for third parties.

A plugin is a class that an installed package names in the entry-point group
``isoneph.<kind>``; configuration then asks for it by name. This package, with
:mod:`isoneph.core.model`, :mod:`isoneph.core.traffic`, :mod:`isoneph.core.link`,
:mod:`isoneph.core.identity` and :mod:`isoneph.core.errors`, is all that a plugin may import from
isoneph at run time; its tests add :mod:`isoneph.core.testing`.

What holds for every kind:

- ``schema`` is the voluptuous schema of its options, a mapping whose markers carry
  ``description``: it validates the configuration and becomes the plugin's reference page.
- ``parts`` names the plugins of other kinds that it is put together from, where there are any;
  the configuration gives each under its key, and the environment holds them.
- The constructor takes the validated options and an :class:`Environment`, and does no I/O.
- ``start`` opens what it needs, ``close`` lets it go; ``close`` may be called without ``start``.
- The first line of the class's docstring is its summary in ``isoneph plugin list``.

==============  ==================  =====================================================
kind            class               called
==============  ==================  =====================================================
``clouds``      :class:`Cloud`      in threads, several at once; may block; has a deadline
``placement``   :class:`Placement`  on the event loop: pure, quick
``victims``     :class:`Victims`    on the event loop: pure, quick
``stores``      :class:`Store`      on the event loop, asynchronous
``relays``      :class:`Relay`      on the event loop, asynchronous
``routers``     :class:`Router`     on the event loop, for every message: pure, quick
``transports``  :class:`Transport`  on the event loop; calls back for every message
==============  ==================  =====================================================
"""

from __future__ import annotations

from collections.abc import Mapping

from isoneph.core.plugin.base import (
    BlockingPlugin,
    Clock,
    Environment,
    Metrics,
    OptionSchema,
    Part,
    Plugin,
)
from isoneph.core.plugin.clouds import Cloud
from isoneph.core.plugin.policies import Placement, Policy, Victims
from isoneph.core.plugin.relays import Relay
from isoneph.core.plugin.routers import (
    Action,
    Actions,
    Disconnect,
    Finish,
    Forward,
    Load,
    Open,
    Refuse,
    Router,
    Send,
)
from isoneph.core.plugin.stores import Store, Versioned
from isoneph.core.plugin.transports import (
    Association,
    AssociationHandler,
    Listener,
    Transport,
)

#: The class that a plugin of each kind derives from.
KINDS: Mapping[str, type[Plugin]] = {
    "clouds": Cloud,
    "placement": Placement,
    "victims": Victims,
    "stores": Store,
    "relays": Relay,
    "routers": Router,
    "transports": Transport,
}

__all__ = [
    "KINDS",
    "Action",
    "Actions",
    "Association",
    "AssociationHandler",
    "BlockingPlugin",
    "Clock",
    "Cloud",
    "Disconnect",
    "Environment",
    "Finish",
    "Forward",
    "Listener",
    "Load",
    "Metrics",
    "Open",
    "OptionSchema",
    "Part",
    "Placement",
    "Plugin",
    "Policy",
    "Refuse",
    "Relay",
    "Router",
    "Send",
    "Store",
    "Transport",
    "Versioned",
    "Victims",
]
