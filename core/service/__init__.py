"""The service: one process that serves the API and runs the engine, and one that watches it.

The watching process, gunicorn's master, restarts the other when it dies, and hands signals on:

==========  ===============================================================================
SIGTERM     finish what was begun, then end with exit code 0; SIGINT likewise
SIGQUIT     end at once
SIGHUP      read the configuration again and take it without dropping a request
==========  ===============================================================================

There is always exactly one serving process. More capacity, or a service that outlives its
machine, comes from several services with a shared store.
"""

from isoneph.core.service.serving import serve

__all__ = ["serve"]
