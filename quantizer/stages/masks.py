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
    "hiding",
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
        scores, mask, *_ = stage.sources
        while scores in sums:
            scores = sums[scores]
        found[scores] = mask
    return found


def hiding(network: FusedNetwork) -> dict[str, str]:
    """Return the second mask of scores by the stage that adds it to them."""
    masked = filter(is_masked, network.stages)
    return {stage.sources[0]: stage.sources[2] for stage in masked if len(stage.sources) > 2}


def split_scores(network: FusedNetwork) -> FusedNetwork:
    """Return the network in which a bias, or a second mask, is added to masked scores by a stage of
    its own: hardware reads one stored tensor beside a product, and of masked scores that is the
    mask."""
    biased = {stage.sources[0] for stage in filter(is_masked, network.stages)} & {
        stage.name for stage in network.stages if stage.residual is not None
    }

    def stages() -> Iterator[Stage]:
        for stage in network.stages:
            if is_masked(stage) and len(stage.sources) > 2:
                scores, mask, second = stage.sources
                name, zeros = free_name(f"{scores}.shown", network.shapes), np.zeros(stage.shape[2])
                # In real numbers it leaves scores as they are: only what reads them knows a mask.
                every = Select(tuple(range(stage.shape[2])))
                yield Stage(name, every, (second,), stage.shape, zeros, zeros, residual=scores)
                yield replace(stage, sources=(name, mask, second))
                continue
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
    found, second = set(), hiding(network)
    for scores, mask in [*masks_of(network).items(), *second.items()]:
        name = root[mask]
        others = [s for s in readers[name] if not (may_read(s) or s.name in second)]
        if name not in network.given or others:
            raise UnsupportedError(
                f"layer {scores!r}: its mask must be an input or a constant that nothing else "
                "reads; give the module the same numbers twice"
            )
        found.add(name)
    return found
