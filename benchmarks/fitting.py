"""The smallest activation memory that a network runs with: large ones take long to simulate."""

from dataclasses import replace

import nupes

__all__ = ["compile_fitting"]

LEAST, MOST = 12, 20
"""Powers of two of words."""


def compile_fitting(network: nupes.IntegerNetwork, array: nupes.ArrayConfig) -> nupes.Program:
    """Return the program of a network on an array with as many words of activation memory as it
    takes, a power of two; raise ``CapacityError`` if none is enough."""
    for power in range(LEAST, MOST):
        try:
            return nupes.compile(network, replace(array, act_depth=1 << power))
        except nupes.CapacityError:
            continue
    return nupes.compile(network, replace(array, act_depth=1 << MOST))
