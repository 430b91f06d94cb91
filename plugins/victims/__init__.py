"""Which VM goes when there are too many: the policies that ship with isoneph."""
