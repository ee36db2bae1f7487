"""Masked pairs of queries and keys that the array leaves out: those of whole words of keys.

Scores, numerators and means of one head leave out the same pairs, so that none reads what another
one did not write.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from nupes.arch.config import ArrayConfig
from nupes.compiler.lowering.heads import head_of
from nupes.compiler.lowering.passes import (
    ArrayWork,
    Column,
    MapStream,
    Pass,
    Statistics,
    Stored,
    Work,
)
from nupes.compiler.place.layout import Region, blocks
from nupes.model.arithmetic import requantize
from nupes.model.layer import Layer
from nupes.model.masks import find_masks
from nupes.model.network import IntegerNetwork
from nupes.model.operators.subtract_max import MASKED_DISTANCE

__all__ = ["Plan", "leave_out", "plan_pixels", "plan_words"]


@dataclass(frozen=True)
class Plan:
    """What is computed of a block: the words of keys, in order, and of each how many pixels, from
    the first one on. The first and the last word have all."""

    words: tuple[int, ...]
    counts: tuple[int, ...]


def leave_out(
    network: IntegerNetwork, works: Sequence[tuple[Work, ...]], config: ArrayConfig
) -> list[tuple[Work, ...]]:
    """Return the work of all layers without masked pairs that nothing needs."""
    made = list(works)
    numbers = {layer.name: index for index, layer in enumerate(network.layers)}
    held = {item.tensor.name: item for item in network.constants}
    tensors = {name: item.tensor for name, item in held.items()}
    for mask in find_masks(network.layers, tensors, network.bounds, network.held_levels):
        head = head_of(network, mask.scores)
        if head is None:
            continue
        hidden = mask.hidden(held[mask.port.tensor].codes[None])[0]
        allowed = ~np.broadcast_to(hidden, mask.scores.output.shape)
        if not levels_are_zero(head.numerators, allowed):
            continue
        places = [numbers[layer.name] for layer in head.layers]
        trio = [made[place] for place in places]
        works_of_head = [work for works in trio for work in works if isinstance(work, ArrayWork)]
        if len(works_of_head) == len(trio):
            for place, some in zip(places, visible(works_of_head, allowed, config), strict=True):
                made[place] = some
    return made


def levels_are_zero(numerators: Layer, allowed: np.ndarray) -> bool:
    """Whether the numerator of a masked pair is level 0 for every key that has one."""
    assert numerators.post is not None
    if numerators.encoder is None or numerators.residual is not None:
        return False
    tail = numerators.post.requantize
    distance = np.full((1, allowed.shape[2]), MASKED_DISTANCE)
    y = requantize(distance, tail.mult, tail.bias, tail.shift)[0]
    levels = numerators.output.levels(numerators.encoder(y))
    return not levels[~allowed.all(axis=(0, 1))].any()


def visible(
    works: Sequence[ArrayWork], allowed: np.ndarray, config: ArrayConfig
) -> list[tuple[Work, ...]]:
    """Return the work of scores, numerators and means, each as one or several; ``allowed`` (h, w,
    keys) says which pairs count."""
    height, width, keys = allowed.shape
    measured = any(work.statistics is not None for work in works)
    parts = list(blocks(height * width, config.acc_depth))
    if measured or len(parts) > 1:
        pairs = allowed.reshape(-1, keys)
        plans = [plan_words(pairs[a : a + n], config.lanes) for a, n in parts]
        return [
            tuple(select(work, part, plan, config) for part, plan in zip(parts, plans, strict=True))
            for work in works
        ]
    # Backwards, from the last pixel on, a causal mask leaves the first ones of each word.
    plans = [
        plan_pixels(part.reshape(-1, keys), config.lanes) for part in (allowed, allowed[::-1, ::-1])
    ]
    backwards = sum(plans[1].counts) < sum(plans[0].counts)
    turned = [from_the_last(work) if backwards else work for work in works]
    return [(select(work, parts[0], plans[backwards], config),) for work in turned]


def plan_words(allowed: np.ndarray, lanes: int) -> Plan:
    """Return the words of ``lanes`` keys from the first to the last one that any pixel of a block
    (pixels, keys) needs, all pixels of each."""
    used = np.flatnonzero(allowed.any(axis=0)) // lanes
    words = tuple(range(used[0], used[-1] + 1))
    return Plan(words, (len(allowed),) * len(words))


def plan_pixels(allowed: np.ndarray, lanes: int) -> Plan:
    """Return the words of ``lanes`` keys that any pixel of a block (pixels, keys) needs, of each
    all pixels up to the last one that does."""
    pixels, keys = allowed.shape
    groups = (allowed[:, first : first + lanes].any(axis=1) for first in range(0, keys, lanes))
    counts = np.array([int(np.flatnonzero(group).max(initial=-1)) + 1 for group in groups])
    # Statistics know of keys that do not exist in the last results of a pixel alone.
    if keys % lanes:
        counts[-1] = pixels
    # Two, with which sums and statistics of all pixels begin and end.
    counts[np.argsort(-counts, kind="stable")[:2]] = pixels
    full, others = (
        np.flatnonzero(counts == pixels),
        np.flatnonzero((counts > 0) & (counts < pixels)),
    )
    words = np.concatenate([full[:-1], others, full[-1:]])
    return Plan(tuple(words.tolist()), tuple(counts[words].tolist()))


def from_the_last(work: ArrayWork) -> ArrayWork:
    """Return work on the pixels of a whole map in the opposite order."""
    height, width = work.region.rows, work.region.columns
    region = Region(height, width, height - 1, width - 1, -1, -1)
    return replace(work, region=region, columns=tuple(map(column_from_the_last, work.columns)))


def column_from_the_last(column: Column) -> Column:
    """Return a column whose passes stream the pixels of a whole map in the opposite order."""
    passes = []
    for item in column.passes:
        stream = cast(MapStream, item.stream)
        walk = stream.walk
        # Coordinates stay where they are, inside the map.
        walk = replace(walk, step_x=-walk.step_x, step_y=-walk.step_y, stride_x=0, stride_y=0)
        last = replace(stream, walk=walk, y=walk.height - 1, x=walk.width - 1)
        passes.append(replace(item, stream=last))
    return replace(column, passes=tuple(passes))


def select(work: ArrayWork, block: tuple[int, int], plan: Plan, config: ArrayConfig) -> ArrayWork:
    """Return the part of work that a plan has of a block."""
    columns = []
    for column in work.columns:
        kept = []
        for item in column.passes:
            word = word_of(column, item, config)
            if word in plan.words:
                place = plan.words.index(word)
                kept.append((place, replace(item, count=plan.counts[place])))
        kept.sort(key=lambda pair: pair[0])
        if kept:
            columns.append((kept[0][0], replace(column, passes=tuple(item for _, item in kept))))
    columns.sort(key=lambda pair: pair[0])
    found = replace(work, block=block, columns=tuple(column for _, column in columns))
    if work.statistics is None:
        return found
    return replace(found, statistics=words_of(work.statistics, plan, config.lanes))


def word_of(column: Column, item: Pass, config: ArrayConfig) -> int:
    """Return the word of keys of a pass: those of a matrix are its rows or its columns."""
    stationary = item.stationary
    if isinstance(stationary, Stored) and not stationary.transposed:
        return stationary.first // config.lanes
    return column.index * config.cols // config.lanes


def words_of(work: Statistics, plan: Plan, lanes: int) -> Statistics:
    """Return statistics of the words of a plan, which follow one another."""
    first, count = plan.words[0], len(plan.words)
    layout = work.layout.part(first, count)
    walk = replace(work.stream.walk, kernel_h=count)
    numbers = min(work.numbers - first * lanes, count * lanes)
    stream = replace(work.stream, walk=walk, layout=layout)
    return replace(work, stream=stream, layout=layout, numbers=numbers)
