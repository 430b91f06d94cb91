"""How the placement policies write figures in their reasons."""

from __future__ import annotations


def amount(value: float) -> str:
    """A figure with no more decimals than it takes to tell it from others like it."""
    return f"{value:.3g}" if -1 < value < 1 else f"{round(value, 3):.12g}"


def vms(count: int) -> str:
    """``no VMs``, ``1 VM``, ``2 VMs``."""
    return "1 VM" if count == 1 else f"{count or 'no'} VMs"
