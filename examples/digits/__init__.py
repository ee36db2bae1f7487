"""Handwritten digits: the network, its data, its checkpoint and the script that trained it."""
