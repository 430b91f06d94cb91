"""The plugins that ship with isoneph; the core finds them through entry points alone."""
