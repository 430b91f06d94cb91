"""The distributed LTE MME: an application of isoneph like any third party's.

It imports only what :mod:`isoneph.core.plugin` offers to everybody.
"""
