"""Example plugins for isoneph; entry points name their classes in pyproject.toml."""
