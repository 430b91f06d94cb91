"""Which backend gets a message: the routers that ship with isoneph."""
