"""Which tensors are wide: 16-bit results as they are, with one scale and no codes."""

from collections.abc import Mapping

from nupes.quantizer.frontend.functions import IDENTITY
from nupes.quantizer.stages.operators import SubtractMax
from nupes.quantizer.stages.stage import FusedNetwork, Stage

__all__ = ["wide_headrooms", "wide_roots"]

LARGEST = 32767
"""Largest magnitude of a wide number."""


def accepts(stage: Stage, name: str) -> bool:
    """Whether a stage may read a tensor wide: as a residual, or by its operator."""
    return name not in stage.sources or stage.op.reads_wide


def wide_roots(network: FusedNetwork) -> dict[str, str]:
    """Return the tensors that are wide: those that operators of 16 bits read, and no other
    operators. Each with the first one of those that share its scale: a wide tensor that is added to
    what becomes another one, a residual stream."""
    readers, roots = network.readers(), {}
    for stage in network.stages:
        readings = readers[stage.name]
        asked = any(stage.name in item.sources and item.op.reads_wide for item in readings)
        fitting = all(accepts(item, stage.name) for item in readings)
        plain = stage.function is IDENTITY and stage.op.accumulates and not stage.copies_codes
        if asked and fitting and plain and stage.name not in network.emitted:
            roots[stage.name] = roots.get(stage.residual or "", stage.name)
    return roots


def wide_headrooms(network: FusedNetwork, roots: Mapping[str, str]) -> dict[str, int]:
    """Return the number that the largest value of each root becomes at most: half of the range for
    scores, whose distances take all of it."""
    readers = network.readers()
    halves = {
        root
        for name, root in roots.items()
        if any(isinstance(stage.op, SubtractMax) for stage in readers[name])
    }
    return {root: LARGEST // 2 if root in halves else LARGEST for root in roots.values()}
