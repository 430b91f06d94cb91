"""The balancer: it knows no cloud, no protocol and no application.

:mod:`isoneph.core.plugin` is the interface for plugin authors,
:mod:`isoneph.core.application` the way in for a program that embeds the balancer.
"""
