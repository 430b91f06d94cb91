"""The ``isoneph`` command: the API and the configuration at an operator's hand."""
