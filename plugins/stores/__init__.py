"""Stores that ship with isoneph: what several replicas coordinate through."""
