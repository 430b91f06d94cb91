"""Which cloud gets the next VM: the policies that ship with isoneph."""
