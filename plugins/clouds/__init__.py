"""The cloud drivers that ship with isoneph."""
