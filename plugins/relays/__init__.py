"""What carries an application's traffic to its VMs: the relays that ship with isoneph."""
