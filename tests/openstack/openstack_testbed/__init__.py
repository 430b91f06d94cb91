"""Two real OpenStack clouds on this machine: the program behind ``tools/openstack-testbed``.

It needs nothing but Python 3.11, because it is what installs everything else.
"""
