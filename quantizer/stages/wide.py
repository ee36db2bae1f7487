"""Which tensors are wide: 16-bit results as they are, with one scale and no codes."""

from collections.abc import Iterator, Mapping

from nupes.quantizer.frontend.functions import IDENTITY
from nupes.quantizer.stages.operators import Select, SubtractMax
from nupes.quantizer.stages.stage import FusedNetwork, Stage

__all__ = ["wide_headrooms", "wide_roots"]

LARGEST = 32767
"""Largest magnitude of a wide number."""


def accepts(stage: Stage, name: str) -> bool:
    """Whether a stage may read a tensor wide: as a residual, or by its operator."""
    return name not in stage.sources or stage.op.reads_wide


def is_view(stage: Stage, network: FusedNetwork) -> bool:
    """Whether a stage gives whole rows of a tensor, which nothing needs to copy."""
    op = stage.op
    if not isinstance(op, Select) or not stage.copies_codes or stage.name in network.emitted:
        return False
    channels = network.shapes[stage.sources[0]][2]
    every = Select(tuple(range(channels)), padding=op.padding)
    return op == every and not any(op.padding[2:]) and max(op.padding) <= 0


def wide_roots(network: FusedNetwork) -> dict[str, str]:
    """Return the tensors that are wide: those that operators of 16 bits read, or that are added to
    wide ones, or that are asked for, and that no other operators read; rows of them, too. Each with
    the first one of those that share its scale: a wide tensor that is added to what becomes another
    one, a residual stream."""
    readers, roots = network.readers(), {}

    def readings(name: str) -> Iterator[tuple[Stage, str]]:
        for stage in readers[name]:
            if is_view(stage, network):
                yield from readings(stage.name)
            else:
                yield stage, name

    wide: set[str] = set()
    for stage in reversed(network.stages):
        pairs = list(readings(stage.name))
        asked = stage.wide or any(
            (name in item.sources and item.op.reads_wide)
            or (name == item.residual and item.name in wide)
            for item, name in pairs
        )
        fitting = all(accepts(item, name) for item, name in pairs)
        plain = stage.function is IDENTITY and stage.op.accumulates and not stage.copies_codes
        if asked and fitting and plain and stage.name not in network.emitted:
            wide.add(stage.name)
    for stage in network.stages:
        if is_view(stage, network) and stage.sources[0] in roots:
            roots[stage.name] = roots[stage.sources[0]]
        if stage.name in wide:
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
