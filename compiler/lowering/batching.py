"""Batches: a layer's work on one image becomes work on all of them, which share every tile."""

from dataclasses import replace

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import Scaled
from nupes.compiler.lowering.passes import ArrayWork, Finish, MapStream, Pass, Payload, Work
from nupes.compiler.lowering.walks import MOST_KERNEL, BatchWalk, Walk
from nupes.compiler.place.layout import Region

__all__ = ["least_cycles", "share"]


def share(work: Work, images: int, config: ArrayConfig) -> ArrayWork | None:
    """Return work on one of several images, whose tensors hold all of them, as work on all;
    ``None`` where the array has no walk for it.

    The results of an image must be all pixels of a map in raster order, no more than the
    accumulators hold, of tiles whose weights are in the program.
    """
    if not isinstance(work, ArrayWork) or work.block is not None:
        return None
    region, finish = work.region, finish_all(work.finish, work.region)
    whole = region == Region(region.rows, region.columns) and region.rows <= MOST_KERNEL
    factors = work.statistics is not None or work.gathers is not None
    if finish is None or factors or not whole or region.pixels > config.acc_depth:
        return None
    columns = []
    for column in work.columns:
        passes = [share_pass(item, region) for item in column.passes]
        columns.append(replace(column, passes=tuple(item for item in passes if item is not None)))
        if None in passes:
            return None
    everything = replace(region, rows=images * region.rows)
    return ArrayWork(everything, tuple(columns), finish, unit=region.pixels)


def finish_all(finish: Finish, region: Region) -> Finish | None:
    """Return what follows the results of all images, if it is the same pixel by pixel."""
    target, residual = finish.target, finish.residual
    if finish.scaled != Scaled.NONE:
        return None
    if target is not None:
        layout = target.layout.stacked()
        if layout is None:
            return None
        target = replace(target, layout=layout)
    if residual is not None and residual.layout.images > 1:
        layout = residual.layout.stacked()
        if layout is None or residual.layout.pixels != region.pixels:
            return None
        residual = replace(residual, layout=layout)
    elif residual is not None and residual.layout.pixels > 1:
        return None  # a constant map, which begins again with every image
    return replace(finish, target=target, residual=residual)


def share_pass(item: Pass, region: Region) -> Pass | None:
    """Return a pass over all images; rows of one pixel row each are images already."""
    stream = item.stream
    carried = isinstance(item.stationary, Payload) and item.times is None and item.count is None
    if not carried or not isinstance(stream, MapStream) or type(stream.walk) is not Walk:
        return None
    walk, layout = stream.walk, stream.layout.stacked()
    if layout is None:
        return None
    step = stream.layout.image_step
    if region.rows == 1:
        walk = replace(walk, step_y=step, stride_y=0)
    elif walk.words == 1:
        walk = BatchWalk.of(walk, region.rows, step)
    else:
        return None
    return replace(item, stream=replace(stream, walk=walk, layout=layout))


def least_cycles(work: Work, config: ArrayConfig) -> int:
    """Return about how many cycles work takes: each tile those of its words or of its weights,
    whichever are more."""
    if not isinstance(work, ArrayWork):
        return sum(stream.walk.words for stream in work.streams) * work.target.pixels
    total = 0
    for _, count in work.blocks(config):
        for item in (item for column in work.columns for item in column.passes):
            pixels = count if item.count is None else item.count
            stream, words = pixels, 1
            if isinstance(item.stream, MapStream):
                walk = item.stream.walk
                words, stream = walk.words, pixels + item.warm_up * -(-pixels // walk.out_width)
            total += max(stream * words, item.stationary.size)
    return total
