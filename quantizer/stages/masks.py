"""Masks: tensors that say which scores count, and the code that they have."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from nupes.model.arithmetic import residual_term
from nupes.model.codebook import table_codebook
from nupes.model.errors import UnsupportedError
from nupes.model.names import free_name
from nupes.model.operators.subtract_max import MASKED
from nupes.quantizer.codes.decisions import TensorCode
from nupes.quantizer.frontend.functions import COUNTS
from nupes.quantizer.stages.joins import join_tensors
from nupes.quantizer.stages.operators import Select, SubtractMax
from nupes.quantizer.stages.stage import FusedNetwork, Stage

__all__ = [
    "MASK",
    "MASK_MULT",
    "MASK_SHIFT",
    "REACH",
    "is_masked",
    "masking",
    "masks_of",
    "split_scores",
]

MASK = TensorCode(table_codebook(np.array([-128, 0]), 1), 1.0, None)
"""The code of every mask: 0 where a score counts."""

MASK_MULT, MASK_SHIFT = 65535, 1
"""Multiplier and shift that make minus infinity of a score that does not count."""

REACH = int(MASKED - residual_term(MASK.codebook.levels.min(), MASK_MULT, MASK_SHIFT))
"""The largest integer that a score may be, before it is saturated, where a mask is added."""


def is_masked(stage: Stage) -> bool:
    """Whether a stage subtracts the maximum of masked scores."""
    return isinstance(stage.op, SubtractMax) and len(stage.sources) > 1


def masks_of(network: FusedNetwork) -> dict[str, str]:
    """Return the mask of each product of queries and keys that has one."""
    sums = {stage.name: stage.residual for stage in network.stages if stage.residual is not None}
    found = {}
    for stage in filter(is_masked, network.stages):
        scores, mask = stage.sources
        found[sums.get(scores, scores)] = mask
    return found


def split_scores(network: FusedNetwork) -> FusedNetwork:
    """Return the network in which a bias is added to masked scores by a stage of its own: hardware
    reads one stored tensor beside a product, and of masked scores that is the mask."""
    biased = {stage.sources[0] for stage in filter(is_masked, network.stages)} & {
        stage.name for stage in network.stages if stage.residual is not None
    }

    def stages() -> Iterator[Stage]:
        for stage in network.stages:
            if stage.name not in biased:
                yield stage
                continue
            name = free_name(f"{stage.name}.product", network.shapes)
            n, bias = stage.shape[2], stage.residual
            assert bias is not None
            yield replace(stage, name=name, residual=None)
            yield Stage(
                stage.name, Select(tuple(range(n))), (bias,), stage.shape, np.ones(n), np.zeros(n),
                residual=name,
            )  # fmt: skip

    return replace(network, stages=tuple(stages()))


def may_read(stage: Stage) -> bool:
    """Whether a stage may read a mask: it subtracts a maximum, copies codes, or only asks which of
    the two a code is."""
    counts = isinstance(stage.op, Select) and stage.function.name == COUNTS.name
    return counts or isinstance(stage.op, SubtractMax) or stage.copies_codes


def masking(network: FusedNetwork) -> set[str]:
    """Return the inputs and constants that are masks; refuse one that other layers read."""
    root, readers = join_tensors(network).root, network.readers()
    found = set()
    for scores, mask in masks_of(network).items():
        name = root[mask]
        others = [s for s in readers[name] if not may_read(s)]
        if name not in network.given or others:
            raise UnsupportedError(
                f"layer {scores!r}: its mask must be an input or a constant that nothing else "
                "reads; give the module the same numbers twice"
            )
        found.add(name)
    return found
