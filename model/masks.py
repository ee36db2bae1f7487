"""Masks: tensors that are added to scores and make minus infinity of some, whatever their sums."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nupes.model.arithmetic import residual_term
from nupes.model.layer import Layer
from nupes.model.operators.select import Select
from nupes.model.operators.subtract_max import MASKED, SubtractMax
from nupes.model.tensor import Port, Tensor

__all__ = ["Mask", "find_masks", "hiding"]


@dataclass(frozen=True, eq=False)
class Mask:
    """What ``port`` reads of an input or a constant masks the ``scores`` of a layer, of which a
    subtract-max reads those of ``seen``; ``hides`` (codes, keys) bool: which codes mask a key;
    ``fixed`` (h, w, keys) bool: what constants mask besides, ``None`` if there are none."""

    scores: Layer
    port: Port
    seen: Port
    hides: np.ndarray
    fixed: np.ndarray | None = None

    def hidden(self, codes: np.ndarray) -> np.ndarray:
        """Return which scores of those that are read are masked, bool (b, h, w, keys), or (b, 1, 1,
        keys) if all pixels' are, for codes (b, h, w, c) of the mask."""
        read = self.port.select(codes)
        found = self.hides[read, np.arange(read.shape[3])]
        one = found.shape[1:3] == (1, 1)
        seen = replace(self.seen, first_row=0, rows=None) if one else self.seen
        return seen.select(found)

    def without_keys(self, codes: np.ndarray) -> np.ndarray:
        """Return which samples of codes (b, h, w, c) leave some query no key: bool (b,)."""
        hidden = self.hidden(codes)
        if self.fixed is not None:
            hidden = hidden | self.seen.select(self.fixed[None])
        rows = hidden.reshape(len(hidden), -1, hidden.shape[3])
        return np.any(rows.all(axis=2), axis=1)


def find_masks(
    layers: Sequence[Layer],
    given: Mapping[str, Tensor],
    bounds: Mapping[str, int],
    held: Mapping[str, np.ndarray],
) -> Iterator[Mask]:
    """Yield the masks among ``given`` tensors, inputs or constants by name; ``bounds`` are those
    of the layers' accumulators, ``held`` the levels of all constants."""
    writers = {layer.output.name: layer for layer in layers}
    for layer in layers:
        if not isinstance(layer.op, SubtractMax):
            continue
        seen = layer.inputs[0]
        scores, fixed = writers.get(seen.tensor), None
        while scores is not None and scores.wide and lowers(scores, held):
            assert scores.residual is not None
            port, hidden = scores.inputs[0], hidden_pairs(scores, held)
            if hidden.any():
                fixed = hidden if fixed is None else fixed | hidden
            if hidden.any() and port.tensor in given:
                yield Mask(scores, port, seen, lowering(scores, given[port.tensor]))
            scores = writers.get(scores.residual.port.tensor)
        residual = None if scores is None else scores.residual
        if scores is None or not scores.wide or residual is None:
            continue
        if residual.port.tensor in given:
            hides = hiding(scores, given[residual.port.tensor], bounds[scores.name])
            if hides.any():
                yield Mask(scores, residual.port, seen, hides, fixed)


def lowers(layer: Layer, held: Mapping[str, np.ndarray]) -> bool:
    """Whether a layer adds numbers of a constant, none above 0, to wide scores, and so leaves what
    is -32768 as it is."""
    residual = layer.residual
    if residual is None or not isinstance(layer.op, Select) or layer.inputs[0].tensor not in held:
        return False
    terms = terms_of(layer, np.unique(held[layer.inputs[0].tensor])[:, None])
    kept = residual_term(np.array(MASKED), residual.mult, residual.shift) <= MASKED
    return residual.port == Port(residual.port.tensor) and bool((terms <= 0).all() and kept)


def terms_of(layer: Layer, levels: np.ndarray) -> np.ndarray:
    """Return what a layer makes of levels (..., c) that it copies, int64."""
    assert layer.post is not None
    tail = layer.post.requantize
    return levels.astype(np.int64) * tail.mult + tail.bias >> tail.shift.astype(np.int64)


def hidden_pairs(layer: Layer, held: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return of which scores a layer that adds a constant makes -32768, whatever they were: bool
    (h, w, c)."""
    levels = layer.op.accumulate(layer.inputs[0].select(held[layer.inputs[0].tensor][None]))[0]
    return terms_of(layer, levels) <= 2 * MASKED


def lowering(layer: Layer, mask: Tensor) -> np.ndarray:
    """Return which codes of a mask that a layer adds to scores make -32768 of each channel,
    whatever it was: bool (codes, channels)."""
    return terms_of(layer, mask.codebook.levels[:, None]) <= 2 * MASKED


def hiding(scores: Layer, mask: Tensor, bound: int) -> np.ndarray:
    """Return which codes of a mask make -32768 of each channel of ``scores``, whatever its sum, of
    magnitude up to ``bound``: bool (codes, channels)."""
    assert scores.post is not None
    assert scores.residual is not None
    tail, residual = scores.post.requantize, scores.residual
    reach = np.abs(tail.mult.astype(np.int64)) * bound + tail.bias >> tail.shift.astype(np.int64)
    term = residual_term(mask.codebook.levels, residual.mult, residual.shift)
    return term[:, None] + reach <= MASKED
