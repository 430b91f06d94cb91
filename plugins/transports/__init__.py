"""The message transports that ship with isoneph."""
