"""Layouts: where words lie."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nupes.arch.isa import BANKS
from nupes.compiler.place.layout import PatchLayout, TensorLayout, blocks


@given(st.builds(TensorLayout.whole, *[st.integers(0, 9)], *[st.integers(1, 5)] * 5))
def test_images_of_a_batch_are_the_rows_of_a_taller_map(layout: TensorLayout) -> None:
    images = [layout.image(index) for index in range(layout.images)]
    words = [
        image.address(plane, group, *yx)
        for plane in range(layout.planes)
        for group in range(layout.groups)
        for image in images
        for yx in np.ndindex(layout.height, layout.width)
    ]
    assert words == sorted(set(words))
    assert (words[0], words[-1]) == (layout.base, layout.base + layout.words - 1)
    stacked = layout.stacked()
    if layout.images == 1:
        assert stacked is None
        assert images == [layout]
        return
    assert stacked is not None
    assert stacked.words == layout.words
    for index, image in enumerate(images):
        assert stacked.address(0, 0, index * layout.height, 0) == image.base
    part = replace(layout, height=layout.height + 1)
    assert part.stacked() is None


@given(st.builds(TensorLayout.whole, *[st.integers(0, 9)], *[st.integers(1, 5)] * 4))
def test_planes_do_not_overlap_and_alternate_between_the_banks(layout: TensorLayout) -> None:
    words = [
        [layout.address(plane, group, *yx) for yx in np.ndindex(layout.height, layout.width)]
        for plane in range(layout.planes)
        for group in range(layout.groups)
    ]
    everything = np.concatenate(words)
    assert len(set(everything)) == len(everything)
    assert (everything.min(), everything.max()) == (layout.base, layout.base + layout.words - 1)
    if layout.planes > 1:
        assert layout.plane_step % BANKS == 1


@given(st.builds(TensorLayout.whole, *[st.integers(0, 9)], *[st.integers(1, 5)] * 4), st.data())
def test_a_part_is_a_range_of_channel_groups(layout: TensorLayout, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, layout.groups - 1))
    part = layout.part(first, data.draw(st.integers(1, layout.groups - first)))
    for plane, group in np.ndindex(part.planes, part.groups):
        assert part.address(plane, group, 1, 2) == layout.address(plane, first + group, 1, 2)
    assert part.base + part.words <= layout.base + layout.words


@given(
    st.integers(0, 9), st.integers(1, 20), *[st.integers(1, 4)] * 2, *[st.integers(1, 6)] * 2,
    st.booleans(),
)  # fmt: skip
def test_blocks_of_patches_fill_their_memory_and_begin_again(
    base: int, pixels: int, words: int, planes: int, block: int, most: int, joined: bool
) -> None:
    layout = PatchLayout(base, pixels, words, planes, block, min(most * block, pixels), joined)
    place = base
    for first, count in blocks(pixels, block):
        place = base if first % layout.held == 0 else place
        for run in range(words * planes):
            plane = run % planes
            if joined and plane % 2:
                # The word between two planes that are joined, if it is needed.
                place += 1 - count % 2
                lower = layout.address(plane - 1, run // planes, first)
                assert place - lower == layout.lower(first)
                assert (place - lower) % BANKS == 1
            assert layout.address(plane, run // planes, first) == place
            place += count
        assert place <= base + layout.words
        assert first or place == base + layout.words or layout.held > block
