"""Batches: what may stream all images at once, and which words it reads."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import Scaled
from nupes.compiler.lowering import arrange, lower
from nupes.compiler.lowering.batching import least_cycles, share
from nupes.compiler.lowering.context import Context
from nupes.compiler.lowering.passes import ArrayWork, MapStream
from nupes.compiler.lowering.walks import BatchWalk, Walk
from nupes.compiler.place.layout import Region, TensorLayout
from tests.small import ARRAY, small_network

IMAGES = 3


def works(images: int = IMAGES, config: ArrayConfig = ARRAY) -> tuple[ArrayWork, ArrayWork]:
    """Return the work of a linear layer on the first of some images and, made of it, on all."""
    network = small_network()
    context = Context(network, config, arrange(network, config, images), images)
    (work,) = lower(network.layers[1], context)
    assert isinstance(work, ArrayWork)
    shared = share(work, images, config)
    assert shared is not None
    return work, shared


def test_tiles_stream_the_pixels_of_all_images() -> None:
    work, shared = works()
    assert shared.region == Region(IMAGES, 1)
    assert [len(column.passes) for column in shared.columns] == [
        len(column.passes) for column in work.columns
    ]
    assert least_cycles(shared, ARRAY) < IMAGES * least_cycles(work, ARRAY)


@pytest.mark.parametrize(
    "change",
    [
        {"block": (0, 1)},
        {"region": Region(1, 1, 0, 0, 2, 2)},
        {"region": Region(4, 5)},  # more than the accumulators hold
    ],
)
def test_other_work_runs_image_by_image(change: dict) -> None:
    work, _ = works()
    assert share(replace(work, **change), IMAGES, ARRAY) is None


def test_the_token_stage_has_the_factors_of_one_image() -> None:
    work, _ = works()
    finish = replace(work.finish, scaled=Scaled.SUM)
    assert share(replace(work, finish=finish), IMAGES, ARRAY) is None


@given(st.integers(2, 4), *[st.integers(1, 3)] * 4, st.integers(-1, 1), st.data())
def test_a_walk_begins_with_an_image(
    images: int, rows: int, columns: int, stride: int, more: int, y: int, data: st.DataObject
) -> None:
    """Its words are those of a walk over that image alone, and what it waits for holds them."""
    height, width = rows * stride + more, columns * stride
    layout = TensorLayout.whole(5, height, width, 2, 1, images)
    stacked = layout.stacked()
    assert stacked is not None
    single = Walk(stride, width, height, stride, columns, step_y=stride * width, stride_y=stride)
    walk = BatchWalk.of(single, rows, layout.image_step)
    image = data.draw(st.integers(0, images - 1))
    count = data.draw(st.integers(1, images - image)) * rows * columns
    first = image * rows * columns
    start = walk.start(stacked, 0, 1, y, 0, first)
    assert start == single.start(layout.image(image), 0, 1, y, 0, 0)
    low, high = stacked.row_run(0, 1, *walk.rows(y, first, count, 0))
    words = [
        layout.image(image + n // (rows * columns)).address(0, 1, y + r * stride, c * stride)
        for n in range(count)
        for r, c in [divmod(n % (rows * columns), columns)]
        if 0 <= y + r * stride < height
    ]
    assert all(low <= word < high for word in words)
    assert walk.words == 1


def test_streams_of_rows_step_from_image_to_image() -> None:
    _, shared = works()
    for item in shared.columns[0].passes:
        stream = item.stream
        assert isinstance(stream, MapStream)
        assert (stream.walk.step_y, stream.walk.stride_y) == (16, 0)
        assert stream.layout.height == IMAGES * 4
    assert np.prod([shared.unit, shared.region.pixels]) == IMAGES
