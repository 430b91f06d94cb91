"""The ``mock`` driver: a simulated cloud for tests and trials.

:class:`MockCloud` is the plugin; :class:`Simulation` scripts one of its clouds while it runs,
from the same process or, through the state file, from any other.
"""

from isoneph.plugins.clouds.mock.driver import MockCloud
from isoneph.plugins.clouds.mock.faults import Fault
from isoneph.plugins.clouds.mock.records import FaultRecord, PortRecord, VmRecord
from isoneph.plugins.clouds.mock.simulation import Simulation

__all__ = ["Fault", "FaultRecord", "MockCloud", "PortRecord", "Simulation", "VmRecord"]
